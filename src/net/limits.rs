//! How many connections there may be: in total, by listener, by address, and a second (Kafka `ConnectionQuotas`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Limits of connections. May change while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `max.connections`, default 2147483647. Full: nobody is accepted until somebody leaves.
    pub total: usize,
    /// `listener.name.<name>.max.connections`, by upper-case name. As `total`, for one listener.
    pub by_listener: HashMap<String, usize>,
    /// `listener.name.<name>.max.connection.creation.rate`, by upper-case name. As `per_second`, for one listener.
    pub per_second_by_listener: HashMap<String, usize>,
    /// `max.connections.per.ip`, default 2147483647. Full: a further connection from the address is closed.
    pub per_ip: usize,
    /// `max.connections.per.ip.overrides`.
    pub overrides: HashMap<IpAddr, usize>,
    /// `max.connection.creation.rate`, connections a second, default 2147483647. Above: the next waits its turn.
    pub per_second: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let none = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
        Self {
            total: none,
            by_listener: HashMap::new(),
            per_second_by_listener: HashMap::new(),
            per_ip: none,
            overrides: HashMap::new(),
            per_second: none,
        }
    }
}

/// Changes the limits of a running front end. Cheap to share.
#[derive(Clone)]
pub struct LimitsHandle(pub(super) Arc<Counts>);

impl LimitsHandle {
    /// New limits, for connections to come: nobody is closed.
    pub fn set(&self, limits: ConnectionLimits) {
        self.0.set_limits(limits);
    }
}

/// Counts connections against the limits.
pub(super) struct Counts {
    /// A leaf: never held over an await.
    state: Mutex<State>,
    /// A place was given up, or the limits changed.
    changed: Notify,
}

struct State {
    limits: ConnectionLimits,
    /// What there may be whatever the limits say.
    ceiling: usize,
    total: usize,
    by_listener: HashMap<String, OfListener>,
    by_ip: HashMap<IpAddr, usize>,
    second: Second,
}

/// The connections of one listener.
struct OfListener {
    count: usize,
    second: Second,
}

/// Connections accepted in the second that began then.
struct Second {
    began: Instant,
    count: usize,
}

impl Second {
    fn new(began: Instant) -> Self {
        Self { began, count: 0 }
    }

    /// How long the next connection has to wait for its turn.
    fn wait(&mut self, now: Instant, per_second: usize) -> Option<Duration> {
        let age = now.duration_since(self.began);
        if age >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        (self.count >= per_second).then(|| Duration::from_secs(1).saturating_sub(age))
    }
}

/// A place among all connections and those of one listener. Given up when dropped.
pub(super) struct Place {
    counts: Arc<Counts>,
    listener: String,
}

/// A place among the connections of one address. Given up when dropped.
pub(super) struct IpPlace {
    counts: Arc<Counts>,
    ip: IpAddr,
}

/// What stands between a connection and its place.
enum Obstacle {
    /// Somebody must leave.
    Full,
    /// The second must end.
    Rate(Duration),
}

