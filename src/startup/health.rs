//! Whether this node hears of a leader of the metadata: without one it is not ready. A node that hears nobody sends its
//! clients away, again and again: a client that is connected to no other node would ask this one for ever who leads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::types::NodeId;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::admin::Admin;
use crate::controller::Controller;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Elections are over sooner.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two dismissals of clients: the first pause, doubled up to the last. Clients that insist on this node, or have
/// no other, come back each time.
const DISMISS_AFTER_FIRST: Duration = Duration::from_secs(5);
const DISMISS_AFTER_LAST: Duration = Duration::from_secs(60);

/// When a leader that lives was known last, and whether clients are better off elsewhere.
struct Sight {
    last: Instant,
    dismissal: Instant,
    pause: Duration,
}

impl Sight {
    fn new(now: Instant) -> Self {
        Self { last: now, dismissal: now, pause: DISMISS_AFTER_FIRST }
    }

    /// Whether the metadata count as led.
    fn look(&mut self, is_led: bool, now: Instant) -> bool {
        if is_led {
            self.last = now;
        }
        now.saturating_duration_since(self.last) <= PATIENCE
    }

    /// Whether clients are to be sent away now. `is_cut_off`: the metadata are not led, and most nodes are not heard of.
    fn dismisses(&mut self, is_cut_off: bool, now: Instant) -> bool {
        if !is_cut_off {
            (self.dismissal, self.pause) = (now, DISMISS_AFTER_FIRST);
            return false;
        }
        let is_due = self.dismissal <= now;
        if is_due {
            self.dismissal = now + self.pause;
            self.pause = (self.pause * 2).min(DISMISS_AFTER_LAST);
        }
        is_due
    }
}

/// Tells the admin port, for as long as there is a controller. What it gives changes when clients are to go elsewhere.
pub(super) fn watch(
    admin: &Arc<Admin>,
    controller: &Arc<Controller>,
    is_alive: Arc<dyn Fn(NodeId) -> bool + Send + Sync>,
) -> watch::Receiver<()> {
    let (admin, controller) = (Arc::clone(admin), Arc::downgrade(controller));
    let (dismiss, dismissals) = watch::channel(());
    tokio::spawn(async move {
        let mut sight = Sight::new(Instant::now());
        let mut interval = tokio::time::interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let Some(controller) = controller.upgrade() else { return };
            let now = Instant::now();
            let is_led = sight.look(controller.leader().is_some_and(|leader| is_alive(leader)), now);
            match (admin.led.swap(is_led, Ordering::Relaxed), is_led) {
                (true, false) => {
                    warn!(
                        "no leader of the metadata is known: this node is not ready until a majority of its voters is"
                    );
                }
                (false, true) => info!("the metadata are led again"),
                _ => {}
            }
            if sight.dismisses(!is_led && hears_few(&controller, &*is_alive), now) {
                info!("most nodes are not heard of: clients are sent to others, by closing their connections");
                dismiss.send_replace(());
            }
        }
    });
    dismissals
}

/// No more than half of the nodes live, as far as this one knows, which is one of them.
fn hears_few(controller: &Controller, is_alive: &dyn Fn(NodeId) -> bool) -> bool {
    controller.look(|now| !now.image.most_nodes_live(is_alive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_is_waited_out() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut sight = Sight::new(start);
        assert!(sight.look(false, at(5_000)));
        assert!(!sight.look(false, at(5_001)));
        assert!(sight.look(true, at(6_000)));
        assert!(sight.look(false, at(11_000)) && !sight.look(false, at(11_001)));
    }

    #[test]
    fn clients_are_dismissed_at_once_and_then_ever_more_seldom() {
        let start = Instant::now();
        let mut sight = Sight::new(start);
        let mut dismissed_at = |from: u64, to: u64, is_cut_off| -> Vec<u64> {
            (from..to).filter(|s| sight.dismisses(is_cut_off, start + Duration::from_secs(*s))).collect()
        };
        assert_eq!(dismissed_at(0, 10, false), [0; 0]);
        assert_eq!(dismissed_at(10, 220, true), [10, 15, 25, 45, 85, 145, 205]);
        assert_eq!(dismissed_at(220, 230, false), [0; 0]);
        assert_eq!(dismissed_at(230, 240, true), [230, 235]);
    }
}
