//! The audit log: who got in and who did not, what was refused, what administrators changed. Its lines have the target
//! `millstream::audit`, and texts of clients stand in quotes, escaped.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Request, Session};
use crate::protocol::Key;

/// Lines of one kind that go to the log in a second, where strangers can cause them: one request may be denied a hundred
/// thousand times. All are counted.
const LINES_PER_SECOND: u64 = 100;
static DENIALS: Lines = Lines::new();
static FAILED_LOGINS: Lines = Lines::new();

/// Whose request it is.
#[derive(Clone)]
pub struct Who {
    /// `None`: a node of this cluster, which asks in its own name.
    principal: Option<Arc<str>>,
    host: IpAddr,
    api: Key,
}

impl Who {
    pub fn of(session: &Session, api: Key) -> Self {
        let principal = (!session.is_node).then(|| Arc::clone(&session.principal));
        Self { principal, host: session.peer.ip().to_canonical(), api }
    }

    /// It asked for what it may not do.
    pub(super) fn denied(&self, operation: &str, resource: &str, name: &str) {
        let (Some(principal), Some(left_out)) = (&self.principal, DENIALS.line(Instant::now())) else { return };
        tell_left_out(left_out, "denials");
        let (host, api) = (self.host, self.api);
        tracing::info!(target: "millstream::audit", ?principal, %host, ?api, operation, resource, ?name, "denied");
    }
}

impl Request {
    /// What its client has just changed, and of what.
    pub(super) fn changed(&self, change: &'static str, of: &str) {
        let Who { principal: Some(principal), host, api } = &self.who else { return };
        tracing::info!(target: "millstream::audit", ?principal, %host, ?api, change, ?of, "changed");
    }
}

/// Somebody got in.
pub fn logged_in(session: &Session, mechanism: &str) {
    let (principal, host, listener) = (&session.principal, session.peer.ip().to_canonical(), &session.listener.name);
    tracing::info!(target: "millstream::audit", ?principal, %host, listener, mechanism, "logged in");
}

/// Somebody did not.
pub(super) fn login_failed(session: &Session, mechanism: &str) {
    let Some(left_out) = FAILED_LOGINS.line(Instant::now()) else { return };
    tell_left_out(left_out, "failed logins");
    let (host, listener) = (session.peer.ip().to_canonical(), &session.listener.name);
    tracing::info!(target: "millstream::audit", %host, listener, mechanism, "login failed");
}

fn tell_left_out(left_out: u64, of: &'static str) {
    if left_out > 0 {
        tracing::info!(target: "millstream::audit", left_out, of, "more came than is told");
    }
}

/// Lines of a log that are bounded.
struct Lines(Mutex<Second>);

struct Second {
    since: Option<Instant>,
    told: u64,
    left_out: u64,
}

impl Lines {
    const fn new() -> Self {
        Self(Mutex::new(Second { since: None, told: 0, left_out: 0 }))
    }

    /// Whether there is room for a line, and how many there was none for before it.
    fn line(&self, now: Instant) -> Option<u64> {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if of.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (of.since, of.told) = (Some(now), 0);
        }
        if of.told >= LINES_PER_SECOND {
            of.left_out += 1;
            return None;
        }
        of.told += 1;
        Some(std::mem::take(&mut of.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_part_and_how_much_more_there_was() {
        let (lines, began) = (Lines::new(), Instant::now());
        let told: Vec<_> = (0..LINES_PER_SECOND + 7).map(|_| lines.line(began)).collect();
        assert_eq!(told.iter().flatten().count() as u64, LINES_PER_SECOND);
        let later = began + Duration::from_secs(1);
        assert_eq!((lines.line(later), lines.line(later)), (Some(7), Some(0)));
    }
}
