//! A state machine that is loaded, with all that is under way: what a turn decides is gathered into one batch,
//! appended, and answered when it is committed.
//!
//! Memory runs ahead of the log by at most one batch; when the append fails, all of it is given up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_core::coordinator::EncodedRecord;
use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::coordinator::timers::{TimerChange, Timers};
use millstream_core::partition::TxnEnd;
use millstream_core::record::{BatchBuilder, BatchHeader};
use millstream_core::types::{LeaderEpoch, Offset, ProducerId, Timestamp, TopicId, TopicName};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use super::CoordinatorError;
use super::in_transaction::{Ended, Transaction};
use super::machine::{Applied, Machine};
use super::materialise::Materialised;
use crate::partition::{AppendError, Appended, Partition};
use crate::store::{Batch, Durability, Store};

/// Appends that wait for their commit. Beyond: commands wait.
const IN_FLIGHT_MAX: usize = 256;
/// From this size a batch is appended and the next one begun.
const BATCH_BYTES: usize = 512 << 10;
/// Most bytes of records that go into one batch because a decision must not be cut. Kafka allows `max.message.bytes`
/// of its internal topic, 1 MiB.
pub(super) const DECISION_BYTES_MAX: usize = 16 << 20;

pub(super) type ReplyTo<R> = oneshot::Sender<Result<R, CoordinatorError>>;

/// What a coordinator can be asked.
pub(super) enum Ask<M: Machine> {
    Call {
        command: Box<dyn FnOnce(ReplyToken) -> M::Command + Send>,
        reply: ReplyTo<M::Reply>,
    },
    /// Nobody waits for a reply.
    Tell(M::Command),
    /// The command's records belong to a transaction.
    CallIn {
        of: Transaction,
        command: Box<dyn FnOnce(ReplyToken) -> M::Command + Send>,
        reply: ReplyTo<M::Reply>,
    },
    /// Answered when the marker is committed, and what it decides stored.
    EndTransaction {
        end: TxnEnd,
        done: oneshot::Sender<Result<(), CoordinatorError>>,
    },
    TopicsDeleted(Arc<[(TopicName, TopicId)]>),
    Count(oneshot::Sender<M::Counts>),
}

/// Sees to effects, without waiting for anything: it is called in the coordinator's own task.
pub type Effects<M> = Arc<dyn Fn(&Origin, Vec<<M as Machine>::Effect>) + Send + Sync>;

/// Where effects come from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Of the topic that coordinators live on.
    pub partition: i32,
    /// The leadership under which it was decided.
    pub epoch: LeaderEpoch,
    life: Weak<()>,
}

impl Origin {
    /// Whether the state that decided still counts. A coordinator that has loaded anew decides anew.
    pub fn is_current(&self) -> bool {
        self.life.strong_count() > 0
    }
}

/// Something appended, until it is committed.
struct InFlight<M: Machine> {
    committed: oneshot::Receiver<Result<(), AppendError>>,
    base_offset: Offset,
    next_offset: Offset,
    content: Gathered<M>,
}

/// Records of one batch, and the replies and effects that rest on them or on what went before.
pub(super) struct Gathered<M: Machine> {
    pub records: Vec<EncodedRecord>,
    pub size_bytes: usize,
    pub replies: Vec<(ReplyToken, M::Reply)>,
    pub effects: Vec<M::Effect>,
    /// Whose transaction the records belong to.
    pub producer: Option<ProducerId>,
    /// It is a marker.
    pub ended: Option<Ended>,
}

impl<M: Machine> Default for Gathered<M> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            size_bytes: 0,
            replies: Vec::new(),
            effects: Vec::new(),
            producer: None,
            ended: None,
        }
    }
}

/// The memory is ahead of the log, or the log cannot be written: begin anew from what is stored.
pub(super) struct Lost(pub AppendError);

pub(super) struct Serving<M: Machine> {
    pub(super) partition: Arc<Partition>,
    /// Of its log by snapshots, when this began.
    replacements: u64,
    store: Arc<Store>,
    pub(super) shard: M,
    materialised: Materialised,
    /// Of the leadership that the state was loaded under.
    pub(super) epoch: LeaderEpoch,
    effects: Effects<M>,
    /// Ends with this state.
    life: Arc<()>,
    timers: Timers<M::TimerKey>,
    started: Instant,
    last_token: u64,
    waiting: HashMap<ReplyToken, ReplyTo<M::Reply>>,
    gathered: Gathered<M>,
    in_flight: VecDeque<InFlight<M>>,
    /// Work that was cut short to give others their turn.
    pub(super) unfinished: VecDeque<M::Command>,
}

impl<M: Machine> Serving<M> {
    pub fn new(
        partition: Arc<Partition>,
        store: Arc<Store>,
        (shard, materialised): (M, Materialised),
        epoch: LeaderEpoch,
        effects: Effects<M>,
    ) -> Self {
        Self {
            replacements: partition.replacements(),
            partition,
            store,
            shard,
            materialised,
            epoch,
            effects,
            life: Arc::new(()),
            timers: Timers::default(),
            started: Instant::now(),
            last_token: 0,
            waiting: HashMap::new(),
            gathered: Gathered::default(),
            in_flight: VecDeque::new(),
            unfinished: VecDeque::new(),
        }
    }

