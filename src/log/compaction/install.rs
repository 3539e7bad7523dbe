//! Swapping compacted segments in.

use super::super::meta::SegmentMeta;
use super::super::retention::delete;
use super::super::writer::{Closed, Log, LogEvent};
use super::output::Compacted;

impl Log {
    /// Puts the compacted segments in the place of their sources and deletes those; who reads them reads on. Raft's
    /// first index moves behind them. What retention deleted meanwhile stays deleted, up to whole segments.
    pub fn install_compacted(&mut self, mut compacted: Compacted) -> Vec<LogEvent> {
        let mut events = Vec::new();
        let mut replaced = Vec::new();
        let mut at = 0;
        for output in std::mem::take(&mut compacted.outputs) {
            let stands_for =
                |meta: &SegmentMeta| (output.meta.base_offset..output.meta.end_offset).contains(&meta.base_offset);
            let count = self.closed[at..].iter().take_while(|closed| stands_for(&closed.meta)).count();
            if count == 0 {
                // All its sources are gone, and it goes too.
                continue;
            }
            let (meta, segment) = output.install();
            replaced.extend(self.closed.splice(at..at + count, [Closed { meta, segment }]));
            events.push(LogEvent::SegmentClosed(meta));
            at += 1;
        }
        self.publish();
        for source in &replaced {
            let base = source.meta.base_offset;
            // A key that was just put stays.
            if !self.closed.iter().any(|closed| closed.meta.base_offset == base) {
                events.push(LogEvent::SegmentRemoved(base));
            }
        }
        delete(replaced.into_iter().map(|source| source.segment).collect());
        events
    }
}
