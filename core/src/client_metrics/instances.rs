//! The clients that ask what they shall tell, and when each may push (Kafka `ClientMetricsManager`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{SWEEP_EVERY_MS, Subscription, Wanted, expiry_ms};
use crate::config::{ClientAttribute, ClientMatches};
use crate::types::Timestamp;

/// Clients that are remembered; of more the one that was not heard of for longest is forgotten (Kafka
/// `CACHE_MAX_SIZE`).
pub const INSTANCES_MAX: usize = 16_384;

/// Who asks, as subscriptions may mean it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Of the connection.
    pub connection: u64,
    /// As Kafka prints it.
    pub instance_id: &'a str,
    pub id: Option<&'a str>,
    pub software_name: &'a str,
    pub software_version: &'a str,
    pub address: &'a str,
    pub port: &'a str,
}

impl Client<'_> {
    pub(super) fn is_meant(&self, matches: &ClientMatches) -> bool {
        matches.iter().all(|(attribute, regex)| self.attribute(*attribute).is_some_and(|text| regex.is_match(text)))
    }

    fn attribute(&self, attribute: ClientAttribute) -> Option<&str> {
        Some(match attribute {
            ClientAttribute::InstanceId => self.instance_id,
            ClientAttribute::ClientId => return self.id,
            ClientAttribute::SoftwareName => self.software_name,
            ClientAttribute::SoftwareVersion => self.software_version,
            ClientAttribute::SourceAddress => self.address,
            ClientAttribute::SourcePort => self.port,
        })
    }
}

/// What a push says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    pub subscription_id: i32,
    /// The last one of this client.
    pub terminating: bool,
    /// Whether its codec is one of Kafka's.
    pub is_codec_known: bool,
    /// Bytes of metrics as they came.
    pub len: usize,
}

/// Why a client is not told what it is asked for: its interval is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("asked before the interval was over")]
pub struct TooEarly;

/// Why a push is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushRefused {
    #[error("no client has this instance id")]
    ReservedId,
    #[error("the client said that it ends")]
    Ended,
    #[error("pushed before the interval was over")]
    TooEarly,
    #[error("the client is asked for something else by now")]
    UnknownSubscription,
    #[error("unknown codec")]
    UnknownCodec,
    #[error("more bytes than telemetry.max.bytes")]
    TooLarge,
    /// It cannot be read.
    #[error("no such metrics")]
    Unreadable,
}

#[derive(Debug)]
struct Instance {
    wanted: Arc<Wanted>,
    /// Of the subscriptions that it was made from.
    version: u64,
    last_get: i64,
    last_push: i64,
    terminating: bool,
    /// Whether the last push was refused for what a new question mends.
    may_ask_at_once: bool,
    expires: Timestamp,
    /// Its place in the order of use.
    used: u64,
}

impl Instance {
    fn try_get(&mut self, now: i64) -> Result<(), TooEarly> {
        if now.saturating_sub(self.last_get.max(self.last_push)) >= i64::from(self.wanted.interval_ms) {
            self.last_get = now;
            return Ok(());
        }
        if self.may_ask_at_once { Ok(()) } else { Err(TooEarly) }
    }

    /// Clients wait for half an interval to one and a half before the first push after an answer.
    fn try_push(&mut self, now: i64) -> bool {
        let may =
            self.last_get > self.last_push || now.saturating_sub(self.last_push) >= i64::from(self.wanted.interval_ms);
        if may {
            self.last_push = now;
        }
        may
    }

    fn check(&mut self, now: i64, id: Uuid, push: &Push, len_max: usize) -> Result<(), PushRefused> {
        if self.terminating {
            return Err(PushRefused::Ended);
        }
        // The moment is noted whatever comes of it.
        if !self.try_push(now) && !push.terminating {
            return Err(PushRefused::TooEarly);
        }
        if push.subscription_id != self.wanted.id(id) {
            return Err(PushRefused::UnknownSubscription);
        }
        if !push.is_codec_known {
            return Err(PushRefused::UnknownCodec);
        }
        if push.len > len_max {
            return Err(PushRefused::TooLarge);
        }
        Ok(())
    }
}