    /// Gives everything up: those who wait look for the coordinator again.
    pub fn end(self) {
        for (_, reply) in self.waiting {
            answer(reply, Err(CoordinatorError::NotCoordinator));
        }
    }

    pub fn has_room(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX
    }

    /// When there will be something to do though nobody asks.
    pub fn next_due(&mut self) -> Option<Instant> {
        match self.unfinished.is_empty() {
            true => self.timers.next_deadline_ms().map(|ms| self.started + Duration::from_millis(ms)),
            false => Some(self.started),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub async fn take(&mut self, ask: Ask<M>) -> Result<(), Lost> {
        match ask {
            Ask::Call { command, reply } => {
                let token = self.wait(reply);
                self.carry_out(command(token), Some(token)).await
            }
            Ask::Tell(command) => self.carry_out(command, None).await,
            Ask::CallIn { of, command, reply } => self.carry_out_in(of, command, reply).await,
            Ask::EndTransaction { end, done } => self.end_transaction(end, done).await,
            Ask::TopicsDeleted(topics) => match M::topics_deleted(topics) {
                Some(command) => self.carry_out(command, None).await,
                None => Ok(()),
            },
            Ask::Count(reply) => {
                let _gone: Result<(), _> = reply.send(self.shard.counts());
                Ok(())
            }
        }
    }

    /// A token for who waits.
    pub(super) fn wait(&mut self, reply: ReplyTo<M::Reply>) -> ReplyToken {
        self.last_token += 1;
        let token = ReplyToken(self.last_token);
        self.waiting.insert(token, reply);
        token
    }

    pub(super) fn refuse(&mut self, token: ReplyToken, error: CoordinatorError) {
        if let Some(to) = self.waiting.remove(&token) {
            answer(to, Err(error));
        }
    }

    /// Fires the timers that are due by now, and does the next part of work that was cut short. Timers that become due
    /// meanwhile wait for the next turn.
    pub async fn do_what_is_due(&mut self) -> Result<(), Lost> {
        let now_ms = self.now_ms();
        while let Some(key) = self.timers.pop_due(now_ms) {
            self.carry_out(M::timer_fired(key), None).await?;
        }
        match self.unfinished.pop_front() {
            Some(command) => self.carry_out(command, None).await,
            None => Ok(()),
        }
    }

    /// Decides, gathers, applies. `asker`: who is told when the decision is too large to be one.
    pub async fn carry_out(&mut self, command: M::Command, asker: Option<ReplyToken>) -> Result<(), Lost> {
        let decision = self.shard.decide(now(), &command);
        // Timers record no more than a group without members, so only who asks can ask for too much.
        let is_atomic = M::is_atomic(&decision);
        let bytes_max = if is_atomic && asker.is_some() { DECISION_BYTES_MAX } else { usize::MAX };
        let Some(records) = within(bytes_max, M::records(&decision)) else {
            asker.into_iter().for_each(|asker| self.refuse(asker, CoordinatorError::TooLarge));
            return Ok(());
        };
        self.gather(records, is_atomic).await?;
        let applied = self.shard.apply(decision);
        self.take_up(applied);
        Ok(())
    }

    /// What remains to be done of a decision whose records, if it has some, are gathered.
    pub(super) fn take_up(&mut self, applied: Applied<M>) {
        let Applied { replies, timers, effects, again } = applied;
        self.set_timers(timers);
        self.gathered.replies.extend(replies);
        self.gathered.effects.extend(effects);
        self.unfinished.extend(again);
    }

    async fn gather(&mut self, records: Vec<EncodedRecord>, atomic: bool) -> Result<(), Lost> {
        let size_bytes: usize = records.iter().map(size_of_record).sum();
        if atomic && self.gathered.size_bytes + size_bytes > BATCH_BYTES {
            self.append_gathered().await?;
        }
        for record in records {
            if !atomic && self.gathered.size_bytes >= BATCH_BYTES {
                self.append_gathered().await?;
            }
            self.gathered.size_bytes += size_of_record(&record);
            self.gathered.records.push(record);
        }
        Ok(())
    }

    pub(super) fn set_timers(&mut self, changes: Vec<TimerChange<M::TimerKey>>) {
        let now_ms = self.now_ms();
        for change in changes {
            match change {
                TimerChange::Set { key, after_ms } => self.timers.set(key, now_ms.saturating_add(after_ms)),
                TimerChange::Cancel(key) => self.timers.cancel(&key),
            }
        }
    }

    /// Appends what was gathered as one batch. Replies without records of their own rest on what was appended before:
    /// a refusal may, too.
    pub async fn append_gathered(&mut self) -> Result<(), Lost> {
        let content = std::mem::take(&mut self.gathered);
        if content.records.is_empty() {
            match self.in_flight.back_mut() {
                Some(last) => {
                    last.content.replies.extend(content.replies);
                    last.content.effects.extend(content.effects);
                }
                None => self.finish(content),
            }
            return Ok(());
        }
        let mut builder = BatchBuilder::new();
        let at = now();
        for record in &content.records {
            builder.push(at, Some(&record.key), record.value.as_deref(), &[]);
        }
        let bytes = builder.finish();
        let header = BatchHeader::parse(&bytes).expect("it was built here");
        let (appended, committed) = self.partition.append_internal(self.epoch, header, bytes).await.map_err(Lost)?;
        self.appended(appended, committed, content);
        Ok(())
    }

    pub(super) fn appended(
        &mut self,
        appended: Appended,
        committed: oneshot::Receiver<Result<(), AppendError>>,
        content: Gathered<M>,
    ) {
        let Appended { base_offset, last_offset, .. } = appended;
        self.in_flight.push_back(InFlight { committed, base_offset, next_offset: last_offset.plus(1), content });
    }

    /// All that it rests on is committed.
    fn finish(&mut self, content: Gathered<M>) {
        for (token, reply) in content.replies {
            if let Some(to) = self.waiting.remove(&token) {
                answer(to, Ok(reply));
            }
        }
        if let Some(ended) = content.ended {
            answer(ended.done, Ok(()));
        }
        if !content.effects.is_empty() {
            let (partition, epoch) = (self.partition.id.partition, self.epoch);
            (self.effects)(&Origin { partition, epoch, life: Arc::downgrade(&self.life) }, content.effects);
        }
    }

    /// Ends when the oldest append is committed, or failed; never while there is none.
    pub async fn committed(&mut self) -> Result<(), AppendError> {
        match self.in_flight.front_mut() {
            Some(oldest) => (&mut oldest.committed).await.unwrap_or(Err(AppendError::NotLeader)),
            None => std::future::pending().await,
        }
    }

    /// The oldest append came to `outcome`. With it all that the same flush has committed is materialised, in one
    /// write, and what rests on it is answered.
    pub fn commit(&mut self, outcome: Result<(), AppendError>) -> Result<(), Lost> {
        outcome.map_err(Lost)?;
        let mut done: Vec<InFlight<M>> = self.in_flight.pop_front().into_iter().collect();
        let mut failed = None;
        while let (Some(next), None) = (self.in_flight.front_mut(), &failed) {
            match next.committed.try_recv() {
                Ok(Ok(())) => done.extend(self.in_flight.pop_front()),
                Ok(Err(e)) => failed = Some(e),
                Err(TryRecvError::Closed) => failed = Some(AppendError::NotLeader),
                Err(TryRecvError::Empty) => break,
            }
        }
        self.materialise(done)?;
        failed.map_or(Ok(()), |e| Err(Lost(e)))
    }

    fn materialise(&mut self, done: Vec<InFlight<M>>) -> Result<(), Lost> {
        let Some(last) = done.last() else { return Ok(()) };
        let mut batch = Batch::default();
        batch.put_coordinator_applied(self.partition.id, last.next_offset);
        for InFlight { base_offset, content, .. } in &done {
            for (record, at) in content.records.iter().zip(base_offset.0..) {
                let (key, value) = (&record.key[..], record.value.as_deref());
                match content.producer {
                    None => self.materialised.record(&mut batch, key, value),
                    Some(producer) => {
                        self.materialised.record_in_transaction(&mut batch, producer, Offset(at), (key, value));
                    }
                }
            }
            if let Some(ended) = &content.ended {
                self.materialised.end(&mut batch, ended.producer, ended.commit);
            }
        }
        let write = || self.store.write(batch, Durability::Buffered);
        // None: another leads, and what it told is all in the log.
        if let Some(Err(e)) = self.partition.unless_replaced(self.replacements, write) {
            // The log has it; what is stored lags, and loading catches up.
            tracing::error!(partition = %self.partition.name, error = %e, "coordinator state could not be stored");
            return Err(Lost(AppendError::Storage));
        }
        for done in done {
            self.finish(done.content);
        }
        Ok(())
    }

    /// Waits until everything appended is committed.
    pub async fn drain(&mut self) -> Result<(), Lost> {
        while !self.in_flight.is_empty() {
            let outcome = self.committed().await;
            self.commit(outcome)?;
        }
        Ok(())
    }
}

/// The asker may be gone; then there is nothing to do.
pub(super) fn answer<R>(to: ReplyTo<R>, reply: Result<R, CoordinatorError>) {
    let _gone: Result<(), _> = to.send(reply);
}

/// `None` above `bytes_max`.
pub(super) fn within(bytes_max: usize, records: impl Iterator<Item = EncodedRecord>) -> Option<Vec<EncodedRecord>> {
    let mut kept = Vec::new();
    let mut size_bytes: usize = 0;
    for record in records {
        size_bytes = size_bytes.saturating_add(size_of_record(&record));
        if size_bytes > bytes_max {
            return None;
        }
        kept.push(record);
    }
    Some(kept)
}

/// About what a record takes in a batch.
fn size_of_record(record: &EncodedRecord) -> usize {
    16 + record.key.len() + record.value.as_ref().map_or(0, |value| value.len())
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
