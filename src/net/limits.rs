//! How many connections there may be: in total, by listener, and by address (Kafka `ConnectionQuotas`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `max.connections`, default without limit. Full: nobody is accepted until somebody leaves.
    pub total: usize,
    /// `listener.name.<name>.max.connections`, by upper-case name. As `total`, for one listener.
    pub by_listener: HashMap<String, usize>,
    /// `max.connections.per.ip`, default without limit. Full: a further connection from the address is closed.
    pub per_ip: usize,
    /// `max.connections.per.ip.overrides`.
    pub overrides: HashMap<IpAddr, usize>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let none = Semaphore::MAX_PERMITS;
        Self { total: none, by_listener: HashMap::new(), per_ip: none, overrides: HashMap::new() }
    }
}

/// Counts connections against the limits.
pub(super) struct Counts {
    limits: ConnectionLimits,
    total: Arc<Semaphore>,
    /// Connections by address. A leaf: never held over an await.
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one accepted connection among those of its address. Given up when dropped.
pub(super) struct IpPlace {
    counts: Arc<Counts>,
    ip: IpAddr,
}

impl Counts {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        let total = Arc::new(Semaphore::new(limits.total.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { limits, total, by_ip: Mutex::new(HashMap::new()) })
    }

    /// The places of a listener: it accepts when it has one of these and one of the total.
    pub(super) fn of_listener(&self, name: &str) -> Arc<Semaphore> {
        let limit = self.limits.by_listener.get(name).copied().unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))
    }

    /// Waits for a free place in the total.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.total).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// A place among the connections of an address, unless they are as many as allowed.
    pub(super) fn try_ip_place(self: &Arc<Self>, ip: IpAddr) -> Option<IpPlace> {
        let ip = ip.to_canonical();
        let limit = self.limits.overrides.get(&ip).copied().unwrap_or(self.limits.per_ip);
        let mut by_ip = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_ip.get(&ip).copied().unwrap_or_default();
        if count >= limit {
            return None;
        }
        by_ip.insert(ip, count + 1);
        Some(IpPlace { counts: Arc::clone(self), ip })
    }
}

impl Drop for IpPlace {
    fn drop(&mut self) {
        let mut by_ip = self.counts.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        match by_ip.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(by_ip.remove(&self.ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_count_and_its_own_limit() {
        let [a, b]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap()];
        let overrides = HashMap::from([("10.0.0.2".parse().unwrap(), 1)]);
        let counts = Counts::new(ConnectionLimits { per_ip: 2, overrides, ..ConnectionLimits::default() });
        let first = counts.try_ip_place(a).unwrap();
        let second = counts.try_ip_place(a).unwrap();
        assert!(counts.try_ip_place(a).is_none());
        let other = counts.try_ip_place(b).unwrap();
        assert!(counts.try_ip_place("10.0.0.2".parse().unwrap()).is_none());
        drop((first, other));
        assert!(counts.try_ip_place(a).is_some() && counts.try_ip_place(b).is_some());
        drop(second);
        assert!(counts.by_ip.lock().unwrap().is_empty(), "an address without connections is forgotten");
    }
}
