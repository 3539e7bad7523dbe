use proptest::prelude::*;

use super::*;
use crate::record::{ATTRIBUTES_AT, BATCH_HEADER_LEN, CRC_AT, Marker, control_batch, crc32c};
use crate::types::{ProducerEpoch, ProducerId, Sequence, TopicName};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicName::new("t").unwrap(), partition: 3 }
}

fn rules(partition: &TopicPartition) -> Rules<'_> {
    Rules {
        partition,
        compacted: false,
        max_message_bytes: 1 << 20,
        segment_bytes: 1 << 30,
        timestamp_type: TimestampType::CreateTime,
        now: NOW,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        target_compression: None,
        compression_level: None,
        zstd_allowed: true,
        max_decompressed_bytes: 1 << 22,
    }
}

fn builder(codec: Compression, records: usize) -> BatchBuilder {
    let mut builder = BatchBuilder::new().compression(codec, None);
    for n in 0..records {
        let value = vec![n as u8; n * 10];
        builder.push(NOW.plus_ms(n as i64), Some(&[n as u8]), Some(&value), &[(b"h", None)]);
    }
    builder
}

fn check(bytes: &Bytes, rules: &Rules<'_>) -> Result<Validated, BatchProblem> {
    validate_produce_batch(bytes, rules, &mut Budget::new(1 << 24))
}

/// Changes bytes of the part under the CRC and sets it right.
fn edited(bytes: &Bytes, at: usize, with: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn is_invalid(answer: Result<Validated, BatchProblem>, words: &str) {
    match answer {
        Err(BatchProblem::Invalid(text)) => assert!(text.contains(words), "{text:?} lacks {words:?}"),
        other => panic!("not refused as invalid: {other:?}"),
    }
}

fn records_of(validated: &Validated) -> Vec<(Offset, Timestamp, Vec<u8>)> {
    let mut scratch = Vec::new();
    let body = batch_body(&validated.header, &validated.bytes, 1 << 22, &mut scratch).unwrap();
    RecordIter::new(&validated.header, body)
        .map(|r| r.map(|r| (r.offset, r.timestamp, r.value.unwrap_or_default().to_vec())).unwrap())
        .collect()
}

#[test]
fn a_sound_batch_passes_untouched() {
    let partition = partition();
    for codec in CODECS {
        let batch = builder(codec, 20).finish();
        let validated = check(&batch, &rules(&partition)).unwrap();
        assert_eq!(validated.bytes.as_ptr(), batch.as_ptr());
        assert_eq!(validated.header, BatchHeader::parse(&batch).unwrap());
    }
}

#[test]
fn framing_is_judged_as_by_kafka() {
    let partition = partition();
    let rules = rules(&partition);
    let batch = builder(Compression::None, 3).finish();
    is_invalid(check(&Bytes::new(), &rules), "at least one record batch");
    is_invalid(check(&batch.slice(..11), &rules), "at least one record batch");
    is_invalid(check(&[&batch[..], &batch[..]].concat().into(), &rules), "exactly one");
    let torn = check(&batch.slice(..batch.len() - 1), &rules);
    assert!(matches!(torn, Err(BatchProblem::Corrupt(BatchError::Torn { .. }))), "{torn:?}");
    for (length, why) in
        [(-1i32, "negative"), (13, "below any"), (20, "below the header's"), (i32::MAX, "beyond the bytes")]
    {
        let mut bytes = batch.to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let answer = check(&bytes.into(), &rules);
        assert!(matches!(answer, Err(BatchProblem::Corrupt(_))), "{why}: {answer:?}");
    }
    let mut old = batch.to_vec();
    old[16] = 1;
    is_invalid(check(&old.clone().into(), &rules), "magic version 2");
    old[16] = 3;
    assert_eq!(check(&old.into(), &rules).unwrap_err(), BatchProblem::Corrupt(BatchError::Magic(3)));
    // A piece of a second batch is cut off.
    let tail = [&batch[..], &batch[..40]].concat();
    assert_eq!(check(&tail.into(), &rules).unwrap().bytes, batch);
}

#[test]
fn a_flipped_bit_is_corrupt() {
    let partition = partition();
    let batch = builder(Compression::None, 3).finish();
    for at in CRC_AT..batch.len() {
        let mut bytes = batch.to_vec();
        bytes[at] ^= 4;
        let answer = check(&bytes.into(), &rules(&partition));
        assert!(matches!(answer, Err(BatchProblem::Corrupt(BatchError::Crc { .. }))), "byte {at}: {answer:?}");
    }
}

#[test]
fn counts_and_offsets_must_agree() {
    let partition = partition();
    let rules = rules(&partition);
    let batch = builder(Compression::None, 3).finish();
    is_invalid(check(&edited(&batch, 23, &(-1i32).to_be_bytes()), &rules), "invalid offset range");
    is_invalid(check(&edited(&batch, 57, &0i32.to_be_bytes()), &rules), "Invalid reported count");
    is_invalid(check(&edited(&batch, 57, &(-5i32).to_be_bytes()), &rules), "Invalid reported count");
    is_invalid(check(&edited(&batch, 57, &4i32.to_be_bytes()), &rules), "Inconsistent batch offset range");
    let fewer = edited(&edited(&batch, 57, &2i32.to_be_bytes()), 23, &1i32.to_be_bytes());
    is_invalid(check(&fewer, &rules), "follow the last record");
    let more = edited(&edited(&batch, 57, &4i32.to_be_bytes()), 23, &3i32.to_be_bytes());
    is_invalid(check(&more, &rules), "record 3");
    is_invalid(check(&BatchBuilder::new().finish(), &rules), "Invalid reported count");
    let mut moved = batch.to_vec();
    moved[7] = 9;
    is_invalid(check(&moved.into(), &rules), "The baseOffset of the record batch in the append to t-3 should be 0");
}

#[test]
fn clients_write_no_control_batches_and_no_negative_sequences() {
    let partition = partition();
    let marker = control_batch(Marker::Commit, ProducerId(1), ProducerEpoch(0), 0, NOW);
    is_invalid(check(&marker, &rules(&partition)), "not allowed to write control records");
    let batch = builder(Compression::None, 1).producer(ProducerId(1), ProducerEpoch(0), Sequence(-1)).finish();
    is_invalid(check(&batch, &rules(&partition)), "Invalid sequence number -1");
}

#[test]
fn garbage_under_a_right_crc_is_invalid() {
    let partition = partition();
    let rules = rules(&partition);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut batch = builder(codec, 5).finish().to_vec();
        batch[BATCH_HEADER_LEN..].fill(0xee);
        let batch = edited(&batch.into(), 57, &5i32.to_be_bytes());
        is_invalid(check(&batch, &rules), "malformed");
    }
    let batch = builder(Compression::None, 5).finish();
    is_invalid(check(&edited(&batch, ATTRIBUTES_AT + 1, &[7]), &rules), "codec 7 is unknown");
}

