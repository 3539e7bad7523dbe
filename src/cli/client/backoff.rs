//! Trying again: how long, and how often.

use std::time::Duration;

use tokio::time::Instant;

use super::errors::ClientError;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A row of tries with growing pauses, up to a deadline.
pub struct Retry {
    deadline: Instant,
    pause: Duration,
}

impl Retry {
    pub fn new(now: Instant, limit: Duration) -> Self {
        Self { deadline: now + limit, pause: PAUSE_FIRST }
    }

    /// Waits before the next try; hands the error back when it is final or the time is over.
    pub async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        if error.is_retriable() && self.pause().await { Ok(()) } else { Err(error) }
    }

    /// Waits before the next try; false when the time is over.
    pub async fn pause(&mut self) -> bool {
        match self.next_pause(Instant::now()) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    /// How long to wait before the next try; None when the time is over.
    pub fn next_pause(&mut self, now: Instant) -> Option<Duration> {
        let pause = self.pause;
        if now + pause > self.deadline {
            return None;
        }
        self.pause = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_at_the_deadline() {
        let start = Instant::now();
        let mut retry = Retry::new(start, Duration::from_secs(10));
        let pauses: Vec<_> = (0..7).map(|_| retry.next_pause(start).map(|p| p.as_millis())).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000].map(Some));
        assert_eq!(retry.next_pause(start + Duration::from_millis(9_500)), None);
    }

    #[tokio::test]
    async fn a_final_error_ends_the_row() {
        let mut retry = Retry::new(Instant::now(), Duration::from_secs(1));
        let error = ClientError::of_code(29, None).expect("topic authorization failed");
        assert!(retry.after(error).await.is_err());
    }
}