impl Counts {
    /// `ceiling`: connections that there may be whatever the limits say.
    pub(super) fn new(limits: ConnectionLimits, ceiling: usize) -> Arc<Self> {
        let second = Second::new(Instant::now());
        let state = State { limits, ceiling, total: 0, by_listener: HashMap::new(), by_ip: HashMap::new(), second };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    pub(super) fn set_limits(&self, limits: ConnectionLimits) {
        self.lock().limits = limits;
        self.changed.notify_waiters();
    }

    /// Whether a connection has to wait until another one leaves.
    pub(super) fn is_full(&self, listener: &str) -> bool {
        self.lock().is_full(listener)
    }

    /// Waits for a free place in the total and among the listener's connections.
    pub(super) async fn place(self: &Arc<Self>, listener: &str) -> Place {
        loop {
            let changed = self.changed.notified();
            let obstacle = self.lock().try_place(listener, Instant::now());
            match obstacle {
                Ok(()) => return Place { counts: Arc::clone(self), listener: listener.to_owned() },
                Err(Obstacle::Full) => changed.await,
                Err(Obstacle::Rate(wait)) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// A place among the connections of an address, unless they are as many as allowed.
    pub(super) fn try_ip_place(self: &Arc<Self>, ip: IpAddr) -> Option<IpPlace> {
        let ip = ip.to_canonical();
        let mut state = self.lock();
        let limit = state.limits.overrides.get(&ip).copied().unwrap_or(state.limits.per_ip);
        let count = state.by_ip.entry(ip).or_default();
        if *count < limit {
            *count += 1;
            return Some(IpPlace { counts: Arc::clone(self), ip });
        }
        if *count == 0 {
            state.by_ip.remove(&ip);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self, listener: &str) -> bool {
        let count = self.by_listener.get(listener).map_or(0, |of| of.count);
        self.total >= self.limits.total.min(self.ceiling) || count >= limit_of(&self.limits.by_listener, listener)
    }

    fn try_place(&mut self, listener: &str, now: Instant) -> Result<(), Obstacle> {
        if self.is_full(listener) {
            return Err(Obstacle::Full);
        }
        let none = || OfListener { count: 0, second: Second::new(now) };
        let of_listener = self.by_listener.entry(listener.to_owned()).or_insert_with(none);
        let per_second = limit_of(&self.limits.per_second_by_listener, listener);
        let waits = [self.second.wait(now, self.limits.per_second), of_listener.second.wait(now, per_second)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(Obstacle::Rate(wait));
        }
        self.total += 1;
        self.second.count += 1;
        of_listener.count += 1;
        of_listener.second.count += 1;
        Ok(())
    }
}

fn limit_of(limits: &HashMap<String, usize>, listener: &str) -> usize {
    limits.get(listener).copied().unwrap_or(usize::MAX)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.counts.lock();
        state.total = state.total.saturating_sub(1);
        if let Some(of_listener) = state.by_listener.get_mut(&self.listener) {
            of_listener.count = of_listener.count.saturating_sub(1);
        }
        drop(state);
        self.counts.changed.notify_waiters();
    }
}

impl Drop for IpPlace {
    fn drop(&mut self) {
        let mut state = self.counts.lock();
        match state.by_ip.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(state.by_ip.remove(&self.ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn an_address_has_its_own_count_and_its_own_limit() {
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap()];
        let overrides = HashMap::from([("10.0.0.2".parse().unwrap(), 1)]);
        let counts = Counts::new(ConnectionLimits { per_ip: 2, overrides, ..ConnectionLimits::default() }, 100);
        let first = counts.try_ip_place(a).unwrap();
        let second = counts.try_ip_place(a).unwrap();
        assert!(counts.try_ip_place(a).is_none());
        let other = counts.try_ip_place(b).unwrap();
        assert!(counts.try_ip_place("10.0.0.2".parse().unwrap()).is_none());
        drop((first, other));
        assert!(counts.try_ip_place(a).is_some() && counts.try_ip_place(b).is_some());
        drop(second);
        assert!(counts.lock().by_ip.is_empty(), "an address without connections is forgotten");
    }

    #[test]
    fn who_finds_no_place_waits_for_one() {
        let by_listener = HashMap::from([("INSIDE".to_owned(), 1)]);
        let counts = Counts::new(ConnectionLimits { total: 2, by_listener, ..ConnectionLimits::default() }, 3);
        let mut cx = Context::from_waker(Waker::noop());
        let mut try_place = |listener: &str| match pin!(counts.place(listener)).poll(&mut cx) {
            std::task::Poll::Ready(place) => Some(place),
            std::task::Poll::Pending => None,
        };
        let inside = try_place("INSIDE").unwrap();
        assert!(try_place("INSIDE").is_none(), "the listener is full");
        let outside = try_place("OUTSIDE").unwrap();
        drop(inside);
        let inside = try_place("INSIDE").unwrap();
        assert!(try_place("OUTSIDE").is_none(), "the node is full");
        counts.set_limits(ConnectionLimits { total: 3, ..ConnectionLimits::default() });
        let third = try_place("OUTSIDE");
        assert!(third.is_some(), "the limit was raised");
        counts.set_limits(ConnectionLimits::default());
        assert!(try_place("OUTSIDE").is_none(), "there are no descriptors for more");
        drop((inside, outside, third));
    }

    #[test]
    fn the_rate_counts_by_the_second() {
        let counts = Counts::new(ConnectionLimits { per_second: 2, ..ConnectionLimits::default() }, 100);
        let mut state = counts.lock();
        let start = state.second.began;
        let mut try_at = |ms| state.try_place("A", start + Duration::from_millis(ms)).is_ok();
        assert!(try_at(0) && try_at(1) && !try_at(2) && !try_at(999));
        assert!(try_at(1_000) && try_at(1_001) && !try_at(1_002));
    }

    #[test]
    fn a_listener_may_have_a_rate_of_its_own() {
        let per_second_by_listener = HashMap::from([("SLOW".to_owned(), 1)]);
        let counts = Counts::new(ConnectionLimits { per_second_by_listener, per_second: 3, ..Default::default() }, 9);
        let mut state = counts.lock();
        let start = state.second.began;
        let mut try_at = |listener: &str, ms| state.try_place(listener, start + Duration::from_millis(ms)).is_ok();
        assert!(try_at("SLOW", 0) && !try_at("SLOW", 1));
        assert!(try_at("FAST", 2) && try_at("FAST", 3) && !try_at("FAST", 4), "all of them together");
        assert!(try_at("SLOW", 1_000) && !try_at("SLOW", 1_001));
    }
}
