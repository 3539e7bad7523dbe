//! Writes inputs to begin with: every request in every version, and batches in every codec.
//!
//!     seeds CORPUS-DIRECTORY

use std::path::Path;

use bytes::BytesMut;
use kafka_protocol::messages::*;
// For the coverage counters' symbols.
use kafka_protocol::protocol::{Encodable, HeaderVersion, Message, Request, StrBytes};
use libfuzzer_sys as _;
use millstream_core::record::{BatchBuilder, Compression, compress};
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

/// A field of a protobuf message that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).expect("short");
    assert!(len < 0x80, "a length of one byte");
    [&[number << 3 | 2, len], content].concat()
}

/// A metric of each kind as OpenTelemetry's messages, plain and in every codec; and a bomb in each.
fn telemetry(directory: &Path) {
    let attribute = field(7, &[field(1, b"topic"), field(2, &field(1, b"t"))].concat());
    let double = |number: u8| [&[number << 3 | 1][..], &1.5_f64.to_le_bytes()].concat();
    let (temporality, monotonic) = ([2 << 3, 1], [3 << 3, 1]);
    let number = field(1, &[attribute.clone(), double(4)].concat());
    let packed = |numbers: &[f64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let buckets = [double(4), double(5), field(6, &packed(&[1.0, 2.0])), field(7, &packed(&[0.5]))].concat();
    let kinds = [
        (5, number.clone()),
        (7, [&number[..], &temporality, &monotonic].concat()),
        (9, [&field(1, &buckets)[..], &temporality].concat()),
        (10, field(1, &[double(4), double(5)].concat())),
        (11, field(1, &[attribute, double(4), double(5)].concat())),
    ];
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (kind, data) in kinds {
        let metric = field(2, &[field(1, b"org.apache.kafka"), field(kind, &data)].concat());
        let resource = field(1, &field(1, &[field(1, b"rack"), field(2, &field(1, b"a"))].concat()));
        let bytes = field(1, &[resource, field(2, &metric)].concat());
        for codec in codecs {
            for switches in [0, 8, 16] {
                let mut input = vec![codec.id() | switches];
                compress(codec, None, &bytes, &mut input);
                write(directory, &format!("{kind}-{}-{switches}", codec.name()), &input);
            }
        }
    }
    for codec in &codecs[1..] {
        let mut bomb = vec![codec.id()];
        compress(*codec, None, &vec![0; 2 << 20], &mut bomb);
        write(directory, &format!("bomb-{}", codec.name()), &bomb);
    }
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
    telemetry(&Path::new(&root).join("telemetry"));
    // Nothing, at the end of a good log, and over it.
    for switches in [0u8, 1, 2, 5, 6, 13] {
        write(&Path::new(&root).join("recovery"), &switches.to_string(), &[switches, 0, 0, 0, 0]);
    }
}
