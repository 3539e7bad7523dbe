use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request};

use super::super::allocated::allocated_by;
use super::super::encode::codec_version;
use super::super::reader::{DECODED_FREE, DECODED_PER_BYTE};
use super::super::samples::{body, damage, with_seeds};
use super::super::writer::put_unsigned_varint;
use super::super::{decode, shape};
use super::*;

/// Runs `$check::<T>($args)` for every request type that the crate has and a client may send.
macro_rules! every_request {
    ($check:ident) => {
        every_request!($check: AddOffsetsToTxnRequest AddPartitionsToTxnRequest AlterClientQuotasRequest
            AlterConfigsRequest AlterPartitionReassignmentsRequest AlterReplicaLogDirsRequest
            AlterShareGroupOffsetsRequest AlterUserScramCredentialsRequest ApiVersionsRequest
            ConsumerGroupDescribeRequest ConsumerGroupHeartbeatRequest CreateAclsRequest
            CreateDelegationTokenRequest CreatePartitionsRequest CreateTopicsRequest DeleteAclsRequest
            DeleteGroupsRequest DeleteRecordsRequest DeleteShareGroupOffsetsRequest DeleteShareGroupStateRequest
            DeleteTopicsRequest
            DescribeAclsRequest DescribeClientQuotasRequest DescribeClusterRequest DescribeConfigsRequest
            DescribeDelegationTokenRequest DescribeGroupsRequest DescribeLogDirsRequest DescribeProducersRequest
            DescribeQuorumRequest DescribeShareGroupOffsetsRequest DescribeTopicPartitionsRequest
            DescribeTransactionsRequest DescribeUserScramCredentialsRequest ElectLeadersRequest EndTxnRequest
            ExpireDelegationTokenRequest FetchRequest FindCoordinatorRequest GetTelemetrySubscriptionsRequest
            HeartbeatRequest IncrementalAlterConfigsRequest InitProducerIdRequest InitializeShareGroupStateRequest
            JoinGroupRequest
            LeaveGroupRequest ListConfigResourcesRequest ListGroupsRequest ListOffsetsRequest
            ListPartitionReassignmentsRequest ListTransactionsRequest MetadataRequest OffsetCommitRequest
            OffsetDeleteRequest OffsetFetchRequest OffsetForLeaderEpochRequest ProduceRequest
            PushTelemetryRequest ReadShareGroupStateRequest ReadShareGroupStateSummaryRequest RenewDelegationTokenRequest SaslAuthenticateRequest SaslHandshakeRequest
            ShareAcknowledgeRequest ShareFetchRequest ShareGroupDescribeRequest ShareGroupHeartbeatRequest
            SyncGroupRequest TxnOffsetCommitRequest UnregisterBrokerRequest UpdateFeaturesRequest
            WriteShareGroupStateRequest WriteTxnMarkersRequest)
    };
    ($check:ident: $($request:ident)*) => { [$($check::<$request>()),*] };
}

/// Versions that the table and the crate share.
fn versions_of<T: Message>(api: &Api) -> impl Iterator<Item = i16> {
    (api.versions.first..=api.versions.last)
        .filter(|version| (T::VERSIONS.min..=T::VERSIONS.max).contains(&codec_version(api.key, *version)))
}

/// The crate reads what the table calls well formed to its end, and writes it back the same.
fn crate_agrees<T: Message + Encodable + Decodable>(
    api: &Api,
    check: fn(i16, i16, &Bytes) -> Result<usize, DecodeError>,
) {
    for version in versions_of::<T>(api) {
        with_seeds(60, |rng| {
            let named = format!("{} {version}", api.name);
            let (sample, tagged) = body(api, version, rng);
            assert_eq!(check(api.key, version, &sample), Ok(sample.len()), "{named}: the walk ends elsewhere");
            let again = recode::<T>(&named, codec_version(api.key, version), &sample);
            assert_eq!(check(api.key, version, &again), Ok(again.len()), "{named}: what the crate wrote");
            if tagged {
                assert_eq!(recode::<T>(&named, codec_version(api.key, version), &again), again, "{named}");
            } else {
                assert_eq!(again, sample, "{named}: came back changed");
            }
        });
    }
}

fn recode<T: Encodable + Decodable>(named: &str, version: i16, sample: &Bytes) -> Bytes {
    let mut rest = sample.clone();
    let message = T::decode(&mut rest, version).unwrap_or_else(|e| panic!("{named}: {e}: {sample:?}"));
    assert!(rest.is_empty(), "{named}: {} bytes are left", rest.len());
    let mut again = BytesMut::new();
    message.encode(&mut again, version).unwrap_or_else(|e| panic!("{named}: {e}"));
    again.freeze()
}

