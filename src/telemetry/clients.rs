//! What clients tell of themselves (KIP-714), between the connections that they push on and `/metrics`. The rules are
//! `core::client_metrics`; here are the locks around them, and the numbers of it all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_core::client_metrics::{
    Client, Instances, Push, PushRefused, Series, Subscription, Taken, TooEarly, Wanted, WhoPushed,
};
use millstream_core::record::{Compression, decompress};
use millstream_core::types::Timestamp;
use prometheus::{IntCounterVec, IntGauge};
use uuid::Uuid;

/// What may become of a push.
const RESULTS: [&str; 6] = ["taken", "too_early", "unknown_subscription", "too_large", "unreadable", "invalid"];
/// Why points are not shown.
const DROPPED: [&str; 3] = ["unasked", "too_many_series", "unfit"];

/// All clients that this node is told of.
pub struct ClientMetrics {
    instances: Mutex<Instances>,
    series: Mutex<Series>,
    pub(super) numbers: Numbers,
}

/// Not `millstream_client_...`, which is what clients call theirs.
pub(super) struct Numbers {
    /// Clients that asked lately what they shall tell.
    pub instances: IntGauge,
    /// Series that are shown of them.
    pub series: IntGauge,
    /// Pushes, by what became of them.
    pub pushes: IntCounterVec,
    /// Points of pushes that were not kept, by reason.
    pub dropped: IntCounterVec,
}

/// A push as it came.
#[derive(Clone, Copy, Debug)]
pub struct Pushed<'a> {
    pub subscription_id: i32,
    pub is_last: bool,
    /// `None`: none of Kafka's.
    pub codec: Option<Compression>,
    pub metrics: &'a [u8],
}

impl ClientMetrics {
    pub(super) fn new(numbers: Numbers) -> Arc<Self> {
        // Shown from the start: a rate needs a beginning.
        for result in RESULTS {
            numbers.pushes.with_label_values(&[result]);
        }
        for reason in DROPPED {
            numbers.dropped.with_label_values(&[reason]);
        }
        Arc::new(Self { instances: Mutex::default(), series: Mutex::default(), numbers })
    }

    pub fn set_subscriptions(&self, subscriptions: Vec<Subscription>) {
        lock(&self.instances).set_subscriptions(subscriptions);
    }

    /// Whether nobody has this id here.
    pub fn is_free(&self, id: Uuid) -> bool {
        !lock(&self.instances).has(id)
    }

    /// What a client is asked for.
    pub fn get(&self, now: Timestamp, id: Uuid, client: &Client<'_>) -> Result<Arc<Wanted>, TooEarly> {
        lock(&self.instances).get(now, id, client)
    }

    /// Takes what a client pushes. At most `len_max` bytes come and at most as many are inflated (`telemetry.max.bytes`).
    pub fn push(
        &self,
        now: Timestamp,
        id: Uuid,
        client: &Client<'_>,
        pushed: &Pushed<'_>,
        len_max: usize,
    ) -> Result<(), PushRefused> {
        let result = self.try_push(now, id, client, pushed, len_max);
        let [taken, too_early, unknown_subscription, too_large, unreadable, invalid] = RESULTS;
        let became = match result {
            Ok(()) => taken,
            Err(PushRefused::TooEarly) => too_early,
            Err(PushRefused::UnknownSubscription) => unknown_subscription,
            Err(PushRefused::TooLarge) => too_large,
            Err(PushRefused::Unreadable) => unreadable,
            Err(PushRefused::ReservedId | PushRefused::Ended | PushRefused::UnknownCodec) => invalid,
        };
        self.numbers.pushes.with_label_values(&[became]).inc();
        result
    }

    fn try_push(
        &self,
        now: Timestamp,
        id: Uuid,
        client: &Client<'_>,
        pushed: &Pushed<'_>,
        len_max: usize,
    ) -> Result<(), PushRefused> {
        let push = Push {
            subscription_id: pushed.subscription_id,
            terminating: pushed.is_last,
            is_codec_known: pushed.codec.is_some(),
            len: pushed.metrics.len(),
        };
        let wanted = lock(&self.instances).push(now, id, client, &push, len_max)?;
        let Some(codec) = pushed.codec.filter(|_| !pushed.metrics.is_empty()) else { return Ok(()) };
        let mut inflated = Vec::new();
        decompress(codec, pushed.metrics, len_max, &mut inflated).map_err(|_| PushRefused::Unreadable)?;
        let who = WhoPushed {
            instance: id,
            instance_id: client.instance_id,
            client_id: client.id.unwrap_or_default(),
            software_name: client.software_name,
            software_version: client.software_version,
            address: client.address,
            is_last: pushed.is_last,
        };
        let taken = lock(&self.series).take(now, &who, &wanted, &inflated);
        self.count_dropped(&taken.map_err(|_| PushRefused::Unreadable)?);
        Ok(())
    }

    fn count_dropped(&self, taken: &Taken) {
        let Taken { unasked, too_many, unfit, .. } = *taken;
        for (reason, count) in DROPPED.into_iter().zip([unasked, too_many, unfit]) {
            self.numbers.dropped.with_label_values(&[reason]).inc_by(count);
        }
    }

    /// For a connection to keep: the client that came by it goes with it.
    pub fn connection(self: &Arc<Self>, number: u64) -> ClientConnection {
        ClientConnection { clients: Arc::clone(self), number }
    }

    /// Brings the gauges up to date.
    pub(super) fn measure(&self, now: Timestamp) {
        let gauge = |gauge: &IntGauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        gauge(&self.numbers.instances, lock(&self.instances).count(now));
        gauge(&self.numbers.series, lock(&self.series).count());
    }

    /// Appends what clients pushed.
    pub(super) fn render(&self, now: Timestamp, text: &mut String) {
        lock(&self.series).render(now, text);
    }
}

/// A connection on which a client asked what to tell.
pub struct ClientConnection {
    clients: Arc<ClientMetrics>,
    number: u64,
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        lock(&self.clients.instances).disconnected(self.number);
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
