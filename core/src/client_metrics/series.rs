//! What clients pushed, as Prometheus reads it: a series for each metric and each set of labels of each client.
//!
//! Only what was asked for is kept. Counters that clients tell as differences are added up; a histogram becomes the
//! families `_count`, `_sum` and `_bucket`, each a family as any other, so that no name of one client can stand in the
//! way of another's.

use std::collections::BTreeMap;
use std::fmt::Write;

use uuid::Uuid;

use super::labels::{self, family, number};
use super::otlp::{self, Event, Malformed, Meaning, Measured, Pair, Value};
use super::{EXPIRY_MS, SWEEP_EVERY_MS, Wanted, expiry_ms};
use crate::types::Timestamp;

/// Series of all clients. Those that come when there are so many are dropped until others go.
pub const SERIES_MAX: usize = 20_000;
/// Series of one client.
pub const SERIES_PER_CLIENT_MAX: usize = 1_000;
/// Says who a client is, in labels that would be too many for each of its series; always 1.
const INFO: &str = "millstream_client_info";

/// Who pushes.
#[derive(Clone, Copy, Debug)]
pub struct WhoPushed<'a> {
    pub instance: Uuid,
    /// As Kafka prints it.
    pub instance_id: &'a str,
    pub client_id: &'a str,
    pub software_name: &'a str,
    pub software_version: &'a str,
    pub address: &'a str,
    /// It will not push again.
    pub is_last: bool,
}

/// What became of the points of a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub points: u64,
    /// Nobody asked for them.
    pub unasked: u64,
    /// There are too many series.
    pub too_many: u64,
    /// Names or labels that cannot be shown, or are too long or too many.
    pub unfit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    kind: Kind,
    value: f64,
}

type Families = BTreeMap<String, BTreeMap<String, Shown>>;

#[derive(Debug)]
struct Pushed {
    /// Labels that every series of it has.
    labels: String,
    families: Families,
    count: usize,
    expires: Timestamp,
}

/// All that is shown of clients.
#[derive(Debug, Default)]
pub struct Series {
    clients: BTreeMap<Uuid, Pushed>,
    count: usize,
    next_sweep: Timestamp,
}

