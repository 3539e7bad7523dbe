//! What a commit changes: watermarks, producers, leadership, and who is woken.

use millstream_core::replica::{Entry, EntryKind};
use millstream_core::types::{LeaderEpoch, Offset, PartitionId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::append::{AppendError, Reply, answer};
use super::handle::Leadership;
use super::shard::Shard;

/// What a row of committed entries comes to.
#[derive(Default)]
struct Sum {
    bytes: u64,
    high_watermark: Option<Offset>,
    log_start: Option<Offset>,
    elected: bool,
}

impl Shard {
    pub(super) fn apply(&mut self, id: PartitionId, committed: Vec<Entry>, now: Instant) {
        let Some(owned) = self.owned.get_mut(&id) else { return };
        let (Some(group), Some(last)) = (&mut owned.group, committed.last()) else { return };
        let last = last.index;
        let mut sum = Sum::default();
        for entry in &committed {
            assert_eq!(entry.index, owned.applied.next(), "entries of {} are applied in order", owned.shared.name);
            owned.applied = entry.index;
            match entry.kind {
                EntryKind::Batch(d) => {
                    sum.high_watermark = Some(d.base_offset.plus(i64::from(d.count)));
                    sum.bytes += u64::from(d.size_bytes);
                }
                EntryKind::TrimPrefix(offset) => sum.log_start = sum.log_start.max(Some(offset)),
                EntryKind::Empty => sum.elected |= entry.term == group.term() && group.is_leader(),
                // The replica has seen to it.
                EntryKind::ConfChange(_) | EntryKind::ConfSettled => {}
            }
        }
        let goes_on = group.applied(last);
        // Less than nothing: what was proposed before the start.
        owned.kept.committed(sum.bytes);
        owned.uncommitted_bytes = owned.uncommitted_bytes.saturating_sub(sum.bytes);
        let shared = &owned.shared;
        if sum.elected {
            shared.set_epochs(group.epochs());
            shared.set_leader_epoch(LeaderEpoch::of_term(group.term()));
            let start = group.epochs().latest().map(|e| e.start_offset);
            sum.high_watermark = sum.high_watermark.max(start);
        }
        let high_watermark = sum.high_watermark.unwrap_or_default().max(shared.high_watermark());
        // One that begins anew lacks what it once had, until it is no longer held.
        let is_there = high_watermark <= group.log().next_offset() || group.replica().is_held();
        assert!(is_there, "high watermark {high_watermark} passed the log end");
        owned.producers.commit_to(high_watermark);
        shared.note_aborted(owned.producers.take_aborted());
        let was_held_back = shared.last_stable() < shared.high_watermark();
        shared.advance_high_watermark(high_watermark);
        // A log that is learnt anew does not tell yet what is decided.
        let last_stable = owned.producers.last_stable_offset(high_watermark);
        let last_stable = last_stable.filter(|_| high_watermark <= group.log().next_offset());
        let is_let_go = last_stable.is_some_and(|to| shared.advance_last_stable(to)) && was_held_back;
        if let Some(log_start) = sum.log_start {
            shared.advance_log_start(log_start.max(shared.log_start()));
            shared.write_aborted().trim_to(log_start);
            owned.kept.delete_is_due();
        }
        if sum.elected {
            owned.begin_to_lead(&self.shared, now);
        }
        let shared = &owned.shared;
        let log_start = shared.log_start();
        while let Some((_, reply)) = owned.trims.pop_front_if(|(index, _)| *index <= last) {
            reply.finish(Ok(()), log_start);
        }
        if sum.elected || sum.log_start.is_some() || is_let_go {
            shared.waiters.changed();
        } else {
            shared.waiters.committed(i64::try_from(sum.bytes).unwrap_or(i64::MAX));
        }
        self.unsaved.insert(id);
        if sum.elected {
            self.has_opened(id);
        }
        if goes_on {
            self.touch(id);
        }
        self.append_waiting(id);
    }

    /// Proposes a new log start.
    pub(super) fn trim(
        &mut self,
        id: PartitionId,
        offset: Offset,
        reply: oneshot::Sender<Result<Offset, AppendError>>,
    ) {
        let Some(owned) = self.owned.get_mut(&id) else {
            return answer(reply, Err(AppendError::NotLeader));
        };
        let shared = &owned.shared;
        let refused = match shared.leadership() {
            Leadership::Offline => Some(AppendError::Storage),
            Leadership::Starting | Leadership::Following => Some(AppendError::NotLeader),
            Leadership::Leading if offset > shared.high_watermark() => Some(AppendError::OffsetOutOfRange),
            Leadership::Leading => None,
        };
        if let Some(error) = refused {
            return answer(reply, Err(error));
        }
        if offset <= shared.log_start() {
            return answer(reply, Ok(shared.log_start()));
        }
        let Some(group) = &mut owned.group else {
            return answer(reply, Err(AppendError::Storage));
        };
        match group.propose_trim(offset) {
            Ok(proposed) => {
                owned.trims.push_back((proposed.index, Reply::Trim { reply }));
                self.touch(id);
            }
            Err(_) => answer(reply, Err(AppendError::NotLeader)),
        }
    }
}
