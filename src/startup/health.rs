//! Whether this node hears of a leader of the metadata: without one it is not ready.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::types::NodeId;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::admin::Admin;
use crate::controller::Controller;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Elections are over sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a leader that lives was known last.
struct Sight {
    last: Instant,
}

impl Sight {
    /// Whether the metadata count as led.
    fn look(&mut self, is_led: bool, now: Instant) -> bool {
        if is_led {
            self.last = now;
        }
        now.saturating_duration_since(self.last) <= PATIENCE
    }
}

/// Tells the admin port, for as long as there is a controller.
pub(super) fn watch(
    admin: &Arc<Admin>,
    controller: &Arc<Controller>,
    is_alive: Arc<dyn Fn(NodeId) -> bool + Send + Sync>,
) {
    let (admin, controller) = (Arc::clone(admin), Arc::downgrade(controller));
    tokio::spawn(async move {
        let mut sight = Sight { last: Instant::now() };
        let mut interval = tokio::time::interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let Some(leader) = controller.upgrade().map(|controller| controller.leader()) else { return };
            let is_led = sight.look(leader.is_some_and(|leader| is_alive(leader)), Instant::now());
            match (admin.led.swap(is_led, Ordering::Relaxed), is_led) {
                (true, false) => {
                    warn!(
                        "no leader of the metadata is known: this node is not ready until a majority of its voters is"
                    );
                }
                (false, true) => info!("the metadata are led again"),
                _ => {}
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_is_waited_out() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut sight = Sight { last: start };
        assert!(sight.look(false, at(5_000)));
        assert!(!sight.look(false, at(5_001)));
        assert!(sight.look(true, at(6_000)));
        assert!(sight.look(false, at(11_000)) && !sight.look(false, at(11_001)));
    }
}
