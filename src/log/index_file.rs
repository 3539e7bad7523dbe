//! The `.index` file of a closed segment: written once when it is closed, rebuilt from the segment when bad.
//!
//! Big-endian: magic "MSIX", version u8 = 1, base offset i64, generation u32, base index u64, length of the segment
//! u64, number of sections u32, the sections, crc32c u32 of all before. A section: tag u8, length u32, its bytes;
//! sections of unknown tag are passed over. Tag 1: points (offset u32, index u32, position u32, max timestamp before
//! i64); tag 2: own frames (offset u32, index u32, position u32, term u32).

use millstream_core::record::crc32c;
use millstream_core::types::{RaftIndex, Timestamp};

use super::index::{OwnMark, Point, SegmentIndex};
use super::names::SegmentName;

const MAGIC: [u8; 4] = *b"MSIX";
const VERSION: u8 = 1;
const TAG_POINTS: u8 = 1;
const TAG_OWN: u8 = 2;
const POINT_LEN: usize = 20;
const OWN_LEN: usize = 16;

/// What an index belongs to; a file that says otherwise is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexOf {
    pub name: SegmentName,
    pub base_index: RaftIndex,
    pub length: u64,
}

pub(super) fn encode(of: IndexOf, index: &SegmentIndex) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + index.points.len() * POINT_LEN + index.own.len() * OWN_LEN);
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&of.name.base_offset.0.to_be_bytes());
    out.extend_from_slice(&of.name.generation.to_be_bytes());
    out.extend_from_slice(&of.base_index.0.to_be_bytes());
    out.extend_from_slice(&of.length.to_be_bytes());
    out.extend_from_slice(&2u32.to_be_bytes());
    put_section_head(&mut out, TAG_POINTS, index.points.len() * POINT_LEN);
    for p in &index.points {
        for n in [p.offset, p.index, p.position] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        out.extend_from_slice(&p.max_timestamp_before.0.to_be_bytes());
    }
    put_section_head(&mut out, TAG_OWN, index.own.len() * OWN_LEN);
    for own in &index.own {
        for n in [own.offset, own.index, own.position, own.term] {
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

fn put_section_head(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(len).expect("an index below 4 GiB").to_be_bytes());
}

/// `None`: not the index of that segment, or damaged.
pub(super) fn decode(of: IndexOf, bytes: &[u8]) -> Option<SegmentIndex> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut rest = body;
    let same = take::<4>(&mut rest)? == MAGIC
        && take(&mut rest)? == [VERSION]
        && take(&mut rest)? == of.name.base_offset.0.to_be_bytes()
        && take(&mut rest)? == of.name.generation.to_be_bytes()
        && take(&mut rest)? == of.base_index.0.to_be_bytes()
        && take(&mut rest)? == of.length.to_be_bytes();
    if !same {
        return None;
    }
    let mut index = SegmentIndex::new(of.name.base_offset, of.base_index);
    for _ in 0..u32::from_be_bytes(take(&mut rest)?) {
        let [tag] = take(&mut rest)?;
        let len = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
        let (section, after) = rest.split_at_checked(len)?;
        rest = after;
        match tag {
            TAG_POINTS => index.points = section.chunks_exact(POINT_LEN).map(point).collect::<Option<_>>()?,
            TAG_OWN => index.own = section.chunks_exact(OWN_LEN).map(own_mark).collect::<Option<_>>()?,
            _ => {}
        }
    }
    Some(index)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_be_bytes)
}

fn point(mut bytes: &[u8]) -> Option<Point> {
    let bytes = &mut bytes;
    Some(Point {
        offset: take_u32(bytes)?,
        index: take_u32(bytes)?,
        position: take_u32(bytes)?,
        max_timestamp_before: Timestamp(i64::from_be_bytes(take(bytes)?)),
    })
}

fn own_mark(mut bytes: &[u8]) -> Option<OwnMark> {
    let bytes = &mut bytes;
    Some(OwnMark {
        offset: take_u32(bytes)?,
        index: take_u32(bytes)?,
        position: take_u32(bytes)?,
        term: take_u32(bytes)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::types::Offset;

    #[test]
    fn an_index_reads_back_and_damage_is_found() {
        let of = IndexOf {
            name: SegmentName { base_offset: Offset(40), generation: 0 },
            base_index: RaftIndex(9),
            length: 777,
        };
        let mut index = SegmentIndex::new(Offset(40), RaftIndex(9));
        for n in 0..5 {
            let ts = Timestamp(i64::from(n) - 1);
            index.points.push(Point { offset: n, index: n, position: 104 + n * 100, max_timestamp_before: ts });
        }
        index.own.push(OwnMark { offset: 2, index: 2, position: 304, term: 3 });
        let bytes = encode(of, &index);
        assert_eq!(decode(of, &bytes), Some(index));
        assert_eq!(decode(IndexOf { length: 778, ..of }, &bytes), None);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(of, &bad), None, "byte {at}");
            assert_eq!(decode(of, &bytes[..at]), None, "cut at {at}");
        }
    }
}
