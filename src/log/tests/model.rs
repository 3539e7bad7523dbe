//! Random histories against a plain list of entries.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::super::entries::walk_entries;
use super::*;

#[derive(Clone, Debug)]
struct ModelEntry {
    index: RaftIndex,
    term: RaftTerm,
    base_offset: Offset,
    count: i64,
    /// Of a batch as stored, or an own entry's data.
    bytes: Vec<u8>,
    own: bool,
}

impl ModelEntry {
    fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.count)
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Batches of so many records and bytes a value, in one append.
    Append(Vec<(u8, u16)>),
    NewTerm,
    Own(u8),
    Reserve(u32),
    Roll,
    Checkpoint,
    Synced,
    /// Cuts off so many entries.
    Truncate(u8),
    DeleteBelow(u8),
    Read {
        from: u8,
        len: u8,
        max_bytes: u16,
    },
    Reopen {
        killed: bool,
        forget_metas: bool,
        forget_index: bool,
    },
    /// Damages an entry that was not synced: cut, or flip a bit at a byte.
    Torn {
        which: u8,
        at: u16,
        cut: bool,
    },
    /// Bytes after the end.
    Garbage {
        zeros: bool,
        len: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec((1u8..6, 0u16..700), 1..8).prop_map(Op::Append),
        1 => Just(Op::NewTerm),
        1 => any::<u8>().prop_map(Op::Own),
        1 => (0u32..200_000).prop_map(Op::Reserve),
        1 => Just(Op::Roll),
        2 => Just(Op::Checkpoint),
        1 => Just(Op::Synced),
        2 => any::<u8>().prop_map(Op::Truncate),
        1 => any::<u8>().prop_map(Op::DeleteBelow),
        4 => (any::<u8>(), any::<u8>(), 0u16..6000).prop_map(|(from, len, max_bytes)| Op::Read { from, len, max_bytes }),
        2 => any::<[bool; 3]>().prop_map(|[killed, forget_metas, forget_index]| Op::Reopen {
            killed,
            forget_metas,
            forget_index
        }),
        2 => (any::<u8>(), any::<u16>(), any::<bool>()).prop_map(|(which, at, cut)| Op::Torn { which, at, cut }),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(zeros, len)| Op::Garbage { zeros, len }),
    ]
}

struct World {
    fixture: Fixture,
    /// All entries that are in the log.
    entries: Vec<ModelEntry>,
    first_offset: Offset,
}

impl World {
    fn new() -> Self {
        let config = LogConfig { segment_bytes: 4000, index_interval_bytes: 300, ..LogConfig::default() };
        let mut world = Self { fixture: Fixture::new(config), entries: Vec::new(), first_offset: Offset::ZERO };
        world.model_own(RaftTerm(1), &[]);
        world
    }

    fn next_index(&self) -> RaftIndex {
        self.fixture.log.as_ref().unwrap().last_index().next()
    }

    fn end_offset(&self) -> Offset {
        self.fixture.log.as_ref().unwrap().next_offset()
    }

    fn term(&self) -> RaftTerm {
        self.fixture.log.as_ref().unwrap().last_term()
    }

    fn model_own(&mut self, term: RaftTerm, data: &[u8]) {
        let (index, base_offset) = match self.entries.last() {
            Some(last) => (last.index.next(), last.next_offset()),
            None => (RaftIndex(2), Offset::ZERO),
        };
        self.entries.push(ModelEntry { index, term, base_offset, count: 0, bytes: data.to_vec(), own: true });
    }

    fn append_own(&mut self, term: RaftTerm, data: &[u8]) {
        let index = self.next_index();
        let base_offset = self.end_offset();
        self.fixture.append(Payload::Own { entry_type: 3, data: Bytes::copy_from_slice(data) }, term);
        self.entries.push(ModelEntry { index, term, base_offset, count: 0, bytes: data.to_vec(), own: true });
    }

    fn append_batches(&mut self, batches: &[(u8, u16)]) {
        let term = self.term();
        let (mut index, mut next_offset) = (self.next_index(), self.end_offset());
        let mut entries = Vec::new();
        for (records, value_len) in batches {
            let bytes = batch(usize::from(*records), usize::from(*value_len), NOW.plus_ms(next_offset.0));
            entries.push(Entry {
                index,
                term,
                next_offset,
                payload: Payload::Batch { base_offset: next_offset, bytes: bytes.clone() },
            });
            let count = i64::from(*records);
            let stored = stored(&bytes, next_offset, term);
            self.entries.push(ModelEntry { index, term, base_offset: next_offset, count, bytes: stored, own: false });
            next_offset = next_offset.plus(count);
            index = index.next();
        }
        let events = self.fixture.log().append(&entries, NOW).unwrap();
        self.fixture.learn(events);
    }

    /// What the store must no longer claim once entries from `index` on are gone.
    fn lower_claims(&mut self, index: RaftIndex) {
        let known = &mut self.fixture.known;
        known.synced_end = known.synced_end.map(|synced| synced.min(index));
        known.checkpoint = known.checkpoint.filter(|checkpoint| checkpoint.next_index <= index);
    }

