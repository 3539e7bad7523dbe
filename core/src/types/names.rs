//! Topic names, with Kafka's rules (`org.apache.kafka.common.internals.Topic`).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest topic name, in bytes (Kafka `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_LEN_MAX: usize = 249;

/// A legal topic name: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// Why a name is no topic name. The text is Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    #[error("Topic name is invalid: the length of '{0}' is longer than the max allowed length {TOPIC_NAME_LEN_MAX}")]
    TooLong(String),
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    IllegalCharacter(String),
}

impl TopicName {
    /// Checks Kafka's rules; the error names the first one that is broken.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        match name {
            "" => return Err(InvalidTopicName::Empty),
            "." | ".." => return Err(InvalidTopicName::Dots(name.to_owned())),
            _ => {}
        }
        if name.len() > TOPIC_NAME_LEN_MAX {
            return Err(InvalidTopicName::TooLong(name.to_owned()));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(InvalidTopicName::IllegalCharacter(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Kafka's internal topics: hidden from consumers that exclude them, not writable by clients.
    pub fn is_internal(&self) -> bool {
        matches!(self.as_str(), "__consumer_offsets" | "__transaction_state" | "__share_group_state")
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules_hold() {
        assert_eq!(TopicName::new(""), Err(InvalidTopicName::Empty));
        assert_eq!(TopicName::new(".."), Err(InvalidTopicName::Dots("..".into())));
        assert_eq!(TopicName::new(&"a".repeat(250)), Err(InvalidTopicName::TooLong("a".repeat(250))));
        assert_eq!(TopicName::new("a b"), Err(InvalidTopicName::IllegalCharacter("a b".into())));
        assert_eq!(TopicName::new("ä"), Err(InvalidTopicName::IllegalCharacter("ä".into())));
        assert!(TopicName::new(&"a".repeat(249)).is_ok());
        assert!(TopicName::new("orders.v1_x-Y").is_ok());
    }
}
