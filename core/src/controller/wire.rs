//! The bytes of commands and stored entities: big-endian numbers of fixed size, and lengths as varints before what
//! they count.

use uuid::Uuid;

/// Bytes that are no whole command or entity. They came from our own disk or from a peer, checked by CRC: this is
/// damage or a mistake, and whoever reads stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at} is cut short or out of range")]
pub struct WireError {
    pub what: &'static str,
    pub at: usize,
}

#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.0.extend(value.as_bytes());
        self
    }

    /// Seven bits a byte, the low ones first.
    pub(super) fn len(&mut self, mut value: usize) -> &mut Self {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.u8((value & 0x7f) as u8)
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.len(value.len()).0.extend(value.as_bytes());
        self
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.len(value.len()).0.extend(value);
        self
    }

    /// One more than the length, or 0 for none.
    pub(super) fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            None => self.len(0),
            Some(value) => {
                self.len(value.len() + 1).0.extend(value.as_bytes());
                self
            }
        }
    }

    pub(super) fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut put: impl FnMut(&mut Self, T)) {
        self.len(items.len());
        for item in items {
            put(self, item);
        }
    }
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn bad(&self, what: &'static str) -> WireError {
        WireError { what, at: self.at }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(count).ok_or_else(|| self.bad(what))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.bad(what))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let taken = self.take(N, what)?;
        Ok(taken.try_into().expect("as many bytes as were asked for"))
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    pub(super) fn i16(&mut self, what: &'static str) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    pub(super) fn uuid(&mut self, what: &'static str) -> Result<Uuid, WireError> {
        Ok(Uuid::from_bytes(self.array(what)?))
    }

    /// A count of what follows, each at least a byte: never more than the bytes that are left.
    pub(super) fn len(&mut self, what: &'static str) -> Result<usize, WireError> {
        let mut value = 0usize;
        for shift in (0..32).step_by(7) {
            let byte = self.u8(what)?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if value <= self.left() + 1 { Ok(value) } else { Err(self.bad(what)) };
            }
        }
        Err(self.bad(what))
    }

    fn utf8(&mut self, len: usize, what: &'static str) -> Result<String, WireError> {
        let at = self.at;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| WireError { what, at })
    }

    pub(super) fn bytes(&mut self, what: &'static str) -> Result<Vec<u8>, WireError> {
        let len = self.len(what)?;
        Ok(self.take(len, what)?.to_vec())
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        let len = self.len(what)?;
        self.utf8(len, what)
    }

    pub(super) fn optional_text(&mut self, what: &'static str) -> Result<Option<String>, WireError> {
        match self.len(what)? {
            0 => Ok(None),
            len => self.utf8(len - 1, what).map(Some),
        }
    }

    pub(super) fn list<T>(
        &mut self,
        what: &'static str,
        mut get: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.len(what)?;
        (0..count).map(|_| get(self)).collect()
    }

    /// All bytes must have been read.
    pub(super) fn end(self) -> Result<(), WireError> {
        if self.left() == 0 { Ok(()) } else { Err(self.bad("end")) }
    }

    /// Turns a value that was read but cannot be into an error.
    pub(super) fn checked<T>(&self, value: Option<T>, what: &'static str) -> Result<T, WireError> {
        value.ok_or_else(|| self.bad(what))
    }
}
