//! A shard's part in replication: messages of other nodes, time, and who leads.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::replica::{Entry, Fetch, Progress, StepError};
use millstream_core::types::{LeaderEpoch, NodeId, PartitionId, RaftIndex};
use tokio::time::Instant;

use super::append::AppendError;
use super::ask::Told;
use super::handle::Leadership;
use super::in_sync::Seen;
use super::leaders::LeaderInfo;
use super::shard::{Owned, Shard};
use super::shared::{Post, Shared};
use super::throttle::{Limits, THROTTLED_BYTES};
use super::wire::{Frames, Incoming};
use crate::log::{Descriptor, LogView, LostPlace, ReadError};
use crate::raft::{Group, Outgoing, Taken, entry_of};

/// Raft's tick.
pub(super) const RAFT_TICK: Duration = Duration::from_millis(100);
/// A loop that stood still for so long (a stopped process, a stuck disk) cannot know whether it still leads: others
/// may have elected meanwhile.
const STOOD_STILL: Duration = Duration::from_millis(600);
/// How long a newborn group's preferred leader asks at every tick: the others may open their replicas a little later.
const EAGER_FOR: Duration = Duration::from_secs(1);
/// How long a deposed leader waits to hear of its successor: elections are over sooner.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(2);
/// Entries and bytes that are read off the log at a time for a follower that lags.
const FETCH_ENTRIES: usize = 64;
const FETCH_BYTES: usize = 1 << 20;

/// What a shard sends at the end of a turn, by node.
#[derive(Default)]
pub(super) struct Posts {
    urgent: HashMap<NodeId, Frames>,
    other: HashMap<NodeId, Frames>,
}

/// What was read off a log for a follower.
pub(super) struct Fetched {
    pub id: PartitionId,
    pub incarnation: u64,
    pub low: RaftIndex,
    pub entries: Vec<Entry>,
    pub batches: Vec<Bytes>,
    /// Nothing was read, for here stands something else than what was written.
    pub damage: Option<LostPlace>,
}

/// Entries, the batches of them, and what is damaged instead.
type ReadForFollower = (Vec<Entry>, Vec<Bytes>, Option<LostPlace>);

impl Shard {
    /// Takes messages of other nodes. What is for a partition that is not here is lost, as anything on a network.
    pub(super) fn step(&mut self, incoming: Vec<Incoming>) {
        let mut is_any_short = false;
        for Incoming { id, message, batches } in incoming {
            let Some(owned) = self.owned.get_mut(&id) else { continue };
            let Some(group) = &mut owned.group else { continue };
            let heard = message.term();
            match group.step(message, batches) {
                Ok(()) => {
                    if self.awake.insert(id) {
                        // Who asks has missed something: the heartbeats of a few ticks tell it.
                        owned.calm_ticks = 0;
                    }
                    self.touch(id);
                }
                Err(e @ StepError::Lost { .. }) => {
                    tracing::error!(partition = %owned.shared.name, error = %e, "the disk lost what it had, the replica learns it again");
                    self.is_short(id, heard);
                    is_any_short = true;
                }
                Err(e) => tracing::debug!(partition = %owned.shared.name, error = %e, "message not taken"),
            }
        }
        if is_any_short {
            // At once: others count on what it once had.
            tokio::task::block_in_place(|| self.reopen());
        }
    }

