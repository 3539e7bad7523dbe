use bytes::{BufMut, BytesMut};
use kafka_protocol::protocol::Decodable;

use super::super::encode::{Encode, writer};
use super::super::samples::{check_codec, check_codec_beyond_the_crate};
use super::super::writer::Writer;
use super::*;

impl Encode for ShareFetchRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        fields.nullable_string(self.group_id.as_deref())?;
        fields.nullable_string(self.member_id.as_deref())?;
        for number in [
            self.share_session_epoch,
            self.max_wait_ms,
            self.min_bytes,
            self.max_bytes,
            self.max_records,
            self.batch_size,
        ] {
            fields.i32(number);
        }
        if version >= ACQUIRE_MODE_FROM {
            fields.i8(self.share_acquire_mode);
            fields.bool(self.is_renew_ack);
        }
        fields.array(&self.topics, write_share_topic)?;
        fields.array(&self.forgotten_topics, |fields, topic| {
            fields.uuid(topic.topic_id);
            fields.array(&topic.partitions, |fields, index| {
                fields.i32(*index);
                Ok(())
            })?;
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

pub(in super::super) fn write_share_topic(fields: &mut Writer<'_>, topic: &ShareTopic) -> Result<(), EncodeError> {
    fields.uuid(topic.topic_id);
    fields.array(&topic.partitions, |fields, partition| {
        fields.i32(partition.index);
        fields.array(&partition.acknowledgements, |fields, batch| {
            fields.i64(batch.first_offset);
            fields.i64(batch.last_offset);
            fields.array(&batch.types, |fields, kind| {
                fields.i8(*kind);
                Ok(())
            })?;
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    })?;
    fields.no_tags();
    Ok(())
}

#[test]
fn requests_are_read_as_the_crate_writes_them_and_version_2_comes_back() {
    check_codec::<ShareFetchRequest, messages::ShareFetchRequest>(shape::request(KEY));
    check_codec_beyond_the_crate::<ShareFetchRequest>(shape::request(KEY), 2);
}

/// The response's bytes after length and header.
fn body_of(version: i16, response: ShareFetchResponse) -> Bytes {
    let frame = encode_share_fetch_response(version, 7, response).expect("it can be said");
    let mut bytes = BytesMut::new();
    for part in frame.parts() {
        match part {
            Part::Bytes(part) => bytes.put_slice(part),
            Part::File(_) => panic!("no file was given"),
        }
    }
    bytes.freeze().slice(9..)
}

#[test]
fn responses_are_what_the_crate_reads() {
    let id = Uuid::from_u128(5);
    let acquired = AcquiredRecords { first_offset: 3, last_offset: 9, delivery_count: 2 };
    let full = ShareFetchPartitionResponse {
        index: 4,
        error_code: 6,
        acknowledge_error_code: 121,
        acknowledge_error_message: Some("why".into()),
        current_leader: Some(CurrentLeader { leader_id: 2, leader_epoch: 8 }),
        records: vec![Part::Bytes(Bytes::from_static(b"one")), Part::Bytes(Bytes::from_static(b"two"))],
        acquired: vec![acquired],
    };
    let partitions = vec![full, ShareFetchPartitionResponse { index: 5, ..Default::default() }];
    let endpoint = NodeEndpoint { node_id: 2, host: "h".into(), port: 9, rack: None };
    let response = ShareFetchResponse {
        error_code: 0,
        acquisition_lock_timeout_ms: 30_000,
        topics: vec![ShareFetchTopicResponse { topic_id: id, partitions }],
        node_endpoints: vec![endpoint],
    };
    // The layout of both versions is one.
    let mut body = body_of(1, response.clone());
    assert_eq!(body, body_of(2, response));
    let read = messages::ShareFetchResponse::decode(&mut body, 1).expect("sound");
    assert!(body.is_empty(), "{body:?}");
    assert_eq!((read.acquisition_lock_timeout_ms, read.responses[0].topic_id), (30_000, id));
    let (full, empty) = (&read.responses[0].partitions[0], &read.responses[0].partitions[1]);
    assert_eq!((full.partition_index, full.error_code, full.acknowledge_error_code), (4, 6, 121));
    assert_eq!(full.acknowledge_error_message.as_deref(), Some("why"));
    assert_eq!((full.current_leader.leader_id, full.current_leader.leader_epoch), (2, 8));
    assert_eq!(full.records.as_deref(), Some(&b"onetwo"[..]));
    let read_acquired = &full.acquired_records[0];
    assert_eq!((read_acquired.first_offset, read_acquired.last_offset, read_acquired.delivery_count), (3, 9, 2));
    assert_eq!((empty.current_leader.leader_id, empty.records.as_deref()), (0, Some(&b""[..])));
    assert_eq!((read.node_endpoints[0].node_id.0, read.node_endpoints[0].port), (2, 9));
}