fn request_and_response_agree<T: Request>() -> i16 {
    let request = shape::request(T::KEY).expect("in the table");
    let response = shape::response(T::KEY).expect("in the table");
    for version in versions_of::<T>(request) {
        let flexible = T::header_version(version) == 2;
        assert_eq!(request.is_flexible(version), flexible, "{} {version}", request.name);
        let flexible = T::Response::header_version(version) == 1;
        assert_eq!(shape::has_flexible_response_header(response, version), flexible, "{} {version}", request.name);
    }
    crate_agrees::<T>(request, check_request);
    crate_agrees::<T::Response>(response, check_response);
    T::KEY
}

#[test]
fn the_tables_agree_with_the_crate() {
    let keys = every_request!(request_and_response_agree);
    for api in (0..100).filter_map(shape::request) {
        // Streams groups are not in the crate.
        assert!(keys.contains(&api.key) || [88, 89].contains(&api.key), "{} is not compared", api.name);
    }
}

#[test]
fn versions_without_a_codec_are_walked_to_their_end() {
    for api in (0..100).filter_map(shape::request) {
        for version in api.versions.first..=api.versions.last {
            with_seeds(10, |rng| {
                let (sample, _) = body(api, version, rng);
                assert_eq!(check_request(api.key, version, &sample), Ok(sample.len()), "{} {version}", api.name);
                if !sample.is_empty() {
                    let cut = sample.slice(..sample.len() - 1);
                    assert!(check_request(api.key, version, &cut).is_err(), "{} {version} cut", api.name);
                }
            });
        }
    }
}

/// Whatever passes the guard is decoded without a panic, within the walked bytes and the memory they justify.
fn damaged_requests_are_harmless<T: Request>() {
    let api = shape::request(T::KEY).expect("in the table");
    for version in versions_of::<T>(api) {
        with_seeds(100, |rng| {
            let whole = body(api, version, rng).0;
            let damaged = damage(&whole, rng);
            let Ok(walked) = check_request(T::KEY, version, &damaged) else { return };
            let mut rest = damaged.clone();
            let (decoded, allocated) = allocated_by(|| T::decode(&mut rest, codec_version(T::KEY, version)));
            // Text of an error and the Bytes' own reference count come on top.
            assert!(allocated <= 600 * damaged.len() + 4096, "{} {version} took {allocated}", api.name);
            match decoded {
                Ok(_) => assert_eq!(damaged.len() - rest.len(), walked, "{} {version}: {damaged:?}", api.name),
                Err(error) => assert!(error.to_string().contains("utf-8"), "{} {version}: {error}", api.name),
            }
        });
    }
}

#[test]
fn what_passes_the_guard_is_harmless() {
    every_request!(damaged_requests_are_harmless);
}

#[test]
fn noise_is_harmless() {
    with_seeds(3000, |rng| {
        use rand::RngExt;
        let noise: Bytes =
            (0..rng.random_range(0..200)).map(|_| rng.random::<u8>() >> rng.random_range(0..8)).collect();
        let (results, allocated) = allocated_by(|| {
            let produce =
                decode::<super::super::produce::ProduceRequest>(rng.random_range(3..14), noise.clone()).is_ok();
            let metadata = decode::<MetadataRequest>(rng.random_range(0..14), noise.clone()).is_ok();
            let fetch = decode::<FetchRequest>(rng.random_range(4..19), noise.clone()).is_ok();
            [produce, metadata, fetch]
        });
        assert!(allocated < 200_000, "{results:?} took {allocated}");
    });
}

#[test]
fn thirteen_bytes_do_not_ask_for_gigabytes() {
    for len in [7_i32, 1_000_000, i32::MAX] {
        let mut frame = BytesMut::new();
        frame.put_i32(len);
        frame.put_bytes(0, 6);
        let ((), allocated) = allocated_by(|| {
            decode::<MetadataRequest>(1, frame.freeze()).expect_err("no such array is there");
        });
        assert!(allocated < 1000, "{allocated}");
    }
}