    /// Lets raft's time go on where there is more than one replica, and something to do.
    pub(super) fn tick_raft(&mut self, now: Instant) {
        let (mut ticked, mut asleep, mut calm, mut freed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for id in &self.awake {
            let Some(owned) = self.owned.get_mut(id) else { continue };
            if !owned.group.as_ref().is_some_and(Group::has_others) {
                // One that is alone may be about to get company.
                match owned.bring_members_on(&self.shared) {
                    true => ticked.push(*id),
                    false if owned.members_are_due => {}
                    false => asleep.push(*id),
                }
                continue;
            }
            if owned.is_calm(&self.shared) {
                // Without a last heartbeat: its answers would wake.
                calm.push(*id);
                continue;
            }
            let Some(group) = &mut owned.group else { continue };
            group.tick();
            let is_leaderless = group.leader().is_none();
            owned.give_up_replies(is_leaderless, now);
            let Some(group) = &mut owned.group else { continue };
            if owned.eager_until.is_some() {
                let is_over = group.leader().is_some() || owned.eager_until.is_some_and(|until| until < now);
                match is_over {
                    true => owned.eager_until = None,
                    false => group.campaign(),
                }
            }
            owned.bring_members_on(&self.shared);
            if owned.look_at_followers(&self.shared, now) {
                owned.announce(&self.shared);
            }
            if !owned.throttled.is_empty() {
                freed.push((*id, owned.freed_reads(&self.shared)));
            }
            ticked.push(*id);
        }
        freed.into_iter().for_each(|(id, fetches)| self.read_for_followers(id, fetches));
        for id in asleep {
            self.awake.remove(&id);
        }
        ticked.into_iter().for_each(|id| self.touch(id));
        self.calm = calm;
    }

    /// Called with the time of each turn.
    pub(super) fn notice_standstill(&mut self, now: Instant) {
        let stood_for = now.duration_since(std::mem::replace(&mut self.awake_at, now));
        if stood_for < STOOD_STILL {
            return;
        }
        let mut deposed = Vec::new();
        for (id, owned) in &mut self.owned {
            if let Some(group) = owned.group.as_mut().filter(|g| g.has_others() && g.is_leader()) {
                group.step_down();
                deposed.push(*id);
            }
        }
        if !deposed.is_empty() {
            tracing::warn!(?stood_for, partitions = deposed.len(), "stood still, leaderships given up");
        }
        for id in deposed {
            self.awake.insert(id);
            // Before anything is served.
            if let Some(owned) = self.owned.get_mut(&id) {
                owned.note_role(&self.shared, now);
            }
            self.touch(id);
        }
    }

    pub(super) fn post(&mut self, id: PartitionId, outgoing: Vec<Outgoing>) {
        if outgoing.is_empty() {
            return;
        }
        let peers = self.shared.peers.load();
        for outgoing in outgoing {
            let Some(node) = peers.get(&outgoing.to) else {
                tracing::warn!(partition = %id, peer = %outgoing.to, "a replica is of a node that is not known");
                continue;
            };
            let posts = if outgoing.is_urgent { &mut self.posts.urgent } else { &mut self.posts.other };
            posts.entry(*node).or_default().push(id, outgoing);
        }
    }

    /// Sends what the turn has gathered, in one row a node.
    pub(super) fn send_posts(&mut self) {
        let Posts { urgent, other } = std::mem::take(&mut self.posts);
        let Some(outlet) = &self.shared.outlet else { return };
        for (posts, post) in [(urgent, Post::Urgent), (other, Post::Raft)] {
            for (node, frames) in posts {
                for parts in frames.finish() {
                    // Lost: raft notices, and sends what is lacking again.
                    let _is_sent: bool = outlet(node, post, parts);
                }
            }
        }
    }

    /// Reads what a follower lacks, off the loop.
    pub(super) fn read_for_followers(&mut self, id: PartitionId, fetches: Vec<Fetch>) {
        let Some(owned) = self.owned.get_mut(&id) else { return };
        for fetch in fetches {
            let Some(group) = &owned.group else { return };
            let (view, incarnation, to) = (group.view(), owned.incarnation, self.told_to.clone());
            let name = owned.shared.name.clone();
            let limits = owned.limits_of(&owned.waiting_at(fetch.low, &self.shared), &self.shared);
            let bytes_max = if limits.is_some() { THROTTLED_BYTES } else { FETCH_BYTES };
            owned.throttled.extend(limits.map(|_| fetch));
            let read = move || -> ReadForFollower {
                match read(&view, fetch, bytes_max) {
                    Ok((entries, batches)) => (entries, batches, None),
                    Err(ReadError::Corrupt { place }) => (Vec::new(), Vec::new(), Some(place)),
                    Err(e) => {
                        tracing::warn!(partition = %name, error = %e, "what a follower lacks could not be read");
                        Default::default()
                    }
                }
            };
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let read = match limits {
                    Some(limits) => limits.pass(&shared, read, |(_, batches, _)| size_of(batches)).await,
                    None => tokio::task::spawn_blocking(read).await.ok(),
                };
                // Raft asks again for what could not be read, or must not be sent now.
                let (entries, batches, damage) = read.unwrap_or_default();
                let fetched = Fetched { id, incarnation, low: fetch.low, entries, batches, damage };
                // An error: the shard has ended.
                drop(to.send(Told::Fetched(fetched)));
            });
        }
    }

    pub(super) fn fetched(&mut self, fetched: Fetched) {
        let Fetched { id, incarnation, low, entries, batches, damage } = fetched;
        let owned = self.owned.get_mut(&id).filter(|o| o.incarnation == incarnation);
        let Some(owned) = owned else { return };
        owned.throttled.retain(|fetch| fetch.low != low);
        if let Some(group) = &mut owned.group {
            group.fetched(low, &entries, batches);
            self.touch(id);
        }
        if let Some(place) = damage {
            self.found_damage(id, &place);
        }
    }
}

fn size_of(batches: &[Bytes]) -> usize {
    batches.iter().map(Bytes::len).sum()
}

