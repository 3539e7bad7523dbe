//! What clients ask: to write, and to read what was written before.

use millstream_core::partition::Admission;
use millstream_core::replica::EntryKind;
use millstream_core::types::Offset;

use super::cluster::{Cluster, Event};
use super::node::Node;

impl Cluster {
    /// Acknowledges what is committed. What was cut off is not, nor what waited at a log that a snapshot has replaced.
    pub(super) fn answer(&mut self, node: usize, boot: u64, is_installed: bool, cut: Option<Offset>) {
        let Some(parked) = self.parked.get_mut(&(node, boot)) else { return };
        if is_installed {
            parked.clear();
        }
        let (log, applied) = (&self.nodes[node].log, self.nodes[node].applied);
        let committed = log.end_at(applied).expect("what is applied is there");
        parked.retain(|(last, write)| {
            let is_cut = cut.is_some_and(|from| *last >= from);
            if !is_cut && *last < committed {
                self.writers.answer(*write);
            }
            !is_cut && *last >= committed
        });
    }

    /// One of those who believe that they lead.
    fn some_leader(&mut self) -> Option<usize> {
        let leads = |n: &Node| n.replica.as_ref().is_some_and(|r| r.is_leader());
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(|n| leads(&self.nodes[*n])).collect();
        self.chance.pick(&leaders)
    }

    pub(super) fn propose(&mut self) {
        if let Some(node) = self.some_leader() {
            let boot = self.nodes[node].boot;
            for write in self.writers.send(&mut self.chance) {
                let last = match self.nodes[node].producers.check(&write.header(), None) {
                    Ok(Admission::Duplicate { last_offset, .. }) => last_offset,
                    Ok(Admission::New) => {
                        let batch = write.descriptor(self.nodes[node].log.end());
                        let replica = self.nodes[node].replica.as_mut().expect("it leads");
                        let Ok((term, index)) = replica.propose(EntryKind::Batch(batch)) else { break };
                        self.proposed.insert((node, index, term), batch.crc);
                        batch.base_offset.plus(i64::from(batch.count) - 1)
                    }
                    // Those before it are elsewhere.
                    Err(_) => break,
                };
                self.parked.entry((node, boot)).or_default().push((last, write));
                self.work(node);
            }
        }
        let next = 5 + self.chance.below(60);
        self.at(next, Event::Propose);
    }

    pub(super) fn read(&mut self) {
        if let Some(node) = self.some_leader() {
            let replica = self.nodes[node].replica.as_mut().expect("it leads");
            if let Ok(number) = replica.read_index() {
                let boot = self.nodes[node].boot;
                self.reads.insert((node, boot, number), self.checks.last_acknowledged());
                self.work(node);
            }
        }
        let next = 20 + self.chance.below(200);
        self.at(next, Event::Read);
    }
}
