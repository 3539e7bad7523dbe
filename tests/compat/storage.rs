//! Disks that fill up and files that are damaged.

use std::io::Write;
use std::path::PathBuf;

use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

use crate::harness::batch::Batch;
use crate::harness::broker::Broker;
use crate::harness::disk::{SmallDisk, fill};
use crate::harness::{eventually, topics};

const KAFKA_STORAGE_ERROR: i16 = 56;

#[test]
fn a_full_disk_loses_nothing_and_the_broker_goes_on_when_there_is_room() {
    if Broker::own(&[]).is_none() {
        return;
    }
    let Some(disk) = SmallDisk::mount(256) else { return };
    let mut broker = Broker::own_below(&disk.0, &[]);
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let filler = fill(&disk.0, 12);
    let big = "x".repeat(100_000);
    let mut acknowledged = 0;
    let error = loop {
        let value = format!("{acknowledged} {big}");
        let response = topics::produce(&mut wire, &topic, 0, Batch::of(&[&value]).build());
        if response.error_code != 0 {
            break response.error_code;
        }
        assert_eq!(response.base_offset, acknowledged);
        acknowledged += 1;
        assert!(acknowledged < 1_000, "the disk never gets full");
    };
    assert_eq!(error, KAFKA_STORAGE_ERROR);
    assert!(acknowledged > 10, "{acknowledged}");
    assert!(broker.is_alive(), "{}", broker.log());
    // What was acknowledged can be read, and the end has not moved.
    let check = |broker: &Broker, count: i64| {
        let values = topics::values(&mut broker.wire(), &topic, 0, 0);
        assert!(values.iter().zip(0..).all(|(v, i)| v.starts_with(&format!("{i} "))), "in order");
        assert_eq!(i64::try_from(values.len()).ok(), Some(count));
    };
    check(&broker, acknowledged);
    std::fs::remove_file(filler).expect("room again");
    let offset = eventually("the broker takes records again", || {
        let value = format!("{acknowledged} after");
        let response = topics::produce(&mut wire, &topic, 0, Batch::of(&[&value]).build());
        (response.error_code == 0).then_some(response.base_offset)
    });
    assert_eq!(offset, acknowledged);
    check(&broker, acknowledged + 1);
    broker.kill();
    broker.restart();
    topics::await_topic(&mut broker.wire(), &topic, 1);
    check(&broker, acknowledged + 1);
}

/// Nobody makes room but the broker itself.
#[test]
fn a_full_disk_is_freed_by_deleting_records() {
    if Broker::own(&[]).is_none() {
        return;
    }
    let Some(disk) = SmallDisk::mount(64) else { return };
    let mut broker = Broker::own_below(&disk.0, &[]);
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("segment.bytes", "1048576")]);
    let mut end = 0;
    // Large ones until they find no room, then small ones, to the last page.
    for size in [500_000, 50_000, 1_000] {
        let batch = Batch::of(&[&"x".repeat(size)]).build();
        while topics::produce(&mut wire, &topic, 0, batch.clone()).error_code == 0 {
            end += 1;
            assert!(end < 10_000, "the disk never gets full");
        }
    }
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(end);
    let deleted = DeleteRecordsTopic::default().with_name(topics::name(&topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_timeout_ms(30_000).with_topics(vec![deleted]);
    let response = wire.call(2, &request);
    assert_eq!(response.topics[0].partitions[0].error_code, 0, "{response:?}");
    let offset = eventually("the broker takes records again", || {
        let response = topics::produce(&mut wire, &topic, 0, Batch::of(&["after"]).build());
        (response.error_code == 0).then_some(response.base_offset)
    });
    assert_eq!(offset, end);
    broker.kill();
    broker.restart();
    topics::await_topic(&mut broker.wire(), &topic, 1);
    assert_eq!(topics::values(&mut broker.wire(), &topic, 0, end).len(), 1);
}

/// RocksDB writes a file when it is opened after a kill: the ballast makes room for that.
#[test]
fn a_broker_starts_on_a_disk_that_others_have_filled() {
    if Broker::own(&[]).is_none() {
        return;
    }
    let Some(disk) = SmallDisk::mount(64) else { return };
    let mut broker = Broker::own_below(&disk.0, &[]);
    let topic = topics::topic(&mut broker.wire(), 1);
    assert_eq!(topics::write(&mut broker.wire(), &topic, 0, &["before"]), 0);
    broker.kill();
    let path = disk.0.join("others");
    let mut others = std::fs::File::create(&path).expect("a file");
    for size in [1 << 20, 4096, 1] {
        while others.write_all(&vec![0; size]).is_ok() {}
    }
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &topic, 1);
    assert_eq!(topics::values(&mut wire, &topic, 0, 0), ["before"]);
    let refused = topics::produce(&mut wire, &topic, 0, Batch::of(&["refused"]).build());
    assert_eq!(refused.error_code, KAFKA_STORAGE_ERROR);
    std::fs::remove_file(&path).expect("removed");
    drop(others);
    eventually("the broker takes records again", || {
        let response = topics::produce(&mut wire, &topic, 0, Batch::of(&["after"]).build());
        (response.error_code == 0).then_some(())
    });
}

