//! The numbers of APIs.

use std::fmt::{self, Debug, Formatter};

use kafka_protocol::messages::ApiKey;

use super::shape;

/// The number of an API. Not the crate's enumeration, which lacks some.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub i16);

impl Key {
    pub const STREAMS_GROUP_HEARTBEAT: Self = Self(88);
    pub const STREAMS_GROUP_DESCRIBE: Self = Self(89);

    pub const fn of(key: ApiKey) -> Self {
        Self(key as i16)
    }
}

impl PartialEq<ApiKey> for Key {
    fn eq(&self, other: &ApiKey) -> bool {
        self.0 == *other as i16
    }
}

/// Kafka's name of the API; its number where it is none of Kafka's.
impl Debug for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (ApiKey::try_from(self.0), shape::request(self.0)) {
            (Ok(known), _) => write!(f, "{known:?}"),
            (Err(_), Some(shape)) => f.write_str(shape.name),
            (Err(_), None) => write!(f, "API {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_has_kafkas_name() {
        let name = |key| format!("{:?}", Key(key));
        assert_eq!(
            [name(0), name(88), name(89), name(-7)],
            ["Produce", "StreamsGroupHeartbeat", "StreamsGroupDescribe", "API -7"]
        );
    }
}
