//! The loop that owns partitions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::partition::Producers;
use millstream_core::replica::{Fetch, HardState};
use millstream_core::types::{Offset, PartitionId, RaftIndex, RaftTerm, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::append::{Append, AppendError, Parked, Reply, answer};
use super::ask::{Ask, Tells, Told, Unsynced, tell_flushed};
use super::confirm::Confirms;
use super::handle::{Leadership, Partition};
use super::in_sync::InSync;
use super::members::Members;
use super::repair::Hurt;
use super::replicate::{Posts, RAFT_TICK};
use super::shared::Shared;
use crate::log::{Dirty, LogConfig, LogError};
use crate::raft::{Group, Halted, Member, Work};
use crate::store;

/// Asks taken in one turn: bounds how long the first of them waits for its write.
const TURN_MAX: usize = 256;
/// Proposed bytes of a partition that are not held back until its flush has ended.
const WRITES_AT_ONCE_BYTES: u64 = 1 << 20;
/// How often a shard looks at what is due.
const TICK: Duration = Duration::from_secs(1);

/// What one turn has to bring to the disk.
#[derive(Default)]
struct Round {
    parts: Vec<Unsynced>,
    dirty: Dirty,
    batch: store::Batch,
}

/// A partition as its shard keeps it.
pub(super) struct Owned {
    pub shared: Arc<Partition>,
    pub config: LogConfig,
    /// None: halted, to be opened again.
    pub group: Option<Group>,
    pub incarnation: u64,
    pub producers: Producers,
    pub applied: RaftIndex,
    pub hard_state: HardState,
    /// It lives while a term or a vote is written to the store, also of a replica that was halted meanwhile.
    pub hard_state_on_its_way: Weak<()>,
    /// Bytes of batches that are proposed and not yet committed.
    pub uncommitted_bytes: u64,
    /// Since it led and hears of nobody who leads now, while replies are parked.
    pub leaderless_since: Option<Instant>,
    /// Batches that find no room among those, oldest first.
    pub waiting: VecDeque<Append>,
    /// Replies that wait for the commit of an offset, oldest first.
    pub parked: VecDeque<Parked>,
    /// Replies that wait for the turn's write (`acks=1`).
    pub on_write: Vec<Reply>,
    /// Committed trims still to be answered: index, reply.
    pub trims: VecDeque<(RaftIndex, Reply)>,
    pub kept: super::keep::Kept,
    /// The log failed and must be opened again.
    pub broken: bool,
    pub touched: bool,
    /// The term whose other leader is known here.
    pub follows_in: RaftTerm,
    /// The term in which this replica leads.
    pub leads_in: Option<RaftTerm>,
    pub in_sync: InSync,
    pub confirms: Confirms,
    /// Reads for followers that wait for room within a limit.
    pub throttled: Vec<Fetch>,
    /// Who shall belong to the group, as the metadata says.
    pub wanted: Option<Members>,
    /// Ticks in a row that this leader had nothing to do.
    pub calm_ticks: i8,
    /// The members are not known to be those.
    pub members_are_due: bool,
    /// Until then it stands for election at every tick.
    pub eager_until: Option<Instant>,
    pub member: Member,
}

/// The owner of some partitions. Runs as one task.
pub(super) struct Shard {
    pub shared: Arc<Shared>,
    pub mailbox: mpsc::Receiver<Ask>,
    told: mpsc::UnboundedReceiver<Told>,
    pub told_to: Tells,
    pub owned: HashMap<PartitionId, Owned>,
    /// Partitions with work for raft in this turn.
    pub touched: Vec<PartitionId>,
    /// Partitions whose checkpoint is behind.
    pub unsaved: HashSet<PartitionId>,
    pub halted: HashSet<PartitionId>,
    /// What is wrong with some of them, or will be done about some that are not halted yet.
    pub hurt: HashMap<PartitionId, Hurt>,
    /// Partitions that begin anew, or have begun, and have a damaged log aside.
    pub learning: HashSet<PartitionId>,
    /// When leaderships were handed over last because the disk is full.
    pub gave_way_at: Option<Instant>,
    /// Compactions under way.
    pub compacting: HashMap<PartitionId, Weak<AtomicBool>>,
    pub incarnations: u64,
    /// Openings to be answered when all of their partitions lead.
    pub openings: Vec<(HashSet<PartitionId>, oneshot::Sender<()>)>,
    stopping: Option<oneshot::Sender<()>>,
    /// Partitions with several replicas that do not sleep.
    pub awake: HashSet<PartitionId>,
    /// Of those, the ones that may sleep after this turn.
    pub calm: Vec<PartitionId>,
    /// To be answered when no leadership is left to be handed over.
    pub handing_over: Option<oneshot::Sender<()>>,
    /// Messages of this turn to other nodes.
    pub posts: Posts,
    #[cfg(test)]
    has_crashed: bool,
    /// When the loop was last seen to run.
    pub awake_at: Instant,
}

impl Shard {
    pub fn new(shared: Arc<Shared>, mailbox: mpsc::Receiver<Ask>) -> Self {
        let (told_to, told) = mpsc::unbounded_channel();
        Self {
            shared,
            mailbox,
            told,
            told_to,
            owned: HashMap::new(),
            touched: Vec::new(),
            unsaved: HashSet::new(),
            halted: HashSet::new(),
            hurt: HashMap::new(),
            learning: HashSet::new(),
            gave_way_at: None,
            compacting: HashMap::new(),
            incarnations: 0,
            openings: Vec::new(),
            stopping: None,
            awake: HashSet::new(),
            calm: Vec::new(),
            handing_over: None,
            posts: Posts::default(),
            #[cfg(test)]
            has_crashed: false,
            awake_at: Instant::now(),
        }
    }

    pub async fn run(mut self) {
        let mut asks = Vec::with_capacity(TURN_MAX);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut raft_tick = tokio::time::interval(RAFT_TICK);
        raft_tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                taken = self.mailbox.recv_many(&mut asks, TURN_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.notice_standstill(Instant::now());
                    for ask in asks.drain(..) {
                        self.take(ask);
                    }
                    #[cfg(test)]
                    if self.has_crashed {
                        return;
                    }
                }
                Some(told) = self.told.recv() => self.hear(told),
                _ = tick.tick() => self.tick(),
                at = raft_tick.tick() => {
                    self.notice_standstill(Instant::now());
                    self.tick_raft(at);
                }
            }
            while let Ok(told) = self.told.try_recv() {
                self.hear(told);
            }
            // A commit may let in what waited for it.
            while !self.touched.is_empty() {
                self.turn();
            }
            let calm = std::mem::take(&mut self.calm);
            self.sleep(&calm);
            self.hand_over();
            if self.has_stopped() {
                return;
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Append(batches) => batches.into_iter().for_each(|append| self.append(append)),
            Ask::AppendInternal(append) => self.append_internal(*append),
            Ask::Trim { id, offset, reply } => self.trim(id, offset, reply),
            Ask::Producers { id, reply } => {
                let producers = self.owned.get(&id).map(|o| o.producers.active().collect());
                answer(reply, producers.unwrap_or_default());
            }
            Ask::BeginVerification { id, of, bumps_epoch, reply } => {
                answer(reply, self.begin_verification(id, of, bumps_epoch));
            }
            Ask::Confirm { id, reply } => self.confirm(id, reply),
            Ask::Progress { id, reply } => answer(reply, self.progress(id)),
            Ask::Open { partitions, reply } => self.open(partitions, reply),
            Ask::Transfer { id, to, reply } => answer(reply, self.transfer(id, to)),
            Ask::HandOver { reply } => self.handing_over = Some(reply),
            Ask::Step(incoming) => self.step(incoming),
            Ask::LookAtOffer { offer, reply } => answer(reply, self.look_at_offer(&offer)),
            Ask::InstallSnapshot { offer, reply } => answer(reply, self.install_snapshot(&offer)),
            Ask::Damaged { id } => self.is_damaged(id),
            Ask::Sleep(sleeps) => self.fall_asleep(sleeps),
            Ask::Wake(nodes) => self.wake(&nodes),
            Ask::WakeLeaderless(partitions) => self.wake_leaderless(partitions),
            Ask::Remove { id, reply } => answer(reply, self.remove(id)),
            Ask::SetMembers { id, members } => self.set_members(id, members),
            Ask::SetConfig { id, config } => {
                if let Some(owned) = self.owned.get_mut(&id) {
                    owned.config = config.clone();
                    if let Some(group) = &mut owned.group {
                        group.log_mut().set_config(config);
                    }
                }
            }
            Ask::Retain => self.retain(),
            Ask::PlanCompaction { config, except, reply } => {
                self.plan_compaction(config, &except, reply);
            }
            Ask::InstallCompacted { done, reply } => self.install_compacted(*done, reply),
            Ask::ExpireProducers => self.expire_producers(),
            #[cfg(test)]
            Ask::Crash => self.has_crashed = true,
            Ask::Stop { reply } => self.stopping = Some(reply),
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Flushed(round) => self.flushed(&round),
            Told::Fetched(fetched) => self.fetched(fetched),
            Told::SnapshotEnded(ended) => self.snapshot_ended(ended),
        }
    }

    pub(super) fn touch(&mut self, id: PartitionId) {
        if let Some(owned) = self.owned.get_mut(&id)
            && !owned.touched
        {
            owned.touched = true;
            self.touched.push(id);
        }
    }

    /// Lets raft work where something happened, writes, and asks for one flush of all of it.
    pub(super) fn turn(&mut self) {
        let (now, at) = ((self.shared.clock)(), Instant::now());
        let (mut plain, mut elected) = (Round::default(), Round::default());
        for id in std::mem::take(&mut self.touched) {
            let Some(owned) = self.owned.get_mut(&id) else { continue };
            owned.touched = false;
            owned.begin_confirm();
            if owned.waits_for_flush() {
                continue;
            }
            let Some(group) = &mut owned.group else { continue };
            let (shared, kept) = (&self.shared, &mut owned.kept);
            let mut before_cut = |index, offset| kept.lower_synced_end(shared, id, index, offset);
            let mut work = match group.work(now, &mut before_cut) {
                Ok(work) => work,
                Err(halted) => {
                    tracing::error!(partition = %owned.shared.name, error = %halted, "replica halted");
                    if matches!(halted, Halted::Log(LogError::NoSpace)) {
                        self.shared.dir.ran_full();
                    }
                    self.halt(id);
                    continue;
                }
            };
            let round = if work.must_sync_hard_state { &mut elected } else { &mut plain };
            if let Some(number) = work.unsynced {
                round.dirty.extend(group.log_mut().take_dirty());
                round.parts.push(Unsynced { id, incarnation: owned.incarnation, number });
                self.unsaved.insert(id);
            }
            owned.note(&work, &mut round.batch);
            owned.note_confirmed(&work.reads);
            if let Some((index, membership)) = &work.membership {
                plain.batch.put_membership(id, membership, *index);
                owned.members_are_due = true;
            }
            owned.shared.set_log_end(owned.log_end());
            work.taken.drain(..).for_each(|taken| owned.take_over(taken));
            owned.note_role(&self.shared, at);
            owned.note_leader(&self.shared);
            for reply in owned.on_write.drain(..) {
                reply.finish(Ok(()), Offset::ZERO);
            }
            if !work.outgoing.is_empty() {
                self.awake.insert(id);
                self.post(id, work.outgoing);
            }
            if !work.snapshots.is_empty() {
                self.offer_snapshots(id, work.snapshots);
            }
            if !work.fetches.is_empty() {
                self.read_for_followers(id, work.fetches);
            }
            let has_members = work.membership.is_some();
            self.apply(id, work.committed, at);
            if let Some(owned) = self.owned.get_mut(&id) {
                owned.answer_committed();
                let is_asked = owned.answer_confirmed();
                if has_members {
                    owned.tell_members(&self.shared, at);
                }
                if !owned.waiting.is_empty() {
                    self.append_waiting(id);
                }
                if is_asked {
                    self.touch(id);
                }
            }
            self.keep_synced_end(id, at, &mut plain.batch);
        }
        self.shared.write(std::mem::take(&mut plain.batch), store::Durability::Buffered);
        self.send_posts();
        self.flush(plain);
        self.store_and_flush(elected);
    }

    /// Terms and votes go to the store before the files to the disk, however long that takes.
    fn store_and_flush(&mut self, elected: Round) {
        if elected.parts.is_empty() {
            return;
        }
        let on_its_way = Arc::new(());
        for part in &elected.parts {
            if let Some(owned) = self.owned.get_mut(&part.id) {
                owned.hard_state_on_its_way = Arc::downgrade(&on_its_way);
            }
        }
        let (shared, told_to) = (self.shared.clone(), self.told_to.clone());
        tokio::spawn(async move {
            shared.write_or_abort(elected.batch).await;
            drop(on_its_way);
            shared.dir.flush(elected.dirty, tell_flushed(told_to, elected.parts));
        });
    }

    fn flush(&self, round: Round) {
        assert_eq!(round.parts.is_empty(), round.dirty.files.is_empty(), "what raft waits for lies in files");
        if !round.parts.is_empty() {
            self.shared.dir.flush(round.dirty, tell_flushed(self.told_to.clone(), round.parts));
        }
    }

    /// What a round holds is on disk: raft learns it, and the turn carries out what follows.
    fn flushed(&mut self, round: &[Unsynced]) {
        for part in round {
            let owned = self.owned.get_mut(&part.id).filter(|o| o.incarnation == part.incarnation);
            if let Some(group) = owned.and_then(|o| o.group.as_mut()) {
                group.flushed(part.number);
                self.touch(part.id);
            }
        }
    }

    /// Gives the partition up until its log can be opened again. All that waits for it is told.
    pub(super) fn halt(&mut self, id: PartitionId) {
        let Some(owned) = self.owned.get_mut(&id) else { return };
        if owned.group.as_ref().is_some_and(Group::has_others) {
            // They may sleep, and wait for no heartbeat.
            owned.announce_end(&self.shared);
        }
        owned.shared.set_leadership(Leadership::Offline);
        owned.group = None;
        owned.broken = false;
        owned.refuse_all(AppendError::Storage);
        self.unsaved.remove(&id);
        self.halted.insert(id);
        self.cancel_compaction(id);
        self.has_opened(id);
    }

    fn has_stopped(&mut self) -> bool {
        // With others it is their word that is waited for: they may stop, too, and have what is in flight or not.
        let in_flight =
            |o: &Owned| o.group.as_ref().is_some_and(|g| !g.has_others() && g.log().last_index() > o.applied);
        if self.stopping.is_none() || self.owned.values().any(in_flight) {
            return false;
        }
        let Some(reply) = self.stopping.take() else { return false };
        self.save_all();
        answer(reply, ());
        true
    }
}

