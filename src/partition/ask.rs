//! What a shard is asked, and what it is told of what it asked for itself.

use std::collections::HashSet;
use std::sync::Arc;

use millstream_core::partition::{Guard, ProducerSnapshot};
use millstream_core::types::{NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence};
use tokio::sync::{mpsc, oneshot};

use super::append::{Append, AppendError, InternalAppend};
use super::cleaner::{CleanerConfig, Done, Due};
use super::members::Members;
use super::open::{Opening, Removed};
use super::progress::ReplicaProgress;
use super::quiet::Sleep;
use super::replicate::Fetched;
use super::snapshot::{Offer, SnapshotEnded, Verdict};
use super::wire::Incoming;
use crate::log::LogConfig;

/// Asks that wait for one shard. Full: the connections that ask are not read until there is room.
pub(super) const MAILBOX_MAX: usize = 1024;

/// What a shard can be asked.
pub(super) enum Ask {
    Append(Vec<Append>),
    AppendInternal(Box<InternalAppend>),
    Trim {
        id: PartitionId,
        offset: Offset,
        reply: oneshot::Sender<Result<Offset, AppendError>>,
    },
    Progress {
        id: PartitionId,
        reply: oneshot::Sender<Vec<ReplicaProgress>>,
    },
    /// Does this node lead still? Answered when a majority has said so; not answered when it does not.
    Confirm {
        id: PartitionId,
        reply: oneshot::Sender<()>,
    },
    Producers {
        id: PartitionId,
        reply: oneshot::Sender<Vec<ProducerSnapshot>>,
    },
    /// The coordinator of a transaction is about to be asked whether it knows this partition.
    BeginVerification {
        id: PartitionId,
        of: (ProducerId, ProducerEpoch, Sequence),
        bumps_epoch: bool,
        reply: oneshot::Sender<Result<Option<Guard>, AppendError>>,
    },
    /// Take over partitions and stand for their election; `reply` when all of them lead.
    Open {
        partitions: Vec<Opening>,
        reply: oneshot::Sender<()>,
    },
    /// Messages of other nodes.
    Step(Vec<Incoming>),
    /// A leader offers a snapshot: is it needed?
    LookAtOffer {
        offer: Arc<Offer<'static>>,
        reply: oneshot::Sender<Verdict>,
    },
    /// What was offered is fetched.
    InstallSnapshot {
        offer: Arc<Offer<'static>>,
        reply: oneshot::Sender<Verdict>,
    },
    /// A closed segment is damaged.
    Damaged {
        id: PartitionId,
    },
    /// Leaders of other nodes sleep.
    Sleep(Vec<Sleep>),
    /// Something happened to these nodes.
    Wake(HashSet<NodeId>),
    /// Who led these does so no more.
    WakeLeaderless(Vec<PartitionId>),
    Remove {
        id: PartitionId,
        reply: oneshot::Sender<Removed>,
    },
    /// Who shall belong to the group.
    SetMembers {
        id: PartitionId,
        members: Members,
    },
    SetConfig {
        id: PartitionId,
        config: LogConfig,
    },
    /// Apply `retention.*` to every partition.
    Retain,
    /// Which compaction is due most.
    PlanCompaction {
        config: CleanerConfig,
        except: HashSet<PartitionId>,
        reply: oneshot::Sender<Option<Due>>,
    },
    InstallCompacted {
        done: Box<Done>,
        reply: oneshot::Sender<bool>,
    },
    /// Hand the leadership of a partition to another node's replica, if it can take it.
    Transfer {
        id: PartitionId,
        to: NodeId,
        reply: oneshot::Sender<bool>,
    },
    /// Hand over every leadership that another replica can take; answers when none is left, or no more will go.
    HandOver {
        reply: oneshot::Sender<()>,
    },
    /// Forget idle producers.
    ExpireProducers,
    /// End at once.
    #[cfg(test)]
    Crash,
    /// Flush, write checkpoints, refuse what comes later.
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// A partition's part in a flush round.
#[derive(Clone, Copy)]
pub(super) struct Unsynced {
    pub id: PartitionId,
    /// A replica that was opened again does not take its predecessor's flushes.
    pub incarnation: u64,
    pub number: u64,
}

/// What a shard is told of what it asked for.
pub(super) enum Told {
    /// A round is on disk.
    Flushed(Vec<Unsynced>),
    /// What a follower lacks was read.
    Fetched(Fetched),
    /// A snapshot that was offered is installed, or not.
    SnapshotEnded(SnapshotEnded),
}

/// Where a shard is told. Not bounded: a flush must never wait for one shard, and no partition has more than a few
/// rounds or reads under way, each of which came out of the bounded mailbox.
pub(super) type Tells = mpsc::UnboundedSender<Told>;

/// Tells the shard that a round is on disk.
pub(super) fn tell_flushed(shard: Tells, parts: Vec<Unsynced>) -> Box<dyn FnOnce() + Send> {
    // Fails only when the shard has ended: then nobody waits.
    Box::new(move || drop(shard.send(Told::Flushed(parts))))
}