#[test]
fn sizes_are_bounded() {
    let partition = partition();
    let batch = builder(Compression::Gzip, 40).finish();
    let size_bytes = batch.len();
    let small = Rules { max_message_bytes: size_bytes - 1, ..rules(&partition) };
    assert_eq!(check(&batch, &small).unwrap_err(), BatchProblem::TooLarge { size_bytes, max: size_bytes - 1 });
    let tight = Rules { max_decompressed_bytes: 5000, ..rules(&partition) };
    assert_eq!(check(&batch, &tight).unwrap_err(), BatchProblem::InflatesTooLarge { limit: 5000 });
    let segment = Rules { segment_bytes: 100, ..rules(&partition) };
    assert_eq!(check(&batch, &segment).unwrap_err(), BatchProblem::LargerThanSegment { size_bytes, max: 100 });
    let plain =
        Rules { max_message_bytes: size_bytes, target_compression: Some(Compression::None), ..rules(&partition) };
    assert!(matches!(check(&batch, &plain), Err(BatchProblem::TooLarge { .. })));
    let old = Rules { zstd_allowed: false, ..rules(&partition) };
    let zstd = builder(Compression::Zstd, 1).finish();
    assert_eq!(check(&zstd, &old).unwrap_err(), BatchProblem::UnsupportedCompression);
}

#[test]
fn keyless_records_on_compacted_topics_are_named_one_by_one() {
    let partition = partition();
    let compacted = Rules { compacted: true, ..rules(&partition) };
    for codec in CODECS {
        let mut builder = BatchBuilder::new().compression(codec, None);
        builder.push(NOW, Some(b"k"), None, &[]);
        builder.push(NOW, None, Some(b"v"), &[]);
        let problem = check(&builder.finish(), &compacted).unwrap_err();
        let message = "Compacted topic cannot accept message without key in topic partition t-3".to_owned();
        assert_eq!(
            problem,
            BatchProblem::InvalidRecords { total: 1, problems: vec![RecordProblem { index: 1, message }] }
        );
        assert_eq!(
            problem.to_string(),
            "One or more records have been rejected due to 1 record errors in total, and only showing the first three \
             errors at most: [RecordError(batchIndex=1, message='Compacted topic cannot accept message without key \
             in topic partition t-3')]"
        );
    }
}

