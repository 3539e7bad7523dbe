//! Bytes of the flexible encoding, for the versions that the crate `kafka-protocol` does not know yet.

use bytes::{Buf, Bytes};
use uuid::Uuid;

/// Writes fields one after another.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn i8(mut self, v: i8) -> Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub fn i32(mut self, v: i32) -> Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub fn i64(mut self, v: i64) -> Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub fn uuid(mut self, v: Uuid) -> Self {
        self.0.extend(v.as_bytes());
        self
    }

    pub fn varint(mut self, mut v: u32) -> Self {
        while v >= 0x80 {
            self.0.push((v & 0x7f) as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
        self
    }

    /// The length of an array; its elements follow.
    pub fn array(self, count: usize) -> Self {
        self.varint(u32::try_from(count).expect("count") + 1)
    }

    pub fn string(self, v: &str) -> Self {
        let mut out = self.array(v.len());
        out.0.extend(v.as_bytes());
        out
    }

    /// A string or an array that is null.
    pub fn null(self) -> Self {
        self.varint(0)
    }

    /// The tagged fields, of which there are none.
    pub fn tags(self) -> Self {
        self.varint(0)
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields one after another; panics where they end too early.
pub struct Reader(pub Bytes);

impl Reader {
    pub fn i8(&mut self) -> i8 {
        self.0.get_i8()
    }

    pub fn i16(&mut self) -> i16 {
        self.0.get_i16()
    }

    pub fn i32(&mut self) -> i32 {
        self.0.get_i32()
    }

    pub fn i64(&mut self) -> i64 {
        self.0.get_i64()
    }

    pub fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.0.get_u128())
    }

    pub fn varint(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.0.get_u8();
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        panic!("a varint of more than five bytes");
    }

    /// The length of an array, None for null.
    pub fn array(&mut self) -> Option<usize> {
        self.varint().checked_sub(1).map(|n| n as usize)
    }

    pub fn string(&mut self) -> Option<String> {
        let length = self.array()?;
        Some(String::from_utf8(self.0.split_to(length).to_vec()).expect("UTF-8"))
    }

    /// Skips tagged fields.
    pub fn tags(&mut self) {
        for _ in 0..self.varint() {
            self.varint();
            let length = self.varint() as usize;
            self.0.advance(length);
        }
    }

    #[track_caller]
    pub fn end(&self) {
        assert_eq!(self.0.remaining(), 0, "bytes after the response");
    }
}
