//! What group coordinators have done elsewhere.

use std::sync::{Arc, Weak};

use millstream_core::coordinator::group::{Command, Effect, Shard};

use super::patterns;
use super::registry::Groups;
use super::share_keepers::ShareKeepers;
use super::turn::Effects;

pub(super) fn effects(groups: Weak<Groups>, keepers: Arc<ShareKeepers>) -> Effects<Shard> {
    Arc::new(move |origin, effects| {
        for effect in effects {
            let (groups, keepers, origin) = (groups.clone(), keepers.clone(), origin.clone());
            // A node that stops has nothing done any more.
            drop(tokio::spawn(async move {
                match effect {
                    Effect::ResolvePatterns { group, patterns, topics } => {
                        if let Some(groups) = groups.upgrade() {
                            patterns::answer(&groups, &origin, group, patterns, topics).await;
                        }
                    }
                    Effect::InitializeShares(asked) => {
                        let told = keepers.initialize(asked).await.told();
                        if let Some(groups) = groups.upgrade().filter(|_| origin.is_current()) {
                            groups.tell(origin.partition, Command::Share(told)).await;
                        }
                    }
                }
            }));
        }
    })
}