/// The only segment of the only partition of a topic.
fn segment(broker: &Broker, topic: &str) -> PathBuf {
    let id = topics::topic_id(&mut broker.wire(), topic);
    let logs = broker.data_dir().join("data").join("log");
    let simple = id.simple().to_string();
    let mut entries = std::fs::read_dir(&logs).expect("log directory").map(|e| e.expect("entry").path());
    let directory = entries
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().replace('-', "") == simple))
        .unwrap_or_else(|| panic!("no directory of topic id {id} in {}", logs.display()));
    let files = std::fs::read_dir(directory.join("0")).expect("partition directory").map(|e| e.expect("entry").path());
    let mut segments: Vec<_> = files.filter(|f| f.extension().is_some_and(|x| x == "log")).collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments.remove(0)
}

/// Where the batch at an offset stands in a segment.
fn position(segment: &[u8], offset: i64) -> usize {
    let mut at = 0;
    loop {
        let base = i64::from_be_bytes(segment[at..at + 8].try_into().expect("8 bytes"));
        let length = i32::from_be_bytes(segment[at + 8..at + 12].try_into().expect("4 bytes"));
        if segment[at + 16] == 2 && base == offset {
            return at;
        }
        assert!(length > 0, "offset {offset} is not there");
        at += 12 + usize::try_from(length).expect("length");
    }
}

#[test]
fn a_torn_tail_is_cut_and_nothing_else() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let topic = topics::topic(&mut broker.wire(), 1);
    for value in ["a", "b", "c"] {
        topics::write(&mut broker.wire(), &topic, 0, &[value]);
    }
    let path = segment(&broker, &topic);
    broker.kill();
    for torn in [&b"\0\0\0\0\0\0\0\x03\0\0\0\x40half"[..], &[0xff; 100], &[0; 5_000]] {
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("segment");
        file.write_all(torn).expect("write");
        broker.restart();
        let mut wire = broker.wire();
        topics::await_topic(&mut wire, &topic, 1);
        assert_eq!(topics::values(&mut wire, &topic, 0, 0), ["a", "b", "c"], "torn: {:?}", &torn[..5]);
        broker.kill();
    }
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &topic, 1);
    assert_eq!(topics::write(&mut wire, &topic, 0, &["d"]), 3);
}

/// A flipped bit in what was synced is no torn tail: the partition goes offline, the others serve.
#[test]
fn a_corrupt_middle_takes_its_partition_offline_and_no_other() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let (hurt, well) = (topics::topic(&mut broker.wire(), 1), topics::topic(&mut broker.wire(), 1));
    let count = 10;
    for topic in [&hurt, &well] {
        for _ in 0..count {
            topics::write(&mut broker.wire(), topic, 0, &["value"]);
        }
    }
    let path = segment(&broker, &hurt);
    // A start syncs what it finds, and notes with its first flush that it did.
    broker.kill();
    broker.restart();
    topics::await_topic(&mut broker.wire(), &hurt, 1);
    broker.kill();
    let mut bytes = std::fs::read(&path).expect("segment");
    let at = position(&bytes, 1) + 62;
    bytes[at] ^= 0x10;
    std::fs::write(&path, &bytes).expect("write");
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &well, 1);
    assert_eq!(topics::values(&mut wire, &well, 0, 0).len(), count);
    assert_eq!(topics::fetch(&mut wire, &hurt, 0, 0).error_code, KAFKA_STORAGE_ERROR);
    assert_eq!(topics::produce(&mut wire, &hurt, 0, Batch::of(&["more"]).build()).error_code, KAFKA_STORAGE_ERROR);
    // Nothing was cut: mended, the partition is whole again.
    broker.kill();
    bytes[at] ^= 0x10;
    std::fs::write(&path, &bytes).expect("write");
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &hurt, 1);
    assert_eq!(topics::values(&mut wire, &hurt, 0, 0).len(), count);
}
