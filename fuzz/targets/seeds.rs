//! Writes inputs to begin with: every request in every version, and batches in every codec.
//!
//!     seeds CORPUS-DIRECTORY

use std::path::Path;

use bytes::BytesMut;
use kafka_protocol::messages::*;
// For the coverage counters' symbols.
use kafka_protocol::protocol::{Encodable, HeaderVersion, Message, Request, StrBytes};
use libfuzzer_sys as _;
use millstream_core::record::{BatchBuilder, Compression};
use millstream_core::types::Timestamp;

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(directory).expect("directory");
    std::fs::write(directory.join(name), bytes).expect("write");
}

fn requests<R: Request + HeaderVersion + Message + Default>(directory: &Path) {
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let mut bytes = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(StrBytes::from_static_str("fuzz")));
        header.encode(&mut bytes, R::header_version(version)).expect("header");
        // A default body; not every version can say it.
        let header_only = bytes.len();
        if R::default().encode(&mut bytes, version).is_err() {
            bytes.truncate(header_only);
        }
        write(directory, &format!("api{}-v{version}", R::KEY), &bytes);
    }
}

macro_rules! all {
    ($directory:expr, $($request:ident),+ $(,)?) => { $(requests::<$request>($directory);)+ };
}

fn main() {
    let root = std::env::args().nth(1).expect("a directory");
    let frame = Path::new(&root).join("frame");
    all!(
        &frame,
        ProduceRequest,
        FetchRequest,
        ListOffsetsRequest,
        MetadataRequest,
        OffsetCommitRequest,
        OffsetFetchRequest,
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
        DescribeLogDirsRequest,
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
    let batch = Path::new(&root).join("batch");
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for codec in codecs {
        for switches in [0u8, 1, 2, 4, 0x18, 0x20] {
            let mut builder = BatchBuilder::new().compression(codec, None);
            builder.push(Timestamp(1_000), Some(b"key"), Some(b"value"), &[]);
            builder.push(Timestamp(1_010), Some(b"key"), None, &[]);
            let bytes = [&[switches][..], &builder.finish()].concat();
            write(&batch, &format!("{}-{switches}", codec.name()), &bytes);
        }
    }
    // Nothing, at the end of a good log, and over it.
    for switches in [0u8, 1, 2, 5, 6, 13] {
        write(&Path::new(&root).join("recovery"), &switches.to_string(), &[switches, 0, 0, 0, 0]);
    }
}
