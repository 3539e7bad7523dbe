//! Words that others can make this node say as often as they like: they are said now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two times that the same is said.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What is said at most once in ten seconds, and how often it was not.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// How often it was left out since the last time; `None`: it is left out now, too.
    pub fn may_say(&self, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *said;
        if last.is_some_and(|last| now.saturating_duration_since(last) < SAY_EVERY) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_too_often_is_counted() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let said: Vec<_> = [0, 1, 9_999, 10_000, 10_001, 20_000, 40_000]
            .map(|ms| seldom.may_say(start + Duration::from_millis(ms)))
            .to_vec();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1), Some(0)]);
    }
}
