//! Record batches as a producer sends them: header, checksum, decompression, records, conversion. What is taken must be
//! one whole batch with the right checksum, whose records can be walked.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_core::record::{
    BatchHeader, Budget, Compression, RecordIter, Rules, TimestampType, batch_body, crc32c, validate_produce_batch,
};
use millstream_core::types::{Timestamp, TopicName, TopicPartition};

const INFLATED_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((switches, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    // Most inputs get a right checksum and length: else nothing behind them is ever reached.
    if switches & 1 == 0 && bytes.len() > 61 {
        let length = i32::try_from(bytes.len() - 12).expect("small");
        bytes[..8].fill(0);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let topic = TopicName::new("fuzz").expect("a topic name");
    let partition = TopicPartition { topic, partition: 0 };
    let targets =
        [None, Some(Compression::None), Some(Compression::Gzip), Some(Compression::Lz4), Some(Compression::Zstd)];
    let rules = Rules {
        partition: &partition,
        compacted: switches & 2 != 0,
        max_message_bytes: 1 << 20,
        segment_bytes: 1 << 24,
        timestamp_type: if switches & 4 != 0 { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        now: Timestamp(1_700_000_000_000),
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        target_compression: targets[usize::from(switches >> 3) % targets.len()],
        compression_level: None,
        zstd_allowed: true,
        max_decompressed_bytes: INFLATED_MAX,
    };
    let mut scratch = Vec::new();
    let mut budget = Budget::new(INFLATED_MAX);
    let Ok(taken) = validate_produce_batch(&Bytes::from(bytes), &rules, &mut budget) else { return };
    let header = BatchHeader::parse_checked(&taken.bytes).expect("what is taken is one whole batch");
    assert_eq!(header.size_bytes(), taken.bytes.len());
    let body = batch_body(&header, &taken.bytes, INFLATED_MAX, &mut scratch).expect("its body can be read");
    let mut count = 0;
    for record in RecordIter::new(&header, body) {
        let record = record.expect("each record can be read");
        assert_eq!(record.offset.0, header.base_offset.0 + count);
        count += 1;
    }
    assert_eq!(count, i64::from(header.record_count));
});
