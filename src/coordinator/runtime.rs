//! One coordinator's task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_core::coordinator::group::{
    Applied, Command, EncodedRecord, GroupConfig, Reply, ReplyToken, Shard, TimerChange, TimerKey,
};
use millstream_core::coordinator::timers::Timers;
use millstream_core::record::{BatchBuilder, BatchHeader};
use millstream_core::types::{Offset, Timestamp, TopicId, TopicName};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::CoordinatorError;
use super::load::{LoadError, load};
use crate::partition::{AppendError, Leadership, Partition};
use crate::store::{Batch, Durability, Store};

/// Appends that wait for their commit. Beyond: commands wait.
const IN_FLIGHT_MAX: usize = 256;
/// Most bytes of records in one batch; an atomic decision may exceed it.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// How long a coordinator whose log failed waits before it loads again.
const RELOAD_AFTER: Duration = Duration::from_secs(1);

type ReplyTo = oneshot::Sender<Result<Reply, CoordinatorError>>;

/// What a coordinator can be asked.
pub(super) enum Ask {
    Call { command: Box<dyn FnOnce(ReplyToken) -> Command + Send>, reply: ReplyTo },
    TopicsDeleted(Arc<[(TopicName, TopicId)]>),
}

/// Something appended or answered, until all that it rests on is committed.
struct InFlight {
    committed: oneshot::Receiver<Result<(), AppendError>>,
    next_offset: Offset,
    records: Vec<EncodedRecord>,
    replies: Vec<(ReplyToken, Reply)>,
}

pub(super) struct Runtime {
    partition: Arc<Partition>,
    store: Arc<Store>,
    config: Arc<GroupConfig>,
    mailbox: mpsc::Receiver<Ask>,
    shard: Shard,
    timers: Timers<TimerKey>,
    started: Instant,
    next_token: u64,
    waiting: HashMap<ReplyToken, ReplyTo>,
    in_flight: VecDeque<InFlight>,
}

/// The memory is ahead of the log, or the log cannot be written: begin anew from what is stored.
struct Lost(AppendError);

impl Runtime {
    pub(super) fn new(
        partition: Arc<Partition>,
        store: Arc<Store>,
        config: Arc<GroupConfig>,
        mailbox: mpsc::Receiver<Ask>,
    ) -> Self {
        Self {
            partition,
            store,
            shard: Shard::new(config.clone()),
            config,
            mailbox,
            timers: Timers::default(),
            started: Instant::now(),
            next_token: 0,
            waiting: HashMap::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// Ends when nobody can ask any more.
    pub(super) async fn run(mut self) {
        loop {
            match self.load().await {
                None => return,
                Some(Ok(shard)) => self.shard = shard,
                Some(Err(e)) => {
                    tracing::warn!(partition = %self.partition.name, error = %e, "coordinator could not be loaded");
                    if !self.refuse_for(RELOAD_AFTER, CoordinatorError::NotAvailable).await {
                        return;
                    }
                    continue;
                }
            }
            match self.serve().await {
                Ok(()) => return,
                Err(Lost(error)) => {
                    tracing::warn!(partition = %self.partition.name, %error, "coordinator starts anew");
                    self.forget();
                    if !self.refuse_for(RELOAD_AFTER, CoordinatorError::NotAvailable).await {
                        return;
                    }
                }
            }
        }
    }

    /// Loads while those who ask are told to come back. `None`: nobody can ask any more.
    async fn load(&mut self) -> Option<Result<Shard, LoadError>> {
        while self.partition.leadership() == Leadership::Starting {
            if !self.refuse_for(Duration::from_millis(20), CoordinatorError::LoadInProgress).await {
                return None;
            }
        }
        let (partition, store, config) = (self.partition.clone(), self.store.clone(), self.config.clone());
        let mut loading = tokio::task::spawn_blocking(move || load(&partition, &store, config));
        loop {
            tokio::select! {
                loaded = &mut loading => return Some(loaded.expect("loading does not panic")),
                ask = self.mailbox.recv() => match ask {
                    Some(Ask::Call { reply, .. }) => answer(reply, Err(CoordinatorError::LoadInProgress)),
                    // What is loaded now is looked at again by the expiry.
                    Some(Ask::TopicsDeleted(_)) => {}
                    None => return None,
                },
            }
        }
    }

    /// Refuses all that comes for a while; false when nobody can ask any more.
    async fn refuse_for(&mut self, time: Duration, error: CoordinatorError) -> bool {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                ask = self.mailbox.recv() => match ask {
                    Some(Ask::Call { reply, .. }) => answer(reply, Err(error)),
                    Some(Ask::TopicsDeleted(_)) => {}
                    None => return false,
                },
            }
        }
    }

