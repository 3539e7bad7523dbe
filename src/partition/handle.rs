//! A partition as everybody sees it: who leads, how far one may read, and where to send appends.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::{ArcSwap, ArcSwapOption};
use millstream_core::config::TopicConfig;
use millstream_core::partition::{AbortedTransaction, AbortedTransactions, LeaderEpochs, ProducerSnapshot};
use millstream_core::record::BatchHeader;
use millstream_core::types::{LeaderEpoch, Offset, PartitionId, TopicPartition};
use tokio::sync::{Notify, mpsc, oneshot};

use super::append::{AppendError, Appended, InternalAppend, InternalKind};
use super::ask::Ask;
use super::progress::ReplicaProgress;
use super::read::Isolation;
use super::waiters::Waiters;
use crate::log::LogView;

/// Whether this node may serve the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Elected or to be elected; its first entry is not yet applied.
    Starting,
    Leading,
    /// Another replica leads, or nobody does.
    Following,
    /// Its log failed or is damaged: KAFKA_STORAGE_ERROR.
    Offline,
}

/// A handle; cheap to share. The shard writes the watermarks, everyone reads them.
pub struct Partition {
    pub id: PartitionId,
    pub name: TopicPartition,
    pub(super) shard: mpsc::Sender<Ask>,
    config: ArcSwap<TopicConfig>,
    /// None before the log is open. A replica that is opened again brings a new one.
    view: ArcSwapOption<LogView>,
    leadership: AtomicU8,
    leadership_changed: Notify,
    leader_epoch: AtomicI32,
    /// It follows a leader that it hears of.
    is_fed: AtomicBool,
    log_start: AtomicI64,
    high_watermark: AtomicI64,
    /// At most the high watermark, and never beyond it.
    last_stable: AtomicI64,
    log_end: AtomicI64,
    epochs: Mutex<LeaderEpochs>,
    aborted: RwLock<AbortedTransactions>,
    /// How often a snapshot has replaced what is here. Held while one does.
    replaced: Mutex<u64>,
    pub(super) waiters: Waiters,
}

impl Partition {
    pub(super) fn new(
        id: PartitionId,
        name: TopicPartition,
        config: Arc<TopicConfig>,
        shard: mpsc::Sender<Ask>,
    ) -> Self {
        Self {
            id,
            name,
            shard,
            config: ArcSwap::new(config),
            view: ArcSwapOption::empty(),
            leadership: AtomicU8::new(Leadership::Starting as u8),
            leadership_changed: Notify::new(),
            leader_epoch: AtomicI32::new(0),
            is_fed: AtomicBool::new(false),
            log_start: AtomicI64::new(0),
            high_watermark: AtomicI64::new(0),
            last_stable: AtomicI64::new(0),
            log_end: AtomicI64::new(0),
            epochs: Mutex::default(),
            aborted: RwLock::default(),
            replaced: Mutex::default(),
            waiters: Waiters::default(),
        }
    }

    pub fn leadership(&self) -> Leadership {
        match self.leadership.load(Ordering::Acquire) {
            0 => Leadership::Starting,
            1 => Leadership::Leading,
            2 => Leadership::Following,
            _ => Leadership::Offline,
        }
    }

    /// Ends when `leadership` is another than this, and gives it. Of several changes in a row the last.
    pub async fn leadership_other_than(&self, known: Leadership) -> Leadership {
        loop {
            let mut changed = pin!(self.leadership_changed.notified());
            // From here on a change is not missed.
            changed.as_mut().enable();
            let now = self.leadership();
            if now != known {
                return now;
            }
            changed.await;
        }
    }

    pub fn is_leading(&self) -> bool {
        self.leadership() == Leadership::Leading
    }

