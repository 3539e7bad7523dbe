//! Names of topics that were deleted a moment ago. They are not created on demand: a client that looks whether its topic
//! is gone must not find it again, and one that has not heard of it must not bring it back at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::controller::Image;

/// How long a deletion is remembered.
const DELETED_FOR: Duration = Duration::from_secs(1);
/// Names that are remembered at a time.
const DELETED_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct Deleted {
    names: Mutex<HashMap<String, Instant>>,
}

impl Deleted {
    fn names(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().get(name).is_some_and(|at| at.elapsed() < DELETED_FOR)
    }

    /// Notes the topics of one image that another lacks.
    pub fn note(&self, before: &Image, after: &Image) {
        let mut gone = before.topics().filter(|topic| after.topic(topic.id).is_none()).peekable();
        if gone.peek().is_none() {
            return;
        }
        let mut names = self.names();
        names.retain(|_, at| at.elapsed() < DELETED_FOR);
        let room = DELETED_MAX.saturating_sub(names.len());
        names.extend(gone.take(room).map(|topic| (topic.name.to_string(), Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_core::controller::{Command, Topic};
    use millstream_core::types::{TopicId, TopicName};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn deleted_names_are_remembered_in_a_bounded_number() {
        let mut before = Image::default();
        for n in 0..=DELETED_MAX {
            before.apply(&Command::CreateTopic(Topic {
                id: TopicId(Uuid::from_u128(n as u128)),
                name: TopicName::new(&format!("t{n}")).expect("a name"),
                partitions: Vec::new(),
                configs: Arc::default(),
            }));
        }
        let mut after = before.clone();
        after.apply(&Command::DeleteTopic { id: TopicId(Uuid::from_u128(7)) });
        let deleted = Deleted::default();
        deleted.note(&before, &after);
        assert!(deleted.has("t7") && !deleted.has("t8") && !deleted.has("other"));
        deleted.note(&after, &Image::default());
        assert_eq!(deleted.names().len(), DELETED_MAX);
    }
}