/// All clients that this node knows, and what they are asked for.
#[derive(Debug, Default)]
pub struct Instances {
    subscriptions: Vec<Subscription>,
    version: u64,
    /// What clients are asked for, each once.
    wanted: HashSet<Arc<Wanted>>,
    by_id: HashMap<Uuid, Instance>,
    by_use: BTreeMap<u64, Uuid>,
    /// The client that came into being last on a connection: it goes with it.
    by_connection: HashMap<u64, Uuid>,
    next_use: u64,
    next_sweep: Timestamp,
}

impl Instances {
    /// Every client is asked anew, by these.
    pub fn set_subscriptions(&mut self, subscriptions: Vec<Subscription>) {
        self.subscriptions = subscriptions;
        self.version += 1;
    }

    /// What a client is asked for.
    pub fn get(&mut self, now: Timestamp, id: Uuid, client: &Client<'_>) -> Result<Arc<Wanted>, TooEarly> {
        let instance = self.seen(now, id, client);
        instance.try_get(now.0)?;
        instance.may_ask_at_once = false;
        Ok(Arc::clone(&instance.wanted))
    }

    /// Whether a push may come now. What it brings is still to be read.
    pub fn push(
        &mut self,
        now: Timestamp,
        id: Uuid,
        client: &Client<'_>,
        push: &Push,
        len_max: usize,
    ) -> Result<Arc<Wanted>, PushRefused> {
        if id.as_u128() <= 1 {
            return Err(PushRefused::ReservedId);
        }
        let instance = self.seen(now, id, client);
        let checked = instance.check(now.0, id, push, len_max);
        instance.terminating = push.terminating;
        instance.may_ask_at_once = matches!(checked, Err(PushRefused::UnknownSubscription | PushRefused::UnknownCodec));
        checked.map(|()| Arc::clone(&instance.wanted))
    }

    /// The connection is closed: the client that it brought is forgotten.
    pub fn disconnected(&mut self, connection: u64) {
        if let Some(id) = self.by_connection.remove(&connection) {
            self.forget(id);
        }
    }

    /// How many there are.
    pub fn count(&mut self, now: Timestamp) -> usize {
        self.sweep(now);
        self.by_id.len()
    }

    pub fn has(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id)
    }

    fn seen(&mut self, now: Timestamp, id: Uuid, client: &Client<'_>) -> &mut Instance {
        if now >= self.next_sweep {
            self.sweep(now);
        }
        let known = self.by_id.get(&id).filter(|known| known.version == self.version && known.expires > now);
        if known.is_none() {
            self.forget(id);
            self.make_room();
            let instance = self.new_instance(client);
            self.by_id.insert(id, instance);
            self.by_connection.insert(client.connection, id);
        }
        let used = self.next_use;
        self.next_use += 1;
        self.by_use.insert(used, id);
        let instance = self.by_id.get_mut(&id).expect("it is there, or was just made");
        self.by_use.remove(&std::mem::replace(&mut instance.used, used));
        instance.expires = now.plus_ms(expiry_ms(instance.wanted.interval_ms));
        instance
    }

    fn new_instance(&mut self, client: &Client<'_>) -> Instance {
        let wanted = Wanted::of(&self.subscriptions, client);
        let wanted = match self.wanted.get(&wanted) {
            Some(shared) => Arc::clone(shared),
            None => {
                let wanted = Arc::new(wanted);
                self.wanted.insert(Arc::clone(&wanted));
                wanted
            }
        };
        Instance {
            wanted,
            version: self.version,
            last_get: 0,
            last_push: 0,
            terminating: false,
            may_ask_at_once: false,
            expires: Timestamp(i64::MAX),
            // Nobody's place: the first is given when it is seen.
            used: u64::MAX,
        }
    }

    fn make_room(&mut self) {
        while self.by_id.len() >= INSTANCES_MAX {
            let Some((_, oldest)) = self.by_use.first_key_value() else { return };
            self.forget(*oldest);
        }
    }

    fn forget(&mut self, id: Uuid) {
        if let Some(gone) = self.by_id.remove(&id) {
            self.by_use.remove(&gone.used);
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        self.next_sweep = now.plus_ms(SWEEP_EVERY_MS);
        let (by_id, by_use) = (&mut self.by_id, &mut self.by_use);
        by_id.retain(|_, instance| {
            let stays = instance.expires > now;
            if !stays {
                by_use.remove(&instance.used);
            }
            stays
        });
        self.by_connection.retain(|_, id| by_id.contains_key(id));
        self.wanted.retain(|wanted| Arc::strong_count(wanted) > 1);
    }
}
