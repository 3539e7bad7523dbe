//! How fast work in the background may read and write (Kafka `Throttler`).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A shorter sleep is not worth the waking.
const SLEEP_MIN: Duration = Duration::from_millis(20);

/// Holds one thread back so that on the whole it does not pass more bytes a second than allowed.
pub(super) struct Throttle {
    bytes_per_second_max: f64,
    began: Instant,
    passed: Cell<u64>,
    cancelled: Arc<AtomicBool>,
}

impl Throttle {
    /// `cancelled`: set by others when the work is not wanted any more.
    pub(super) fn new(bytes_per_second_max: f64, cancelled: Arc<AtomicBool>) -> Self {
        Self { bytes_per_second_max, began: Instant::now(), passed: Cell::new(0), cancelled }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Bytes were read or written: sleeps when they came too early.
    pub(super) fn pass(&self, bytes: usize) {
        self.passed.set(self.passed.get() + bytes as u64);
        let early = early(self.passed.get(), self.bytes_per_second_max, self.began.elapsed());
        if early >= SLEEP_MIN {
            std::thread::sleep(early);
        }
    }
}

/// By how much `passed` bytes are ahead of their time.
fn early(passed: u64, bytes_per_second_max: f64, elapsed: Duration) -> Duration {
    // Infinite and absurd times are as good as an hour: whoever sets such a limit wants none of it.
    let due = Duration::try_from_secs_f64(passed as f64 / bytes_per_second_max);
    due.unwrap_or(Duration::from_secs(3_600)).saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_time_that_the_limit_gives_them() {
        assert_eq!(early(1 << 40, f64::MAX, Duration::ZERO), Duration::ZERO);
        assert_eq!(early(3_000, 1_000.0, Duration::from_secs(1)), Duration::from_secs(2));
        assert_eq!(early(3_000, 1_000.0, Duration::from_secs(4)), Duration::ZERO);
        assert_eq!(early(1, 0.0, Duration::ZERO), Duration::from_secs(3_600));
        assert_eq!(early(1, -1.0, Duration::ZERO), Duration::from_secs(3_600));
    }
}
