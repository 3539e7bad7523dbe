//! Names of the files of a partition.

use millstream_core::types::Offset;

/// What identifies a segment in its partition: `<20-digit base offset>.log`, and, after compaction,
/// `<20-digit base offset>.<generation>.log`. A compacted segment never takes the name of one it replaces, so that a
/// start after a crash knows which is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub base_offset: Offset,
    pub generation: u32,
}

/// Ending of a compacted segment that is not complete: deleted at the next start.
pub(super) const UNFINISHED: &str = ".cleaned";

impl SegmentName {
    fn stem(self) -> String {
        match self.generation {
            0 => format!("{:020}", self.base_offset.0),
            generation => format!("{:020}.{generation}", self.base_offset.0),
        }
    }

    pub fn log(self) -> String {
        self.stem() + ".log"
    }

    pub fn index(self) -> String {
        self.stem() + ".index"
    }

    pub fn unfinished(self) -> String {
        self.log() + UNFINISHED
    }

    /// Of a `.log` file.
    pub fn of_log(name: &str) -> Option<Self> {
        Self::of_stem(name.strip_suffix(".log")?)
    }

    /// Of an `.index` file.
    pub fn of_index(name: &str) -> Option<Self> {
        Self::of_stem(name.strip_suffix(".index")?)
    }

    fn of_stem(stem: &str) -> Option<Self> {
        let (offset, generation) = match stem.split_once('.') {
            None => (stem, 0),
            Some((offset, generation)) => (offset, generation.parse().ok().filter(|g| *g > 0)?),
        };
        let digits = offset.len() == 20 && offset.bytes().all(|b| b.is_ascii_digit());
        let base_offset = Offset(offset.parse().ok().filter(|_| digits)?);
        Some(Self { base_offset, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_strangers_are_none_of_ours() {
        for generation in [0, 1, 70] {
            let name = SegmentName { base_offset: Offset(1234), generation };
            assert_eq!(SegmentName::of_log(&name.log()), Some(name));
            assert_eq!(SegmentName::of_index(&name.index()), Some(name));
            assert_eq!(SegmentName::of_log(&name.unfinished()), None);
        }
        assert_eq!(SegmentName { base_offset: Offset(7), generation: 0 }.log(), "00000000000000000007.log");
        for name in ["7.log", "0000000000000000000x.log", "00000000000000000007.0.log", "99999999999999999999.log"] {
            assert_eq!(SegmentName::of_log(name), None);
        }
    }
}