fn read(view: &LogView, fetch: Fetch, bytes_max: usize) -> Result<(Vec<Entry>, Vec<Bytes>), ReadError> {
    let (mut entries, mut batches, mut bytes) = (Vec::new(), Vec::new(), 0);
    let descriptors: Vec<Descriptor> = view.entries(fetch.low, fetch.high, FETCH_ENTRIES)?;
    for d in descriptors {
        let (descriptor, payload) = view.payload(d.index)?;
        bytes += payload.len();
        let is_batch = descriptor.own_kind.is_none();
        let entry = entry_of(&descriptor, &payload).map_err(|_| ReadError::NoEntry { index: d.index })?;
        entries.push(entry);
        if is_batch {
            batches.push(payload);
        }
        if bytes >= bytes_max {
            break;
        }
    }
    Ok((entries, batches))
}

impl Owned {
    /// The nodes whose replicas wait for entries from `low` on.
    fn waiting_at(&self, low: RaftIndex, shared: &Shared) -> Vec<NodeId> {
        let (peers, Some(group)) = (shared.peers.load(), &self.group) else { return Vec::new() };
        let replica = group.replica();
        let waiting = replica.progress().filter(|(peer, progress)| *peer != replica.peer() && progress.next == low);
        waiting.filter_map(|(peer, _)| peers.get(&peer).copied()).collect()
    }

    /// What limits the reading for these nodes. None where one of them is in sync, or not throttled.
    fn limits_of(&self, waiting: &[NodeId], shared: &Shared) -> Option<Limits> {
        let is_in_sync = waiting.iter().any(|node| self.in_sync.nodes().contains(node));
        if is_in_sync { None } else { Limits::of(&self.shared, shared.identity.node, waiting) }
    }

    /// Throttled reads that nothing limits any more: the topic's lists are others, or somebody waits for the same who is
    /// not throttled. They are done at once; what comes of the throttled ones later is passed over.
    fn freed_reads(&mut self, shared: &Shared) -> Vec<Fetch> {
        let throttled = std::mem::take(&mut self.throttled);
        let (held, freed) = throttled.into_iter().partition(|fetch| {
            let waiting = self.waiting_at(fetch.low, shared);
            waiting.is_empty() || self.limits_of(&waiting, shared).is_some()
        });
        self.throttled = held;
        freed
    }

    /// A newborn group's preferred leader stands at once, and again until it is heard.
    pub(super) fn stand_eagerly(&mut self, now: Instant) {
        self.eager_until = Some(now + EAGER_FOR);
    }

    /// What a follower took may stand where something of ours was to be.
    pub(super) fn take_over(&mut self, taken: Taken) {
        let Taken { from_index, from_offset, batches } = taken;
        self.producers.truncate_from(from_offset);
        if let Some(group) = &self.group
            && self.shared.with_epochs(|known| known != group.epochs())
        {
            self.shared.set_epochs(group.epochs());
        }
        batches.into_iter().for_each(|batch| self.producers.admit(batch));
        let log_start = self.shared.log_start();
        // Not in the order of their offsets: a batch that comes again waits behind later ones.
        let (stay, void): (VecDeque<_>, VecDeque<_>) =
            self.parked.drain(..).partition(|parked| parked.last_offset < from_offset);
        self.parked = stay;
        for parked in void {
            parked.reply.finish(Err(AppendError::NotLeader), log_start);
        }
        let void = self.trims.partition_point(|(index, _)| *index < from_index);
        for (_, reply) in self.trims.drain(void..) {
            reply.finish(Err(AppendError::NotLeader), log_start);
        }
    }

    /// What a leader had taken when it was deposed waits for what its successor makes of it. Who hears of no successor is
    /// cut off, or nobody leads: clients do better to ask elsewhere (Kafka sends them away at once; what was taken comes
    /// true more often than not, and a producer that is not idempotent would write it twice).
    fn give_up_replies(&mut self, is_leaderless: bool, now: Instant) {
        if !is_leaderless || (self.parked.is_empty() && self.trims.is_empty()) {
            self.leaderless_since = None;
            return;
        }
        if now.saturating_duration_since(*self.leaderless_since.get_or_insert(now)) < SUCCESSOR_PATIENCE {
            return;
        }
        let log_start = self.shared.log_start();
        let waiting =
            self.parked.drain(..).map(|parked| parked.reply).chain(self.trims.drain(..).map(|(_, reply)| reply));
        for reply in waiting {
            reply.finish(Err(AppendError::NotLeader), log_start);
        }
    }

    /// Looks who is in sync. True when others are than before.
    fn look_at_followers(&mut self, shared: &Shared, now: Instant) -> bool {
        let Some(group) = self.group.as_ref().filter(|_| self.shared.is_leading()) else { return false };
        let (peers, dead) = (shared.peers.load(), shared.dead.load());
        let seen = Seen { own: shared.identity.node, peers: &peers, dead: &dead, lag_max: shared.replica_lag_max };
        let membership = group.replica().membership();
        // While the members change, who votes before and after: nobody else can be counted on in either case.
        let is_settled = |peer| {
            peer == group.replica().peer()
                || !membership.is_joint()
                || membership.voters.contains(&peer) && membership.voters_outgoing.contains(&peer)
        };
        let progress = group.replica().progress().map(|(peer, progress)| {
            let is_voter = progress.is_voter && is_settled(peer);
            (peer, Progress { is_voter, ..progress })
        });
        self.in_sync.look(progress, group.log().last_index(), &seen, now)
    }

