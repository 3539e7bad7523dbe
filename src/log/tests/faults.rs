//! A disk that runs full.

use super::super::io::faults::set_room;
use super::*;

/// Sets the disk free again, also when a test fails.
struct Room;

impl Room {
    fn of(bytes: usize) -> Self {
        set_room(Some(bytes));
        Self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        set_room(None);
    }
}

#[test]
fn a_full_disk_refuses_the_reservation_and_changes_nothing() {
    let mut f = Fixture::new(LogConfig::default());
    f.produce(&batch(1, 10, NOW));
    let end = f.log().next_offset();
    {
        let _room = Room::of(0);
        assert!(matches!(f.log().reserve(1 << 20), Err(LogError::NoSpace)));
    }
    f.log().reserve(1 << 20).unwrap();
    f.produce(&batch(1, 10, NOW));
    assert_eq!(f.log().next_offset(), end.plus(1));
}

#[test]
fn a_failed_write_is_cut_back_to_whole_frames_and_ends_the_log() {
    let one = batch(1, 300, NOW);
    for room in [0, 1, 15, 16, 100, one.len() - 1, one.len() + 1, 2 * one.len() - 1] {
        let mut f = Fixture::new(LogConfig::default());
        f.produce(&one);
        f.synced();
        let (end, len) = (f.log().next_offset(), fs::metadata(&f.files()[0]).unwrap().len());
        let log = f.log();
        let entries: Vec<Entry> = (0..2)
            .map(|n| Entry {
                index: RaftIndex(log.last_index().0 + 1 + n),
                term: RaftTerm(1),
                next_offset: end.plus(n as i64),
                payload: Payload::Batch { base_offset: end.plus(n as i64), bytes: one.clone() },
            })
            .collect();
        {
            let _room = Room::of(room);
            assert!(matches!(log.append(&entries, NOW), Err(LogError::NoSpace)));
        }
        assert_eq!(log.next_offset(), end);
        assert!(matches!(log.append(&entries, NOW), Err(LogError::Failed)));
        assert_eq!(fs::metadata(&f.files()[0]).unwrap().len(), len, "room for {room}");
        // When there is room again it is opened anew and goes on.
        f.kill();
        f.try_open().unwrap();
        f.log().append(&entries, NOW).unwrap();
        assert_eq!(f.log().next_offset(), end.plus(2));
    }
}

#[test]
fn a_roll_without_room_leaves_no_half_segment() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 500, ..LogConfig::default() });
    f.produce(&batch(1, 300, NOW));
    let log = f.log();
    let entry = Entry {
        index: log.last_index().next(),
        term: RaftTerm(1),
        next_offset: Offset(1),
        payload: Payload::Batch { base_offset: Offset(1), bytes: batch(1, 300, NOW) },
    };
    {
        let _room = Room::of(20);
        assert!(matches!(log.append(std::slice::from_ref(&entry), NOW), Err(LogError::NoSpace)));
    }
    assert_eq!(f.files().len(), 1);
    f.kill();
    f.try_open().unwrap();
    f.log().append(&[entry], NOW).unwrap();
    assert_eq!(f.files().len(), 2);
}