#[test]
fn problems_are_counted_in_full_and_told_in_part() {
    let partition = partition();
    let compacted = Rules { compacted: true, ..rules(&partition) };
    let mut builder = BatchBuilder::new();
    for _ in 0..RECORD_PROBLEMS_MAX + 5 {
        builder.push(NOW, None, None, &[]);
    }
    match check(&builder.finish(), &compacted) {
        Err(BatchProblem::InvalidRecords { total, problems }) => {
            assert_eq!((total, problems.len()), (RECORD_PROBLEMS_MAX + 5, RECORD_PROBLEMS_MAX));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_batches_of_a_request_are_told_no_more_problems_than_one() {
    let partition = partition();
    let compacted = Rules { compacted: true, ..rules(&partition) };
    let mut builder = BatchBuilder::new();
    for _ in 0..600 {
        builder.push(NOW, None, None, &[]);
    }
    let (batch, mut budget) = (builder.finish(), Budget::new(0));
    let told = [(); 3].map(|()| match validate_produce_batch(&batch, &compacted, &mut budget) {
        Err(BatchProblem::InvalidRecords { total: 600, problems }) => problems.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(told, [600, RECORD_PROBLEMS_MAX - 600, 0]);
}

#[test]
fn the_batches_of_a_request_inflate_to_no_more_than_its_budget() {
    let partition = partition();
    for codec in CODECS.into_iter().filter(|codec| *codec != Compression::None) {
        let mut builder = BatchBuilder::new().compression(codec, None);
        builder.push(NOW, None, Some(&vec![0; 1 << 20]), &[]);
        let (batch, mut budget) = (builder.finish(), Budget::new(5 << 19));
        let taken = [(); 4].map(|()| validate_produce_batch(&batch, &rules(&partition), &mut budget).is_ok());
        assert_eq!((taken, budget.is_overdrawn()), ([true, true, false, false], true), "{codec:?}");
        // What a batch may not inflate to by itself is no fault of the budget.
        let (small, mut budget) =
            (Rules { max_decompressed_bytes: 1 << 18, ..rules(&partition) }, Budget::new(1 << 19));
        let refused = validate_produce_batch(&batch, &small, &mut budget).unwrap_err();
        assert_eq!(refused, BatchProblem::InflatesTooLarge { limit: 1 << 18 });
        assert!(!budget.is_overdrawn());
    }
    // Nor is more built anew.
    let (batch, mut budget) = (builder(Compression::None, 20).finish(), Budget::new(100));
    let rebuilt = Rules { target_compression: Some(Compression::Zstd), ..rules(&partition) };
    assert_eq!(
        validate_produce_batch(&batch, &rebuilt, &mut budget).unwrap_err(),
        BatchProblem::InflatesTooLarge { limit: 100 }
    );
    assert!(budget.is_overdrawn());
}

#[test]
fn work_on_malformed_batches_counts() {
    let partition = partition();
    let mut builder = BatchBuilder::new().compression(Compression::Gzip, None);
    builder.push(NOW, None, Some(&vec![0; 1 << 20]), &[]);
    let batch = builder.finish();
    // The checksum at the end of the gzip stream.
    let broken = edited(&batch, batch.len() - 8, &[1, 2, 3, 4]);
    let mut budget = Budget::new(3 << 19);
    let refused = [(); 2].map(|()| validate_produce_batch(&broken, &rules(&partition), &mut budget).unwrap_err());
    assert!(matches!(refused, [BatchProblem::Invalid(_), BatchProblem::InflatesTooLarge { .. }]), "{refused:?}");
}

#[test]
fn timestamps_out_of_range_are_refused() {
    let partition = partition();
    let bounded = Rules { before_max_ms: 1000, after_max_ms: 1000, ..rules(&partition) };
    for (ms, fine) in [(-1000, true), (-1001, false), (1000, true), (1001, false)] {
        let mut builder = BatchBuilder::new();
        builder.push(NOW.plus_ms(ms), None, None, &[]);
        let answer = check(&builder.finish(), &bounded);
        assert_eq!(answer.is_ok(), fine, "{ms}: {answer:?}");
    }
    // No timestamp at all is fine, one before all time is not.
    for (timestamp, fine) in [(Timestamp::NONE, true), (Timestamp(i64::MIN), false)] {
        let mut builder = BatchBuilder::new();
        builder.push(timestamp, None, None, &[]);
        let mut batch = builder.finish();
        batch = edited(&batch, 35, &timestamp.0.to_be_bytes());
        assert_eq!(check(&batch, &bounded).is_ok(), fine);
    }
    let mut builder = BatchBuilder::new();
    builder.push(NOW.plus_ms(2000), None, None, &[]);
    let text = format!(
        "Timestamp {} of message with offset 0 is out of range. The timestamp should be within [{}, {}]",
        NOW.0 + 2000,
        NOW.0 - 1000,
        NOW.0 + 1000
    );
    let problems = vec![RecordProblem { index: 0, message: text }];
    assert_eq!(check(&builder.finish(), &bounded).unwrap_err(), BatchProblem::InvalidTimestamps { total: 1, problems });
}

#[test]
fn log_append_time_is_written_into_the_header() {
    let partition = partition();
    let stamped = Rules { timestamp_type: TimestampType::LogAppendTime, now: Timestamp(77), ..rules(&partition) };
    for codec in CODECS {
        let batch = builder(codec, 4).finish();
        let validated = check(&batch, &stamped).unwrap();
        let header = BatchHeader::parse_checked(&validated.bytes).unwrap();
        assert_eq!(header, validated.header);
        assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::LogAppendTime, Timestamp(77)));
        assert_eq!(validated.bytes[BATCH_HEADER_LEN..], batch[BATCH_HEADER_LEN..]);
        assert!(records_of(&validated).iter().all(|(_, timestamp, _)| *timestamp == Timestamp(77)));
        // A producer must not set the type itself.
        let again = check(&validated.bytes, &stamped).unwrap_err();
        assert!(matches!(again, BatchProblem::InvalidTimestamps { total: 4, .. }), "{again:?}");
    }
}

#[test]
fn a_wrong_maximum_timestamp_is_set_right() {
    let partition = partition();
    let batch = builder(Compression::None, 4).finish();
    let wrong = edited(&batch, 35, &5i64.to_be_bytes());
    assert_eq!(check(&wrong, &rules(&partition)).unwrap().bytes, batch);
}

#[test]
fn a_topics_codec_wins_and_records_stay() {
    let partition = partition();
    for from in CODECS {
        for to in CODECS {
            let batch =
                builder(from, 30).producer(ProducerId(5), ProducerEpoch(2), Sequence(11)).transactional(true).finish();
            let before = check(&batch, &rules(&partition)).unwrap();
            let after = check(&batch, &Rules { target_compression: Some(to), ..rules(&partition) }).unwrap();
            let header = BatchHeader::parse_checked(&after.bytes).unwrap();
            assert_eq!(header.compression(), Ok(to));
            assert_eq!(records_of(&after), records_of(&before));
            assert_eq!((header.producer_id, header.base_sequence), (ProducerId(5), Sequence(11)));
            assert!(header.is_transactional());
            assert_eq!((header.max_timestamp, header.record_count), (before.header.max_timestamp, 30));
        }
    }
}

#[test]
fn offsets_out_of_sequence_are_put_in_a_row() {
    let partition = partition();
    for codec in CODECS {
        let sound = check(&builder(codec, 3).finish(), &rules(&partition)).unwrap();
        let mut scratch = Vec::new();
        let body = batch_body(&sound.header, &sound.bytes, 1 << 20, &mut scratch).unwrap();
        let mut odd = BatchBuilder::new().compression(codec, None);
        for (record, delta) in RecordIter::new(&sound.header, body).zip([0, 5, 9]) {
            odd.push_record(delta, &record.unwrap());
        }
        let odd = edited(&odd.finish(), 23, &2i32.to_be_bytes());
        let validated = check(&odd, &rules(&partition)).unwrap();
        assert_eq!(records_of(&validated), records_of(&sound));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), codec in 0u8..8, count in -2i32..6) {
        let partition = partition();
        let mut batch = vec![0; BATCH_HEADER_LEN];
        batch.extend_from_slice(&bytes);
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            length: i32::try_from(batch.len() - BATCH_OVERHEAD).unwrap(),
            leader_epoch: crate::types::LeaderEpoch(-1),
            crc: 0,
            attributes: i16::from(codec),
            last_offset_delta: count - 1,
            base_timestamp: NOW,
            max_timestamp: NOW,
            producer_id: ProducerId(-1),
            producer_epoch: ProducerEpoch(-1),
            base_sequence: Sequence(-1),
            record_count: count,
        };
        write_header(&header, &mut batch);
        // Any answer but a panic; what passes must read back.
        if let Ok(validated) = check(&batch.into(), &rules(&partition)) {
            prop_assert_eq!(records_of(&validated).len(), usize::try_from(count).unwrap());
        }
        drop(check(&bytes.into(), &rules(&partition)));
    }

    #[test]
    fn every_flip_is_refused_or_harmless(at in 0usize..200, bit in 0u8..8) {
        let partition = partition();
        let batch = builder(Compression::None, 4).finish();
        let at = at % batch.len();
        let mut bytes = batch.to_vec();
        bytes[at] ^= 1 << bit;
        match check(&bytes.into(), &rules(&partition)) {
            // The leader epoch lies outside the CRC, and the log writes its own.
            Ok(validated) => prop_assert!((12..16).contains(&at) && validated.bytes[16..] == batch[16..]),
            Err(_) => prop_assert!(!(12..16).contains(&at)),
        }
    }
}