impl Owned {
    /// Whether what was proposed is written when the flush that runs has ended, with one call for all of it;
    /// `flushed` touches the partition again. Where somebody waits for the write alone, it is done at once.
    fn waits_for_flush(&self) -> bool {
        self.group.as_ref().is_some_and(|group| {
            let is_little = self.on_write.is_empty() && group.unwritten_bytes() < WRITES_AT_ONCE_BYTES;
            group.is_syncing_hard_state() || (group.is_flushing() && is_little)
        })
    }

    /// Notes what the store must learn.
    fn note(&mut self, work: &Work, batch: &mut store::Batch) {
        super::keep::put_events(batch, self.shared.id, &work.events);
        if let Some(hard_state) = work.hard_state {
            self.hard_state = hard_state;
            if work.must_sync_hard_state {
                batch.put_hard_state(self.shared.id, &hard_state);
            }
        }
    }

    fn log_end(&self) -> Offset {
        self.group.as_ref().map_or(Offset::ZERO, |g| g.log().next_offset())
    }

    pub fn refuse_all(&mut self, error: AppendError) {
        let log_start = self.shared.log_start();
        self.uncommitted_bytes = 0;
        self.end_confirms();
        for parked in self.parked.drain(..) {
            parked.reply.finish(Err(error.clone()), log_start);
        }
        for (_, reply) in self.trims.drain(..) {
            reply.finish(Err(error.clone()), log_start);
        }
        for reply in self.on_write.drain(..) {
            reply.finish(Err(error.clone()), log_start);
        }
        for append in self.waiting.drain(..) {
            append.ticket.fill(append.place, Err(error.clone()));
        }
    }
}

/// Milliseconds since 1970, from the system's clock.
pub(super) fn system_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