    fn truncate_model(&mut self, index: RaftIndex) {
        self.entries.retain(|entry| entry.index < index);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Append(batches) => self.append_batches(&batches),
            Op::NewTerm => self.append_own(RaftTerm(self.term().0 + 1), &[]),
            Op::Own(n) => self.append_own(self.term(), &vec![n; usize::from(n % 40)]),
            Op::Reserve(bytes) => self.fixture.log().reserve(u64::from(bytes)).unwrap(),
            Op::Roll => {
                let log = self.fixture.log();
                if log.next_offset() > log.active.segment.base_offset() {
                    let meta = log.roll().unwrap();
                    self.fixture.learn(vec![LogEvent::SegmentClosed(meta)]);
                }
            }
            Op::Checkpoint => self.fixture.checkpoint(),
            Op::Synced => self.fixture.synced(),
            Op::Truncate(n) => {
                let first = self.fixture.log().first_index();
                let index = RaftIndex((self.next_index().0 - u64::from(n % 30).min(self.next_index().0)).max(first.0));
                self.lower_claims(index);
                let events = self.fixture.log().truncate_from(index).unwrap();
                self.fixture.learn(events);
                self.truncate_model(index);
            }
            Op::DeleteBelow(n) => self.delete_below(n),
            Op::Read { from, len, max_bytes } => self.read(from, len, max_bytes),
            Op::Reopen { killed, forget_metas, forget_index } => {
                self.close(killed);
                if forget_metas {
                    let mut keep = false;
                    self.fixture.known.segments.retain(|_| {
                        keep = !keep;
                        keep
                    });
                }
                if forget_index {
                    for file in self.fixture.files() {
                        drop(fs::remove_file(file.with_extension("index")));
                    }
                }
                self.open();
            }
            Op::Torn { which, at, cut } => self.tear(which, at, cut),
            Op::Garbage { zeros, len } => {
                let path = self.fixture.log().active.segment.path();
                let end = self.fixture.log().end().position;
                self.close(true);
                let file = OpenOptions::new().write(true).open(path).unwrap();
                let byte = if zeros { 0 } else { 0xa5 };
                file.write_all_at(&vec![byte; usize::from(len)], end).unwrap();
                self.open();
            }
        }
        self.check();
    }

    fn close(&mut self, killed: bool) {
        if killed {
            self.fixture.kill();
        } else {
            self.fixture.log = None;
        }
    }

    fn open(&mut self) {
        let from = self.fixture.known.checkpoint.map(|checkpoint| checkpoint.next_index);
        let frames = self.fixture.try_open().unwrap();
        let expected = self.entries.iter().filter(|entry| from.is_none_or(|from| entry.index >= from));
        let seen: Vec<_> = frames.iter().map(|(frame, bytes)| (frame.index, frame.term, bytes.as_slice())).collect();
        let expected: Vec<_> = expected.map(|entry| (entry.index, entry.term, entry.bytes.as_slice())).collect();
        assert_eq!(seen.len(), expected.len());
        assert!(seen == expected, "frames of the scan differ");
    }

    fn delete_below(&mut self, n: u8) {
        // Rests on what is durable.
        self.fixture.checkpoint();
        let span = self.end_offset().0 - self.first_offset.0;
        let log_start = self.first_offset.plus(span * i64::from(n) / 255);
        let applied = self.fixture.log().last_index();
        let events = self.fixture.log().delete_segments_below(log_start, applied).unwrap();
        self.fixture.learn(events);
        // A roll moved the end into the next segment.
        self.fixture.checkpoint();
        let (first_index, first_offset) = (self.fixture.log().first_index(), self.fixture.log().first_offset());
        assert!(first_offset <= log_start.max(self.first_offset));
        self.entries.retain(|entry| entry.index >= first_index);
        self.first_offset = first_offset;
    }

    /// Damages an entry behind the synced end, as a crash may.
    fn tear(&mut self, which: u8, at: u16, cut: bool) {
        let synced = self.fixture.known.synced_end.max(self.fixture.known.checkpoint.map(|c| c.next_index));
        let victims: Vec<RaftIndex> =
            self.entries.iter().map(|entry| entry.index).filter(|index| Some(*index) >= synced).collect();
        if victims.is_empty() || synced.is_none() {
            return;
        }
        let index = victims[usize::from(which) % victims.len()];
        let segments = self.fixture.view().segments().clone();
        let segment = segments.iter().rev().find(|segment| segment.base_index <= index).unwrap();
        let mut place = None;
        walk_entries(segment, index, |head| {
            place = Some((head.position, head.frame.size_bytes));
            false
        })
        .unwrap();
        let (position, size) = place.unwrap();
        let at = position + u64::from(at) % u64::from(size);
        let path = segment.path();
        self.close(true);
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        if cut {
            file.set_len(at).unwrap();
        } else {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << (which % 8))], at).unwrap();
        }
        self.truncate_model(index);
        self.open();
    }

    fn read(&self, from: u8, len: u8, max_bytes: u16) {
        let span = self.end_offset().0 - self.first_offset.0;
        let at = |n: u8| self.first_offset.plus(span * i64::from(n) / 255);
        let from = at(from);
        // Ends between batches, as the high watermark does.
        let wanted_end = at(len);
        let ends = self.entries.iter().map(ModelEntry::next_offset).filter(|end| *end <= wanted_end);
        let end = ends.max().unwrap_or(self.first_offset);
        let expected: Vec<u8> = self
            .entries
            .iter()
            .filter(|entry| !entry.own && entry.next_offset() > from && entry.base_offset < end)
            .flat_map(|entry| entry.bytes.iter().copied())
            .collect();
        assert!(self.fixture.read_all(from, end, usize::from(max_bytes)) == expected, "{from}..{end} by {max_bytes}");
        // Within its bounds, and the same from the cache as from the disk.
        let view = self.fixture.view();
        let first = self.entries.iter().find(|e| !e.own && e.next_offset() > from && e.next_offset() <= end);
        let slice = view.read(from, end, usize::from(max_bytes), false).unwrap();
        assert!(slice.len <= usize::from(max_bytes));
        if let Some(first) = first
            && first.bytes.len() <= usize::from(max_bytes)
        {
            assert!(slice.len >= first.bytes.len());
            assert_eq!(slice.base_offset, first.base_offset);
        }
        let cached = view.try_read(from, end, usize::from(max_bytes), false).unwrap();
        assert_eq!((cached.position, cached.len), (slice.position, slice.len));
    }

    fn check(&mut self) {
        let first_index = self.entries.first().map_or(self.next_index(), |entry| entry.index);
        let log = self.fixture.log.as_ref().unwrap();
        let last = self.entries.last();
        assert_eq!(log.last_index().next(), last.map_or(log.first_index(), |entry| entry.index.next()));
        assert_eq!(log.first_index(), first_index);
        assert_eq!(log.next_offset(), last.map_or(log.first_offset(), ModelEntry::next_offset));
        let sizes: u64 = self.fixture.files().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert_eq!(log.size_bytes(), sizes);
        let found = log.entries(first_index, log.last_index().next(), usize::MAX).unwrap();
        assert_eq!(found.len(), self.entries.len());
        for (found, entry) in found.iter().zip(&self.entries) {
            assert_eq!((found.index, found.term, found.base_offset), (entry.index, entry.term, entry.base_offset));
            assert_eq!((found.count, found.own_kind.is_some()), (entry.count, entry.own));
        }
        for entry in self.entries.iter().step_by(7).chain(last) {
            assert_eq!(log.term_at(entry.index), Some(entry.term), "term at {}", entry.index);
            let (_, bytes) = log.view().payload(entry.index).unwrap();
            assert!(bytes == entry.bytes, "payload at {}", entry.index);
        }
        assert_eq!(log.term_at(log.last_index().next()), None);
        // The store knows just the closed segments.
        let mut known: Vec<Offset> = self.fixture.known.segments.iter().map(|meta| meta.base_offset).collect();
        known.sort_unstable();
        let closed: Vec<Offset> = log.closed_segments().map(|meta| meta.base_offset).collect();
        assert_eq!(known, closed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn the_log_is_the_list_of_its_entries(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
    }

    #[test]
    fn damage_below_the_synced_end_is_lost(
        batches in prop::collection::vec((1u8..4, 0u16..500), 3..30),
        which in any::<u16>(),
        at in any::<u16>(),
        bit in 0u8..8,
        kind in 0u8..3,
        checkpoint in any::<bool>(),
    ) {
        let mut world = World::new();
        world.append_batches(&batches);
        world.fixture.synced();
        let files = world.fixture.files();
        let path = &files[usize::from(which) % files.len()];
        if checkpoint && kind == 0 {
            // What lies before it is not read again; damage there is found by the scrub or by a reader.
            world.fixture.known.checkpoint = None;
        }
        world.close(true);
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let at = u64::from(at) % len;
        match kind {
            0 => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
            }
            1 => file.set_len(at).unwrap(),
            _ => fs::remove_file(path).unwrap(),
        }
        let before: Vec<_> = world.fixture.files().iter().map(|path| fs::read(path).unwrap()).collect();
        let first_gone = kind == 2 && *path == files[0] && files.len() > 1;
        match world.fixture.try_open() {
            Err(OpenError::Lost { .. }) => {}
            // Deleted by retention, for all that the log knows: the log start tells.
            Ok(_) if first_gone => return Ok(()),
            other => prop_assert!(false, "{:?}", other.map(|frames| frames.len())),
        }
        // Nothing was changed: an operator may still look.
        let after: Vec<_> = world.fixture.files().iter().map(|path| fs::read(path).unwrap()).collect();
        prop_assert!(before == after);
    }
}