impl Series {
    /// Takes all of a push, or nothing when it cannot be read.
    pub fn take(
        &mut self,
        now: Timestamp,
        who: &WhoPushed<'_>,
        wanted: &Wanted,
        bytes: &[u8],
    ) -> Result<Taken, Malformed> {
        otlp::read(bytes, &mut |_| {})?;
        if now >= self.next_sweep {
            self.sweep(now);
        }
        let mut client = self.clients.remove(&who.instance).unwrap_or_else(|| Pushed::of(who));
        let others = self.count - client.count;
        let mut room = Room { left: SERIES_PER_CLIENT_MAX.min(SERIES_MAX - others), taken: Taken::default() };
        client.families.remove(INFO);
        client.count = client.families.values().map(BTreeMap::len).sum();
        let mut resource = Vec::new();
        otlp::read(bytes, &mut |event| match event {
            Event::Resource(attributes) => resource = attributes,
            Event::Point { name, .. } if !wanted.asks_for(name) => room.taken.unasked += 1,
            Event::Point { name, meaning, attributes, measured } => {
                client.take(&mut room, name, meaning, &attributes, &measured);
            }
        })?;
        if client.count > 0 {
            client.tell_who(who, &resource, &mut room);
            let stays_ms = if who.is_last { EXPIRY_MS } else { expiry_ms(wanted.interval_ms) };
            client.expires = now.plus_ms(stays_ms);
            self.count = others + client.count;
            self.clients.insert(who.instance, client);
        } else {
            self.count = others;
        }
        Ok(room.taken)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Appends all of it.
    pub fn render(&mut self, now: Timestamp, text: &mut String) {
        self.sweep(now);
        let mut families: BTreeMap<&str, Vec<(&str, &str, Shown)>> = BTreeMap::new();
        for client in self.clients.values() {
            for (family, series) in &client.families {
                let shown = series.iter().map(|(labels, shown)| (client.labels.as_str(), labels.as_str(), *shown));
                families.entry(family).or_default().extend(shown);
            }
        }
        for (family, series) in families {
            let kind = match series.iter().all(|(_, _, shown)| shown.kind == Kind::Counter) {
                true => "counter",
                false if series.iter().all(|(_, _, shown)| shown.kind == Kind::Gauge) => "gauge",
                // Clients do not agree.
                false => "untyped",
            };
            writeln!(text, "# TYPE {family} {kind}").expect("a string takes all");
            for (client, labels, shown) in series {
                let comma = if labels.is_empty() { "" } else { "," };
                let value = number(shown.value);
                writeln!(text, "{family}{{{client}{comma}{labels}}} {value}").expect("a string takes all");
            }
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        self.next_sweep = now.plus_ms(SWEEP_EVERY_MS);
        self.clients.retain(|_, client| client.expires > now);
        self.count = self.clients.values().map(|client| client.count).sum();
    }
}

/// How many series a client may still have, and what became of its points.
struct Room {
    left: usize,
    taken: Taken,
}

impl Pushed {
    fn of(who: &WhoPushed<'_>) -> Self {
        let labels = labels::own(&[("client_instance_id", who.instance_id), ("client_id", who.client_id)]);
        Self { labels, families: Families::new(), count: 0, expires: Timestamp(0) }
    }

    fn take(&mut self, room: &mut Room, name: &str, meaning: Meaning, attributes: &[Pair<'_>], measured: &Measured) {
        let Some((family, labels)) = family(name).zip(labels::labels(attributes, None)) else {
            room.taken.unfit += 1;
            return;
        };
        let is_taken = match measured {
            Measured::Number(value) => self.put(room, family, labels, meaning, *value),
            Measured::Distribution { count, sum, bounds, counts } => {
                let mut is_taken = self.put(room, format!("{family}_count"), labels.clone(), meaning, *count);
                if let Some(sum) = sum {
                    is_taken &= self.put(room, format!("{family}_sum"), labels, meaning, *sum);
                }
                let mut up_to_here = 0.0;
                for (bound, count) in bounds.iter().chain(&[f64::INFINITY]).zip(counts) {
                    up_to_here += count;
                    is_taken &= match labels::labels(attributes, Some(("le", *bound))) {
                        Some(labels) => self.put(room, format!("{family}_bucket"), labels, meaning, up_to_here),
                        None => false,
                    };
                }
                is_taken
            }
        };
        match is_taken {
            true => room.taken.points += 1,
            false => room.taken.too_many += 1,
        }
    }

    /// False: there are too many.
    fn put(&mut self, room: &Room, family: String, labels: String, meaning: Meaning, value: f64) -> bool {
        let known = self.families.get(&family).is_some_and(|series| series.contains_key(&labels));
        if !known {
            if self.count >= room.left {
                return false;
            }
            self.count += 1;
        }
        let (kind, is_delta) = match meaning {
            Meaning::Gauge => (Kind::Gauge, false),
            Meaning::Delta { is_monotonic: true } => (Kind::Counter, true),
            Meaning::Cumulative { is_monotonic: true } => (Kind::Counter, false),
            Meaning::Delta { is_monotonic: false } => (Kind::Gauge, true),
            Meaning::Cumulative { is_monotonic: false } => (Kind::Gauge, false),
        };
        let series = self.families.entry(family).or_default();
        let shown = series.entry(labels).or_insert(Shown { kind, value: 0.0 });
        shown.kind = kind;
        match is_delta {
            false => shown.value = value,
            // What is no number, or would turn a counter back, adds nothing.
            true if value.is_finite() && (value >= 0.0 || kind == Kind::Gauge) => shown.value += value,
            true => {}
        }
        true
    }

    /// Replaces what was said of the client before.
    fn tell_who(&mut self, who: &WhoPushed<'_>, resource: &[Pair<'_>], room: &mut Room) {
        let own = [
            ("client_software_name", who.software_name),
            ("client_software_version", who.software_version),
            ("client_source_address", who.address),
        ];
        let own: Vec<Pair<'_>> = own.map(|(key, text)| Pair { key, value: Value::Text(labels::cut(text)) }).into();
        let both: Vec<Pair<'_>> = own.iter().chain(resource).copied().collect();
        // What a client says of itself may not fit in.
        let all = labels::labels(&both, None).or_else(|| labels::labels(&own, None)).unwrap_or_default();
        if !self.put(room, INFO.to_owned(), all, Meaning::Gauge, 1.0) {
            room.taken.too_many += 1;
        }
    }
}
