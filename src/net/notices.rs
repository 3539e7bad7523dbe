//! What is wrong with a client is said once, not at each of its attempts: a client that retries would fill the log.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Remembered notices. Full: all are forgotten, and each may be said once more.
const REMEMBERED_MAX: usize = 4_096;

/// Remembers what was said about which address.
#[derive(Default)]
pub(super) struct Notices {
    /// A leaf: never held over an await.
    said: Mutex<HashSet<(IpAddr, &'static str, i32)>>,
}

impl Notices {
    /// Whether this is the first time. `what` and `number` say what kind of thing it is.
    pub(super) fn is_first(&self, ip: IpAddr, what: &'static str, number: i32) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED_MAX {
            said.clear();
        }
        said.insert((ip, what, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_memory_is_bounded() {
        let notices = Notices::default();
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(notices.is_first(ip, "frame", 0));
        assert!(!notices.is_first(ip, "frame", 0));
        assert!(notices.is_first(ip, "frame", 1));
        for number in 0..100_000 {
            notices.is_first(ip, "many", number);
        }
        assert!(notices.said.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