    fn forget(&mut self) {
        self.shard = Shard::new(self.config.clone());
        self.timers = Timers::default();
        self.in_flight.clear();
        for (_, reply) in self.waiting.drain() {
            answer(reply, Err(CoordinatorError::NotCoordinator));
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn serve(&mut self) -> Result<(), Lost> {
        self.carry_out(Command::Loaded).await?;
        loop {
            let deadline = self.timers.next_deadline_ms().map(|ms| self.started + Duration::from_millis(ms));
            let room = self.in_flight.len() < IN_FLIGHT_MAX;
            let committed = self.in_flight.front_mut().map(|f| &mut f.committed);
            tokio::select! {
                // Commits first: what is answered makes room.
                biased;
                done = async { committed.expect("guarded").await }, if committed.is_some() => {
                    self.commit(done.unwrap_or(Err(AppendError::NotLeader)))?;
                }
                ask = self.mailbox.recv(), if room => match ask {
                    Some(Ask::Call { command, reply }) => {
                        self.next_token += 1;
                        let token = ReplyToken(self.next_token);
                        self.waiting.insert(token, reply);
                        self.carry_out(command(token)).await?;
                    }
                    Some(Ask::TopicsDeleted(topics)) => {
                        self.carry_out(Command::TopicsDeleted { topics, after: None }).await?;
                    }
                    None => return Ok(()),
                },
                () = async { tokio::time::sleep_until(deadline.expect("guarded")).await }, if deadline.is_some() && room => {
                    while let Some(key) = self.timers.pop_due(self.now_ms()) {
                        self.carry_out(Command::TimerFired(key)).await?;
                    }
                }
            }
        }
    }

    /// Decides, appends, applies; and again while there is more to do.
    async fn carry_out(&mut self, command: Command) -> Result<(), Lost> {
        let mut next = Some(command);
        while let Some(command) = next {
            let decision = self.shard.decide(now(), &command);
            let records: Vec<EncodedRecord> = decision.records.iter().map(|r| r.encode()).collect();
            let atomic = decision.atomic;
            self.append(records, atomic).await?;
            let Applied { replies, timers, again } = self.shard.apply(decision);
            self.set_timers(timers);
            self.park(replies);
            next = again;
        }
        Ok(())
    }

    async fn append(&mut self, records: Vec<EncodedRecord>, atomic: bool) -> Result<(), Lost> {
        let mut rest = records.into_iter().peekable();
        while rest.peek().is_some() {
            let mut builder = BatchBuilder::new();
            let mut part = Vec::new();
            let at = now();
            while let Some(record) = rest.next_if(|_| atomic || builder.size_bytes() < BATCH_BYTES_MAX) {
                builder.push(at, Some(&record.key), record.value.as_deref(), &[]);
                part.push(record);
            }
            let bytes = builder.finish();
            let header = BatchHeader::parse(&bytes).expect("it was built here");
            let (appended, committed) = self.partition.append_internal(header, bytes).await.map_err(Lost)?;
            self.in_flight.push_back(InFlight {
                committed,
                next_offset: Offset(appended.last_offset.0 + 1),
                records: part,
                replies: Vec::new(),
            });
        }
        Ok(())
    }

    fn set_timers(&mut self, changes: Vec<TimerChange>) {
        let now_ms = self.now_ms();
        for change in changes {
            match change {
                TimerChange::Set { key, after_ms } => self.timers.set(key, now_ms.saturating_add(after_ms)),
                TimerChange::Cancel(key) => self.timers.cancel(&key),
            }
        }
    }

    /// Lets replies go once everything appended so far is committed: a refusal may rest on it as well.
    fn park(&mut self, replies: Vec<(ReplyToken, Reply)>) {
        match self.in_flight.back_mut() {
            Some(last) => last.replies.extend(replies),
            None => self.reply(replies),
        }
    }

    fn reply(&mut self, replies: Vec<(ReplyToken, Reply)>) {
        for (token, reply) in replies {
            if let Some(to) = self.waiting.remove(&token) {
                answer(to, Ok(reply));
            }
        }
    }

    /// The oldest append is committed: it is materialised, and what rests on it is answered.
    fn commit(&mut self, outcome: Result<(), AppendError>) -> Result<(), Lost> {
        outcome.map_err(Lost)?;
        let Some(done) = self.in_flight.pop_front() else { return Ok(()) };
        let mut batch = Batch::default();
        for record in &done.records {
            batch.apply_coordinator_record(self.partition.id, &record.key, record.value.as_deref());
        }
        batch.put_coordinator_applied(self.partition.id, done.next_offset);
        if let Err(e) = self.store.write(batch, Durability::Buffered) {
            // The log has it; what is stored now lags, and loading would catch up.
            tracing::error!(partition = %self.partition.name, error = %e, "coordinator state could not be stored");
            return Err(Lost(AppendError::Storage));
        }
        self.reply(done.replies);
        Ok(())
    }
}

/// The asker may be gone; then there is nothing to do.
fn answer(to: ReplyTo, reply: Result<Reply, CoordinatorError>) {
    let _gone: Result<(), _> = to.send(reply);
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
