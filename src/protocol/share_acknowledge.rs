//! ShareAcknowledge (key 79), versions 1 and 2.
//!
//! Ours because `kafka-protocol` lacks version 2, which brings renewals (KIP-1222).

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::place::{CurrentLeader, NodeEndpoint};
use super::shape;
use super::share_fetch::{ShareTopic, read_share_topic};

const KEY: i16 = 79;
/// From this version on there are renewals.
const RENEW_FROM: i16 = 2;

/// What became of records that a member acquired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareAcknowledgeRequest {
    pub group_id: Option<StrBytes>,
    pub member_id: Option<StrBytes>,
    /// -1 closes the session.
    pub share_session_epoch: i32,
    /// Whether locks may be prolonged. False before version 2.
    pub is_renew_ack: bool,
    pub topics: Vec<ShareTopic>,
}

/// Whether it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareAcknowledgeResponse {
    pub error_code: i16,
    /// How long records are locked; from version 2.
    pub acquisition_lock_timeout_ms: i32,
    pub topics: Vec<ShareAcknowledgeTopicResponse>,
    /// Addresses of the leaders that partitions name.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareAcknowledgeTopicResponse {
    pub topic_id: Uuid,
    pub partitions: Vec<ShareAcknowledgePartitionResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareAcknowledgePartitionResponse {
    pub index: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    /// For NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH.
    pub current_leader: Option<CurrentLeader>,
}

impl RequestBody for ShareAcknowledgeRequest {
    const KEY: i16 = KEY;
    type Response = messages::ShareAcknowledgeResponse;
}

impl Decode for ShareAcknowledgeRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let request = Self {
            group_id: reader.nullable_string()?,
            member_id: reader.nullable_string()?,
            share_session_epoch: reader.i32()?,
            is_renew_ack: if version >= RENEW_FROM { reader.bool()? } else { false },
            topics: reader.array(read_share_topic)?,
        };
        reader.skip_tags()?;
        Ok(request)
    }
}

impl Encode for ShareAcknowledgeResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        // No throttling.
        fields.i32(0);
        fields.i16(self.error_code);
        fields.nullable_string(None)?;
        if version >= RENEW_FROM {
            fields.i32(self.acquisition_lock_timeout_ms);
        }
        fields.array(&self.topics, |fields, topic| {
            fields.uuid(topic.topic_id);
            fields.array(&topic.partitions, |fields, partition| {
                fields.i32(partition.index);
                fields.i16(partition.error_code);
                fields.nullable_string(partition.error_message.as_deref())?;
                CurrentLeader::write_or_none(partition.current_leader, fields);
                fields.no_tags();
                Ok(())
            })?;
            fields.no_tags();
            Ok(())
        })?;
        NodeEndpoint::write_all(&self.node_endpoints, &mut fields)?;
        fields.no_tags();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Decodable;

    use super::super::samples::{check_codec, check_codec_beyond_the_crate};
    use super::super::share_fetch::write_share_topic;
    use super::*;

    impl Encode for ShareAcknowledgeRequest {
        fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
            let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
            fields.nullable_string(self.group_id.as_deref())?;
            fields.nullable_string(self.member_id.as_deref())?;
            fields.i32(self.share_session_epoch);
            if version >= RENEW_FROM {
                fields.bool(self.is_renew_ack);
            }
            fields.array(&self.topics, write_share_topic)?;
            fields.no_tags();
            Ok(())
        }
    }

    #[test]
    fn requests_are_read_as_the_crate_writes_them_and_version_2_comes_back() {
        check_codec::<ShareAcknowledgeRequest, messages::ShareAcknowledgeRequest>(shape::request(KEY));
        check_codec_beyond_the_crate::<ShareAcknowledgeRequest>(shape::request(KEY), 2);
    }

    #[test]
    fn responses_are_what_the_crate_reads_and_version_2_tells_of_the_lock() {
        let partition = |index, error_code, current_leader| ShareAcknowledgePartitionResponse {
            index,
            error_code,
            error_message: (error_code != 0).then(|| "why".into()),
            current_leader,
        };
        let leader = CurrentLeader { leader_id: 2, leader_epoch: 8 };
        let topic = ShareAcknowledgeTopicResponse {
            topic_id: Uuid::from_u128(5),
            partitions: vec![partition(0, 0, None), partition(1, 6, Some(leader))],
        };
        let node_endpoints = vec![NodeEndpoint { node_id: 2, host: "h".into(), port: 9, rack: Some("r".into()) }];
        let response = ShareAcknowledgeResponse {
            error_code: 0,
            acquisition_lock_timeout_ms: 0x0102_0304,
            topics: vec![topic],
            node_endpoints,
        };
        let mut one = BytesMut::new();
        response.encode_body(1, &mut one).expect("it can be said");
        let mut two = BytesMut::new();
        response.encode_body(2, &mut two).expect("it can be said");
        // After throttle time, error code and null.
        assert_eq!(two.split_off(11), one.clone().split_off(7));
        assert_eq!(&two[7..], [1, 2, 3, 4]);
        let mut one = one.freeze();
        let read = messages::ShareAcknowledgeResponse::decode(&mut one, 1).expect("sound");
        assert!(one.is_empty(), "{one:?}");
        let partitions = &read.responses[0].partitions;
        assert_eq!(partitions.iter().map(|p| p.error_code).collect::<Vec<_>>(), [0, 6]);
        assert_eq!(partitions[1].current_leader.leader_id, 2);
        assert_eq!(read.node_endpoints[0].rack.as_deref(), Some("r"));
    }
}
