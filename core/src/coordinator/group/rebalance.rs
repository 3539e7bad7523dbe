//! How a group comes from one generation to the next.
//!
//! Preparing: everybody is to join, until all have or the rebalance timeout is over. Completing: the leader assigns.
//! Both phases are in memory only; a generation is recorded when it is stable, or empty.

use bytes::Bytes;

use super::draft::Draft;
use super::ids::MemberId;
use super::reply::SyncError;
use super::state::{InitialDelay, Member, Phase};

/// How soon a join phase to which nobody came is looked at again, at least: members may ask for rebalances of no time.
const JOIN_RETRY_MS_MIN: i32 = 100;

impl Draft<'_> {
    /// A member came, changed or left: a new generation must follow.
    pub fn rebalance(&mut self) {
        if matches!(self.group.phase, Phase::PreparingRebalance { .. }) {
            self.complete_join_if_ready();
        } else {
            self.prepare_rebalance();
        }
    }

    pub fn prepare_rebalance(&mut self) {
        if self.group.phase == Phase::CompletingRebalance {
            self.drop_assignments();
        }
        self.group.pending_syncs.clear();
        self.decision.cancel_timer(self.sync_key());
        if self.group.phase == Phase::Empty {
            self.await_first_members();
        } else {
            self.enter(Phase::PreparingRebalance { initial: None });
            if self.have_all_joined() {
                self.complete_join();
            } else {
                self.decision.set_timer(self.rebalance_key(), self.group.rebalance_timeout_ms());
            }
        }
    }

    /// Members that wait for their assignments are to join again.
    fn drop_assignments(&mut self) {
        let ids: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for id in &ids {
            self.group.member_mut(id).assignment = Bytes::new();
        }
        self.answer_syncs(Some(SyncError::RebalanceInProgress));
    }

    fn await_first_members(&mut self) {
        let delay_ms = self.config.initial_rebalance_delay_ms;
        let remaining_ms = self.group.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
        self.decision.set_timer(self.rebalance_key(), delay_ms);
        let initial = Some(InitialDelay { delay_ms, remaining_ms, member_added: false });
        self.enter(Phase::PreparingRebalance { initial });
    }

    /// The timer of the join phase fired.
    pub fn join_phase_ended(&mut self) {
        let Phase::PreparingRebalance { initial } = &mut self.group.phase else { return };
        let extended_ms = match initial {
            Some(initial) if initial.member_added && initial.remaining_ms != 0 => {
                initial.member_added = false;
                let delay_ms = self.config.initial_rebalance_delay_ms.min(initial.remaining_ms);
                initial.remaining_ms = initial.remaining_ms.saturating_sub(initial.delay_ms).max(0);
                initial.delay_ms = delay_ms;
                Some(delay_ms)
            }
            _ => None,
        };
        match extended_ms {
            Some(delay_ms) => self.decision.set_timer(self.rebalance_key(), delay_ms),
            None => self.complete_join(),
        }
    }

    /// Ends the join phase early once all have joined; never that of a group that was empty.
    pub fn complete_join_if_ready(&mut self) {
        if self.group.phase == (Phase::PreparingRebalance { initial: None }) && self.have_all_joined() {
            self.complete_join();
        }
    }

    /// Ends the join phase with those who are there.
    pub fn complete_join(&mut self) {
        self.decision.cancel_timer(self.rebalance_key());
        // Static members keep their place until their session ends (KIP-345).
        let missing = |member: &Member| member.awaiting_join.is_none() && member.instance.is_none();
        let gone: Vec<MemberId> =
            self.group.members.iter().filter(|(_, member)| missing(member)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.remove_member(id);
        }
        if self.group.members.is_empty() {
            self.become_empty();
        } else if self.elect_joined_leader() {
            self.begin_generation();
        } else {
            // Nobody joined: those who are left are static, and wait for their sessions to end.
            let retry_ms = self.group.rebalance_timeout_ms().max(JOIN_RETRY_MS_MIN);
            self.decision.set_timer(self.rebalance_key(), retry_ms);
        }
    }

    /// Leaves the lead to a member that joined. False if none did.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &MemberId| self.group.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.group.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let first = self.group.members.keys().find(|id| joined(id)).cloned();
        match first {
            Some(first) => {
                self.group.leader = Some(first);
                true
            }
            None => false,
        }
    }

    fn become_empty(&mut self) {
        self.group.generation = self.group.generation.next();
        self.group.protocol = None;
        self.group.subscribed = self.group.compute_subscribed();
        self.group.pending_syncs.clear();
        self.enter(Phase::Empty);
        self.record_generation();
    }

    fn begin_generation(&mut self) {
        self.group.generation = self.group.generation.next();
        self.group.protocol = self.group.select_protocol();
        self.group.subscribed = self.group.compute_subscribed();
        self.enter(Phase::CompletingRebalance);
        let ids: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for id in &ids {
            let joined = self.joined(id);
            self.answer_join(id, Ok(joined));
            self.group.member_mut(id).is_new = false;
            self.restart_session(id);
        }
        self.group.pending_syncs = ids.into_iter().collect();
        self.decision.set_timer(self.sync_key(), self.group.rebalance_timeout_ms());
    }
}
