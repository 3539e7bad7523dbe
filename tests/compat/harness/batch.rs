//! Record batches (magic 2) as a client sends them, right or wrong in any field.

use bytes::Bytes;

/// A record batch to be. Fields left None are what they should be.
#[derive(Clone)]
pub struct Batch {
    pub base_offset: i64,
    pub length: Option<i32>,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: Option<u32>,
    pub attributes: i16,
    pub last_offset_delta: Option<i32>,
    pub base_timestamp: i64,
    pub max_timestamp: Option<i64>,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: Option<i32>,
    /// The records as they stand in the batch, in place of those added with `record`.
    pub raw_records: Option<Vec<u8>>,
    records: Vec<Record>,
}

/// Key, value, timestamp delta.
type Record = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

impl Batch {
    pub fn new() -> Batch {
        Batch {
            base_offset: 0,
            length: None,
            leader_epoch: -1,
            magic: 2,
            crc: None,
            attributes: 0,
            last_offset_delta: None,
            base_timestamp: super::now_ms(),
            max_timestamp: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: None,
            raw_records: None,
            records: Vec::new(),
        }
    }

    /// A batch of records without keys.
    pub fn of(values: &[&str]) -> Batch {
        values.iter().fold(Batch::new(), |batch, v| batch.record(None, Some(v), 0))
    }

    pub fn record(mut self, key: Option<&str>, value: Option<&str>, timestamp_delta: i64) -> Batch {
        let bytes = |s: &str| s.as_bytes().to_vec();
        self.records.push((key.map(bytes), value.map(bytes), timestamp_delta));
        self
    }

    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Batch {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    pub fn timestamp(mut self, base: i64) -> Batch {
        self.base_timestamp = base;
        self
    }

    /// Changes any field.
    pub fn with(mut self, change: impl FnOnce(&mut Batch)) -> Batch {
        change(&mut self);
        self
    }

    pub fn build(&self) -> Bytes {
        let count = i32::try_from(self.records.len()).expect("count");
        let latest = self.records.iter().map(|r| r.2).max().unwrap_or(0);
        let mut tail = Vec::new();
        tail.extend(self.attributes.to_be_bytes());
        tail.extend(self.last_offset_delta.unwrap_or(count - 1).to_be_bytes());
        tail.extend(self.base_timestamp.to_be_bytes());
        tail.extend(self.max_timestamp.unwrap_or(self.base_timestamp + latest).to_be_bytes());
        tail.extend(self.producer_id.to_be_bytes());
        tail.extend(self.producer_epoch.to_be_bytes());
        tail.extend(self.base_sequence.to_be_bytes());
        tail.extend(self.count.unwrap_or(count).to_be_bytes());
        tail.extend(self.raw_records.clone().unwrap_or_else(|| self.encode_records()));
        let mut out = Vec::new();
        out.extend(self.base_offset.to_be_bytes());
        out.extend(self.length.unwrap_or(i32::try_from(tail.len() + 9).expect("length")).to_be_bytes());
        out.extend(self.leader_epoch.to_be_bytes());
        out.extend(self.magic.to_be_bytes());
        out.extend(self.crc.unwrap_or_else(|| crc32c(&tail)).to_be_bytes());
        out.extend(tail);
        Bytes::from(out)
    }

    pub fn encode_records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, (key, value, timestamp_delta)) in self.records.iter().enumerate() {
            let mut body = vec![0];
            varlong(&mut body, *timestamp_delta);
            varlong(&mut body, i64::try_from(i).expect("delta"));
            for part in [key, value] {
                match part {
                    Some(bytes) => {
                        varlong(&mut body, i64::try_from(bytes.len()).expect("length"));
                        body.extend(bytes);
                    }
                    None => varlong(&mut body, -1),
                }
            }
            varlong(&mut body, 0);
            varlong(&mut out, i64::try_from(body.len()).expect("length"));
            out.extend(body);
        }
        out
    }
}

/// One record of `size` zero bytes as a zstd frame of run-length blocks: some 30,000 times smaller than its contents.
pub fn zstd_bomb(size: usize) -> Vec<u8> {
    let mut head = Vec::new();
    // attributes, timestamp delta, offset delta, no key, then the value's length.
    let mut body = vec![0, 0, 0, 1];
    varlong(&mut body, i64::try_from(size).expect("size"));
    varlong(&mut head, i64::try_from(body.len() + size + 1).expect("size"));
    head.extend(body);
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    let block = |out: &mut Vec<u8>, last: bool, kind: u32, size: usize| {
        let header = u32::from(last) | kind << 1 | u32::try_from(size).expect("size") << 3;
        out.extend(&header.to_le_bytes()[..3]);
    };
    block(&mut out, false, 0, head.len());
    out.extend(head);
    let mut left = size;
    while left > 0 {
        let run = left.min(128 << 10);
        block(&mut out, false, 1, run);
        out.push(0);
        left -= run;
    }
    // The number of headers: none.
    block(&mut out, true, 1, 1);
    out.push(0);
    out
}

/// A record as it stands in a fetched, uncompressed batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Of its batch.
    pub producer_id: i64,
    pub is_transactional: bool,
    /// It is a marker.
    pub is_control: bool,
}

/// The records of whole uncompressed batches; a partial batch at the end is left out, as clients do.
pub fn read(mut bytes: &[u8]) -> Vec<Read> {
    let mut out = Vec::new();
    while let Some((batch, rest)) = split(bytes) {
        assert_eq!(batch[16], 2, "magic");
        assert_eq!(be(batch, 17, 4) as u32, crc32c(&batch[21..]), "CRC of the batch at offset {}", be(batch, 0, 8));
        assert_eq!(be(batch, 21, 2) & 7, 0, "not compressed");
        let (base, first_timestamp) = (be(batch, 0, 8) as i64, be(batch, 27, 8) as i64);
        let (attributes, producer_id) = (be(batch, 21, 2), be(batch, 43, 8) as i64);
        let (is_transactional, is_control) = (attributes & 0x10 != 0, attributes & 0x20 != 0);
        let mut at = 61;
        for _ in 0..be(batch, 57, 4) {
            let length = unvarlong(batch, &mut at);
            let end = at + usize::try_from(length).expect("record length");
            at += 1;
            let timestamp = first_timestamp + unvarlong(batch, &mut at);
            let offset = base + unvarlong(batch, &mut at);
            let mut field = || {
                let length = usize::try_from(unvarlong(batch, &mut at)).ok()?;
                at += length;
                Some(batch[at - length..at].to_vec())
            };
            let (key, value) = (field(), field());
            out.push(Read { offset, timestamp, key, value, producer_id, is_transactional, is_control });
            at = end;
        }
        bytes = rest;
    }
    out
}

/// The first whole batch, and what follows it.
pub fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = 12 + usize::try_from(be(bytes.get(..12)?, 8, 4)).ok()?;
    bytes.split_at_checked(length)
}

/// A big-endian number of `n` bytes.
pub fn be(bytes: &[u8], at: usize, n: usize) -> u64 {
    bytes[at..at + n].iter().fold(0, |v, b| v << 8 | u64::from(*b))
}

fn varlong(out: &mut Vec<u8>, v: i64) {
    let mut z = (v << 1 ^ v >> 63) as u64;
    while z >= 0x80 {
        out.push((z & 0x7f) as u8 | 0x80);
        z >>= 7;
    }
    out.push(z as u8);
}

fn unvarlong(bytes: &[u8], at: &mut usize) -> i64 {
    let mut z = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        z |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    (z >> 1) as i64 ^ -((z & 1) as i64)
}

/// CRC-32C, bit by bit: slow, and not the broker's own code.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}