/// Metadata 12: an array of `count` topics, each null name and no tags, or `tags` unknown ones.
fn metadata_topics(count: usize, tags: u32) -> Bytes {
    let mut frame = BytesMut::new();
    put_unsigned_varint(&mut frame, u32::try_from(count + 1).expect("small"));
    for _ in 0..count {
        frame.put_bytes(0, 16);
        frame.put_u8(0);
        put_unsigned_varint(&mut frame, tags);
        for tag in 0..tags {
            put_unsigned_varint(&mut frame, tag + 100);
            frame.put_u8(0);
        }
    }
    frame.put_slice(&[1, 0, 0]);
    frame.freeze()
}

#[test]
fn memory_stays_in_proportion() {
    let bound = |frame: &Bytes| DECODED_FREE + DECODED_PER_BYTE * frame.len();
    for (count, tags) in [(1, 0), (100_000, 0), (20_000, 1), (1, 100_000), (1000, 100)] {
        let frame = metadata_topics(count, tags);
        let (decoded, allocated) = allocated_by(|| decode::<MetadataRequest>(12, frame.clone()));
        assert!(decoded.is_ok(), "{count} topics with {tags} tags: {:?}", decoded.err());
        assert!(allocated <= bound(&frame), "{count} topics with {tags} tags took {allocated}");
    }
    let frame = metadata_topics(200_000, 1);
    let (decoded, allocated) = allocated_by(|| decode::<MetadataRequest>(12, frame));
    assert!(matches!(decoded, Err(DecodeError::Malformed(Malformed { fault: Fault::Outsized(_), .. }))));
    assert!(allocated < 1000, "{allocated}");
}

#[test]
fn a_million_topic_names_pass() {
    let mut frame = BytesMut::new();
    frame.put_i32(1_000_000);
    for _ in 0..1_000_000 {
        frame.put_slice(&[0, 5, b't', b'o', b'p', b'i', b'c']);
    }
    frame.put_u8(1);
    assert!(decode::<MetadataRequest>(4, frame.freeze()).is_ok());
}

fn fault(api_key: i16, version: i16, body: &[u8]) -> Fault {
    match check_request(api_key, version, &Bytes::copy_from_slice(body)) {
        Err(DecodeError::Malformed(malformed)) => malformed.fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nulls_are_refused_where_the_version_has_none() {
    // Metadata: all topics is null from version 1 on.
    assert_eq!(fault(3, 0, &[0xff, 0xff, 0xff, 0xff]), Fault::Null);
    assert_eq!(check_request(3, 1, &Bytes::from_static(&[0xff; 4])), Ok(4));
    assert_eq!(fault(3, 1, &[0xff, 0xff, 0xff, 0xfe]), Fault::Negative(-2));
}

#[test]
fn a_known_tag_must_have_its_size_and_version() {
    // Fetch 12: nothing but the cluster id in tag 0; 15 adds the replica state in tag 1.
    let fixed = [&[0; 25][..], &[1, 1, 1]].concat();
    assert_eq!(check_request(1, 12, &Bytes::from([&fixed[..], &[1, 0, 2, 2, b'c']].concat())), Ok(33));
    assert_eq!(fault(1, 12, &[&fixed[..], &[1, 0, 3, 2, b'c', 0]].concat()), Fault::TagSize { tag: 0, size: 3 });
    assert_eq!(fault(1, 12, &[&fixed[..], &[1, 1, 0]].concat()), Fault::Tag(1));
}

#[test]
fn a_structure_is_there_or_null() {
    // DescribeTopicPartitions: no topics, a limit, a cursor that may be null.
    assert_eq!(check_request(75, 0, &Bytes::from_static(&[1, 0, 0, 0, 9, 0xff, 0])), Ok(7));
    assert_eq!(check_request(75, 0, &Bytes::from_static(&[1, 0, 0, 0, 9, 1, 1, 0, 0, 0, 0, 0, 0])), Ok(13));
    assert_eq!(fault(75, 0, &[1, 0, 0, 0, 9, 0, 0]), Fault::Presence(0));
}

#[test]
fn bytes_after_the_request_are_ignored_as_kafka_does() {
    let body = Bytes::from_static(&[0, 0, 0, 0, 9, 9]);
    assert_eq!(check_request(3, 0, &body), Ok(4));
    assert!(decode::<MetadataRequest>(0, body).expect("decodes").topics.expect("not null").is_empty());
}

#[test]
fn keys_and_versions_without_a_shape_are_refused() {
    assert_eq!(check_request(52, 0, &Bytes::new()), Err(DecodeError::UnknownApi(52)));
    let unsupported = Err(DecodeError::UnsupportedVersion { api_key: 3, version: 14 });
    assert_eq!(check_request(3, 14, &Bytes::new()), unsupported);
}