    /// Tells everybody that this replica leads.
    pub(super) fn announce(&self, shared: &Shared) {
        let mut info = LeaderInfo {
            isr: self.in_sync.nodes().to_vec(),
            moves: self.wanted.as_ref().map_or(0, |members| members.moves),
            ..LeaderInfo::of(shared.identity.node, self.shared.leader_epoch())
        };
        let replica = self.group.as_ref().map(|group| group.replica());
        if let Some((replica, index)) = replica.and_then(|replica| Some((replica, replica.members_settled_at()?))) {
            (info.voters, info.members_index) = (replica.membership().voters.clone(), index);
        }
        if shared.leaders.get(self.shared.id).as_ref() != Some(&info) {
            self.tell_all(shared, info);
        }
    }

    /// Tells everybody that this replica leads no more, unless they know of another that does.
    pub(super) fn announce_end(&self, shared: &Shared) {
        let own = shared.identity.node;
        if let Some(info) = shared.leaders.get(self.shared.id).filter(|told| told.leads && told.node == own) {
            self.tell_all(shared, LeaderInfo { leads: false, ..info });
        }
    }

    fn tell_all(&self, shared: &Shared, info: LeaderInfo) {
        shared.leaders.note(shared.identity.boot, [(self.shared.id, info.clone())]);
        if shared.outlet.is_some() {
            shared.announcements.tell_all(self.shared.id, info);
        }
    }

    /// A step towards the wanted members, or the news that they are reached. True when a step was proposed.
    fn bring_members_on(&mut self, shared: &Shared) -> bool {
        let were_due = self.members_are_due;
        let is_step = self.reconcile_members();
        if were_due && !self.members_are_due {
            self.announce(shared);
        }
        is_step
    }

    /// The members have changed: who of them is in sync may have, too.
    pub(super) fn tell_members(&mut self, shared: &Shared, now: Instant) {
        if self.shared.is_leading() {
            self.look_at_followers(shared, now);
            self.announce(shared);
        }
    }

    /// Begins to lead: the first entry of its term is applied.
    pub(super) fn begin_to_lead(&mut self, shared: &Shared, now: Instant) {
        self.shared.set_leadership(Leadership::Leading);
        self.in_sync.reset();
        self.members_are_due = true;
        self.look_at_followers(shared, now);
        self.announce(shared);
    }

    /// Publishes whether this replica leads.
    pub(super) fn note_role(&mut self, shared: &Shared, now: Instant) {
        let Some(group) = &self.group else { return };
        if group.is_leader() {
            if self.leads_in != Some(group.term()) {
                self.leads_in = Some(group.term());
                self.shared.set_leadership(Leadership::Starting);
            }
            return;
        }
        if self.leads_in.take().is_some() || self.shared.leadership() == Leadership::Starting {
            tracing::debug!(partition = %self.shared.name, term = %group.term(), ?now, "follows");
            self.shared.set_leadership(Leadership::Following);
            self.stop_leading();
            self.announce_end(shared);
        }
    }

    /// Another replica leads: whoever asks here is sent there, or may read here what is committed as far as is known.
    pub(super) fn note_leader(&mut self, shared: &Shared) {
        let Some(group) = &self.group else { return };
        let (term, leader) = (group.term(), group.leader().filter(|_| !group.is_leader()));
        if let Some(leader) = leader.filter(|_| term > self.follows_in)
            && let Some(node) = shared.peers.load().get(&leader)
        {
            let epoch = LeaderEpoch::of_term(term);
            shared.leaders.note_early(self.shared.id, *node, epoch);
            self.shared.set_leader_epoch(epoch);
            self.follows_in = term;
        }
        let has_all = group.log().next_offset() >= self.shared.high_watermark();
        self.shared.set_fed(leader.is_some() && self.follows_in == term && has_all);
    }

    /// Refuses what has no place in the log. What has one waits for what becomes of it.
    fn stop_leading(&mut self) {
        self.end_confirms();
        self.producers.end_verifications();
        self.uncommitted_bytes = 0;
        let log_start = self.shared.log_start();
        for reply in self.on_write.drain(..) {
            reply.finish(Err(AppendError::NotLeader), log_start);
        }
        for append in self.waiting.drain(..) {
            append.ticket.fill(append.place, Err(AppendError::NotLeader));
        }
        self.shared.waiters.changed();
    }
}