    /// The latest epoch whose leader is known here: this node, or the one it follows. 0 before there was any.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch.load(Ordering::Acquire))
    }

    /// Whether consumers may read here though another replica leads (KIP-392): not where that is not heard of, for then
    /// what is committed elsewhere is not either.
    pub fn feeds_consumers(&self) -> bool {
        self.leadership() == Leadership::Following && self.is_fed.load(Ordering::Acquire)
    }

    /// The epoch in which this node leads. It may be over by the time it is looked at: what is appended under it is
    /// refused then.
    pub fn leading_epoch(&self) -> Option<LeaderEpoch> {
        // Before the leadership: a step-down is told before the next epoch is there, so an epoch that is read goes
        // with this leadership or an older one.
        let epoch = self.leader_epoch();
        self.is_leading().then_some(epoch)
    }

    /// The topic's settings in force.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    pub(super) fn set_config(&self, config: Arc<TopicConfig>) {
        self.config.store(config);
    }

    /// First offset that may be read.
    pub fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    /// The offset after the last committed record.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The offset after the last record whose transaction, and those of all before it, are decided.
    pub fn last_stable(&self) -> Offset {
        // Records of an undecided transaction may be deleted.
        Offset(self.last_stable.load(Ordering::Acquire)).max(self.log_start())
    }

    /// How far a reader may go: the one place that decides it.
    pub fn read_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable(),
        }
    }

    /// The transactions that were aborted, to be looked at after the last stable offset that they are needed up to.
    pub(super) fn aborted(&self) -> RwLockReadGuard<'_, AbortedTransactions> {
        self.aborted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset after the last appended record.
    pub fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// Bytes of the segments with records; 0 before the log is open.
    pub fn size_bytes(&self) -> u64 {
        self.view.load().as_ref().map_or(0, |view| view.record_size_bytes())
    }

    pub fn segment_count(&self) -> usize {
        self.view.load().as_ref().map_or(0, |view| view.segment_count())
    }

    /// How often a snapshot has taken the place of the log, since the start.
    pub fn replacements(&self) -> u64 {
        *self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was folded from the log since `replacements` were so many. `None`: the log is another now, and what is
    /// stored of its fold is forgotten: `write` did not run.
    pub fn unless_replaced<T>(&self, replacements: u64, write: impl FnOnce() -> T) -> Option<T> {
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        (*replaced == replacements).then(write)
    }

    pub(super) fn view(&self) -> Option<Arc<LogView>> {
        self.view.load_full()
    }

    pub(super) fn with_epochs<T>(&self, look: impl FnOnce(&LeaderEpochs) -> T) -> T {
        look(&self.epochs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    // What follows is called by the owning shard only.

    /// `write` replaces what is stored about the partition.
    pub(super) fn replace_with<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        *replaced += 1;
        write()
    }

    pub(super) fn set_view(&self, view: Arc<LogView>) {
        self.view.store(Some(view));
    }

    pub(super) fn set_leadership(&self, leadership: Leadership) {
        if self.leadership.swap(leadership as u8, Ordering::AcqRel) != leadership as u8 {
            self.leadership_changed.notify_waiters();
        }
    }

    pub(super) fn set_epochs(&self, epochs: &LeaderEpochs) {
        *self.epochs.lock().unwrap_or_else(PoisonError::into_inner) = epochs.clone();
    }

    pub(super) fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        let before = self.leader_epoch.swap(epoch.0, Ordering::AcqRel);
        assert!(epoch.0 >= before, "leader epoch of {} went back from {before} to {epoch}", self.name);
    }

    /// Whether a leader is followed and heard of. Those who wait for records are told when that changes.
    pub(super) fn set_fed(&self, is_fed: bool) {
        if self.is_fed.swap(is_fed, Ordering::AcqRel) != is_fed {
            self.waiters.changed();
        }
    }

    pub(super) fn set_log_end(&self, end: Offset) {
        self.log_end.store(end.0, Ordering::Release);
    }

    pub(super) fn advance_log_start(&self, start: Offset) {
        let before = self.log_start.swap(start.0, Ordering::AcqRel);
        assert!(start.0 >= before, "log start of {} went back from {before} to {start}", self.name);
    }

    /// They become known before the last stable offset passes their markers.
    pub(super) fn note_aborted(&self, aborted: Vec<AbortedTransaction>) {
        if !aborted.is_empty() {
            let mut known = self.write_aborted();
            aborted.into_iter().for_each(|aborted| known.push(aborted));
        }
    }

    pub(super) fn write_aborted(&self) -> RwLockWriteGuard<'_, AbortedTransactions> {
        self.aborted.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the high watermark; what was decided stays so. True: it moved.
    pub(super) fn advance_last_stable(&self, to: Offset) -> bool {
        self.last_stable.fetch_max(to.0, Ordering::AcqRel) < to.0
    }

    pub(super) fn advance_high_watermark(&self, to: Offset) {
        let before = self.high_watermark.swap(to.0, Ordering::AcqRel);
        assert!(to.0 >= before, "high watermark of {} went back from {before} to {to}", self.name);
    }

    // Asks to the shard.

    /// Appends a batch that this broker made (coordinators, metadata), if this node still leads in `epoch`: what was
    /// decided on an earlier state of the log must not come after what another leader appended. Its place is taken
    /// when this returns; the receiver ends when it is committed. An error of the receiver: the node stops.
    pub async fn append_internal(
        &self,
        epoch: LeaderEpoch,
        header: BatchHeader,
        bytes: bytes::Bytes,
    ) -> Result<(Appended, oneshot::Receiver<Result<(), AppendError>>), AppendError> {
        self.append_into(epoch, header, bytes, InternalKind::Plain { last_room: false }).await
    }

    /// As `append_internal`, for what must be possible on a full disk, too: the deletion of a topic makes room.
    pub async fn append_metadata(
        &self,
        epoch: LeaderEpoch,
        header: BatchHeader,
        bytes: bytes::Bytes,
    ) -> Result<(Appended, oneshot::Receiver<Result<(), AppendError>>), AppendError> {
        self.append_into(epoch, header, bytes, InternalKind::Plain { last_room: true }).await
    }

    pub(super) async fn append_into(
        &self,
        epoch: LeaderEpoch,
        header: BatchHeader,
        bytes: bytes::Bytes,
        kind: InternalKind,
    ) -> Result<(Appended, oneshot::Receiver<Result<(), AppendError>>), AppendError> {
        let (placed, place) = oneshot::channel();
        let (done, committed) = oneshot::channel();
        let ask = InternalAppend { id: self.id, epoch, header, bytes, kind, placed, committed: done };
        self.send(Ask::AppendInternal(Box::new(ask))).await?;
        let appended = place.await.map_err(|_| AppendError::NotLeader)??;
        Ok((appended, committed))
    }

    /// Lets the log start at `offset` (at most the high watermark, at least the present start); answers once that is
    /// committed.
    pub async fn trim(&self, offset: Offset) -> Result<Offset, AppendError> {
        let (reply, done) = oneshot::channel();
        self.send(Ask::Trim { id: self.id, offset, reply }).await?;
        done.await.map_err(|_| AppendError::NotLeader)?
    }

    /// How far each replica is; empty where this node does not lead.
    pub async fn progress(&self) -> Result<Vec<ReplicaProgress>, AppendError> {
        let (reply, done) = oneshot::channel();
        self.send(Ask::Progress { id: self.id, reply }).await?;
        done.await.map_err(|_| AppendError::NotLeader)
    }

    /// The producers with an identity that the partition knows.
    pub async fn producers(&self) -> Result<Vec<ProducerSnapshot>, AppendError> {
        let (reply, done) = oneshot::channel();
        self.send(Ask::Producers { id: self.id, reply }).await?;
        done.await.map_err(|_| AppendError::NotLeader)
    }

    pub(super) async fn send(&self, ask: Ask) -> Result<(), AppendError> {
        self.shard.send(ask).await.map_err(|_| AppendError::NotLeader)
    }
}
