//! A frame as it comes from a socket: header, guard, decoder. Whatever the bytes are, there is an error or a request,
//! and no memory out of proportion (`fuzz/run` sets the limit).
#![no_main]

use bytes::Bytes;
use kafka_protocol::messages::*;
use libfuzzer_sys::fuzz_target;
use millstream::protocol::{decode, decode_request_header, guard};

macro_rules! decode_any {
    ($key:expr, $version:expr, $body:expr, $($request:ident),+ $(,)?) => {
        $(if $key == <$request as kafka_protocol::protocol::Request>::KEY {
            drop(decode::<$request>($version, $body.clone()));
        })+
    };
}

fuzz_target!(|data: &[u8]| {
    let frame = Bytes::copy_from_slice(data);
    let Ok((header, body)) = decode_request_header(&frame) else { return };
    let (key, version) = (header.api_key, header.version);
    drop(guard::check_response(key, version, &body));
    drop(decode::<millstream::protocol::produce::ProduceRequest>(version, body.clone()));
    drop(decode::<millstream::protocol::offset_commit::OffsetCommitRequest>(version, body.clone()));
    drop(decode::<millstream::protocol::offset_fetch::OffsetFetchRequest>(version, body.clone()));
    drop(decode::<millstream::protocol::log_dirs::DescribeLogDirsRequest>(version, body.clone()));
    drop(decode::<millstream::protocol::streams_group::StreamsGroupHeartbeatRequest>(version, body.clone()));
    drop(decode::<millstream::protocol::streams_group::StreamsGroupDescribeRequest>(version, body.clone()));
    decode_any!(
        key,
        version,
        body,
        FetchRequest,
        ListOffsetsRequest,
        MetadataRequest,
        FindCoordinatorRequest,
        JoinGroupRequest,
        HeartbeatRequest,
        LeaveGroupRequest,
        SyncGroupRequest,
        DescribeGroupsRequest,
        ListGroupsRequest,
        ApiVersionsRequest,
        CreateTopicsRequest,
        DeleteTopicsRequest,
        DeleteRecordsRequest,
        InitProducerIdRequest,
        OffsetForLeaderEpochRequest,
        DescribeConfigsRequest,
        AlterConfigsRequest,
        AlterReplicaLogDirsRequest,
        CreatePartitionsRequest,
        DeleteGroupsRequest,
        IncrementalAlterConfigsRequest,
        OffsetDeleteRequest,
        DescribeQuorumRequest,
        UpdateFeaturesRequest,
        DescribeClusterRequest,
        DescribeProducersRequest,
        ListConfigResourcesRequest,
        DescribeTopicPartitionsRequest,
    );
});
