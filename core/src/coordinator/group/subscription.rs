//! Which topics a consumer subscribes to, read from the metadata it sends with its join.
//!
//! `ConsumerProtocolSubscription`: version i16, then topics as an array of strings, user data bytes?, and in later
//! versions more. All versions begin like version 0, so nothing but that is read here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::coordinator::wire::{DecodeError, Reader};

/// The topics in a consumer's metadata. They may be any texts: nobody checked them.
pub(super) fn read_topics(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(metadata);
    let _version = reader.i16()?;
    for _ in 0..reader.count(false)? {
        topics.insert(reader.str(false)?.into());
    }
    let _user_data = reader.nullable_bytes(false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(metadata: &[u8]) -> Result<Vec<String>, DecodeError> {
        let mut topics = BTreeSet::new();
        read_topics(metadata, &mut topics)?;
        Ok(topics.iter().map(|topic| topic.to_string()).collect())
    }

    #[test]
    fn a_subscription_of_any_version_names_its_topics() {
        let v0 = b"\0\0\0\0\0\x02\0\x01b\0\x02aa\xff\xff\xff\xff";
        assert_eq!(topics(v0), Ok(vec!["aa".to_owned(), "b".to_owned()]));
        let v3 = b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x01u\0\0\0\0\xff\xff\xff\xff\xff\xff";
        assert_eq!(topics(v3), Ok(vec!["t".to_owned()]));
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(topics(b""), Err(DecodeError::Short));
        assert_eq!(topics(b"\0\0\x7f\xff\xff\xff"), Err(DecodeError::Short));
        assert_eq!(topics(b"\0\0\xff\xff\xff\xff"), Err(DecodeError::Null));
        assert_eq!(topics(b"\0\0\0\0\0\x01\0\x01t"), Err(DecodeError::Short));
    }
}
