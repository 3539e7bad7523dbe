//! Kafka's zig-zag varints (`org.apache.kafka.common.utils.ByteUtils`), for records.

use super::records::RecordError;

/// Longest encodings, bytes.
const VARINT_LEN_MAX: u32 = 5;
const VARLONG_LEN_MAX: u32 = 10;

/// Takes an i32 off the front. Bits beyond 32 in the last byte are dropped, as Kafka does.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<i32, RecordError> {
    // Most are one byte long: deltas, small sizes, header counts.
    if let Some((&first, rest)) = bytes.split_first()
        && first < 0x80
    {
        *bytes = rest;
        let first = i32::from(first);
        return Ok((first >> 1) ^ -(first & 1));
    }
    let raw = take_unsigned(bytes, VARINT_LEN_MAX)?;
    let raw = (raw & u64::from(u32::MAX)) as u32;
    Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
}

/// Takes an i64 off the front.
#[inline]
pub(super) fn take_varlong(bytes: &mut &[u8]) -> Result<i64, RecordError> {
    let raw = take_unsigned(bytes, VARLONG_LEN_MAX)?;
    Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
}

fn take_unsigned(bytes: &mut &[u8], len_max: u32) -> Result<u64, RecordError> {
    let mut value = 0u64;
    for at in 0..len_max {
        let Some((&byte, rest)) = bytes.split_first() else {
            return Err(RecordError::Truncated);
        };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(RecordError::Varint)
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(out, u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()));
}

pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn put_unsigned(out: &mut Vec<u8>, mut raw: u64) {
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(small in any::<i32>(), large in any::<i64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, small);
            put_varlong(&mut out, large);
            let mut rest = out.as_slice();
            prop_assert_eq!(take_varint(&mut rest).unwrap(), small);
            prop_assert_eq!(take_varlong(&mut rest).unwrap(), large);
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn endless_and_cut_numbers_are_refused() {
        assert_eq!(take_varint(&mut [0x80; 9].as_slice()), Err(RecordError::Varint));
        assert_eq!(take_varlong(&mut [0xff; 12].as_slice()), Err(RecordError::Varint));
        assert_eq!(take_varlong(&mut [0xff; 3].as_slice()), Err(RecordError::Truncated));
        assert_eq!(take_varint(&mut [].as_slice()), Err(RecordError::Truncated));
    }
}
