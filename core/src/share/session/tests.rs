use super::*;
use crate::types::TopicId;

fn key(group: &str, member: &str) -> SessionKey {
    SessionKey { group: group.into(), member: member.into() }
}

fn at(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId(uuid::Uuid::from_u128(7)), partition }
}

/// Opens or goes on with partitions added and forgotten; the numbers of the partitions that are fetched.
fn fetch(
    sessions: &mut ShareSessions,
    key: &SessionKey,
    epoch: i32,
    added: &[i32],
    forgotten: &[i32],
) -> Result<Vec<i32>, ShareSessionError> {
    let partitions: Vec<_> = added.iter().map(|n| at(*n)).collect();
    let forgotten: Vec<_> = forgotten.iter().map(|n| at(*n)).collect();
    let open = Open { key, epoch, partitions: &partitions, forgotten: &forgotten, acknowledges: false, connection: 1 };
    match sessions.open(&open)? {
        Opened::New(all) | Opened::On(all) => Ok(all.into_iter().map(|id| id.partition).collect()),
        Opened::Final => Ok(vec![-1]),
    }
}

#[test]
fn a_session_goes_on_epoch_by_epoch() {
    let mut sessions = ShareSessions::new(10);
    let m = key("g", "m");
    assert_eq!(fetch(&mut sessions, &m, 1, &[0], &[]), Err(ShareSessionError::NotFound));
    assert_eq!(fetch(&mut sessions, &m, -1, &[], &[]), Err(ShareSessionError::NotFound));
    assert_eq!(fetch(&mut sessions, &m, 0, &[0, 1, 1], &[]), Ok(vec![0, 1]));
    assert_eq!(fetch(&mut sessions, &m, 1, &[2], &[0]), Ok(vec![1, 2]));
    for wrong in [1, 3, i32::MAX, -2] {
        assert_eq!(fetch(&mut sessions, &m, wrong, &[], &[]), Err(ShareSessionError::InvalidEpoch), "{wrong}");
    }
    assert_eq!(fetch(&mut sessions, &m, 2, &[], &[]), Ok(vec![1, 2]));
    assert_eq!(sessions.acknowledges(&m, 3), Ok(false));
    assert_eq!(sessions.acknowledges(&m, 3), Err(ShareSessionError::InvalidEpoch));
    assert_eq!(sessions.acknowledges(&m, 0), Err(ShareSessionError::InvalidEpoch));
    assert_eq!(fetch(&mut sessions, &m, -1, &[], &[]), Ok(vec![-1]));
    assert_eq!(sessions.acknowledges(&m, -1), Ok(true));
    let left = sessions.close(&m).expect("a session");
    assert_eq!((left.partitions, left.is_last), (vec![at(1), at(2)], true));
    assert_eq!(sessions.close(&m), None);
    assert_eq!(sessions.acknowledges(&m, 4), Err(ShareSessionError::NotFound));
    assert_eq!((sessions.len(), sessions.partitions()), (0, 0));
}

#[test]
fn the_epoch_after_the_last_is_one() {
    let mut sessions = ShareSessions::new(10);
    let m = key("g", "m");
    fetch(&mut sessions, &m, 0, &[0], &[]).expect("opened");
    sessions.sessions.get_mut(&m).expect("a session").next_epoch = i32::MAX;
    assert_eq!(fetch(&mut sessions, &m, i32::MAX, &[], &[]), Ok(vec![0]));
    assert_eq!(fetch(&mut sessions, &m, 1, &[], &[]), Ok(vec![0]));
}

#[test]
fn who_opens_a_session_has_nothing_to_acknowledge() {
    let mut sessions = ShareSessions::new(10);
    let m = key("g", "m");
    fetch(&mut sessions, &m, 0, &[0], &[]).expect("opened");
    let open = Open { key: &m, epoch: 0, partitions: &[at(0)], forgotten: &[], acknowledges: true, connection: 1 };
    assert_eq!(sessions.open(&open), Err(ShareSessionError::AcknowledgesAtOnce));
    assert_eq!(fetch(&mut sessions, &m, 1, &[], &[]), Ok(vec![0]), "the session is as it was");
}

#[test]
fn there_are_so_many_sessions_and_no_more() {
    let mut sessions = ShareSessions::new(2);
    for member in ["a", "b"] {
        fetch(&mut sessions, &key("g", member), 0, &[0], &[]).expect("room");
    }
    assert_eq!(fetch(&mut sessions, &key("g", "c"), 0, &[0], &[]), Err(ShareSessionError::LimitReached));
    assert_eq!(fetch(&mut sessions, &key("g", "a"), 0, &[5], &[]), Ok(vec![5]), "in the place of its own");
    sessions.close(&key("g", "b")).expect("a session");
    assert_eq!(fetch(&mut sessions, &key("g", "c"), 0, &[0], &[]), Ok(vec![0]));
}

#[test]
fn an_answer_names_what_is_new_and_what_gave_records_comes_last() {
    let mut sessions = ShareSessions::new(10);
    let m = key("g", "m");
    fetch(&mut sessions, &m, 0, &[0, 1], &[]).expect("opened");
    assert_eq!(fetch(&mut sessions, &m, 1, &[2], &[]), Ok(vec![0, 1, 2]));
    assert!(!sessions.tells(&m, at(0), false, false));
    assert!(sessions.tells(&m, at(2), false, false), "it was added");
    assert!(!sessions.tells(&m, at(2), false, false), "and told");
    assert!(sessions.tells(&m, at(0), true, false));
    assert_eq!(fetch(&mut sessions, &m, 2, &[], &[]), Ok(vec![1, 2, 0]));
    assert!(sessions.tells(&m, at(1), false, true));
    assert!(sessions.tells(&m, at(1), false, false), "the error is over");
    assert!(!sessions.tells(&m, at(1), false, false));
}

#[test]
fn sessions_go_with_their_connection() {
    let mut sessions = ShareSessions::new(10);
    let open = |sessions: &mut ShareSessions, key: &SessionKey, connection| {
        let open = Open { key, epoch: 0, partitions: &[at(0)], forgotten: &[], acknowledges: false, connection };
        sessions.open(&open).expect("room");
    };
    let (a, b, c) = (key("g", "a"), key("g", "b"), key("h", "c"));
    open(&mut sessions, &a, 1);
    open(&mut sessions, &b, 2);
    open(&mut sessions, &c, 1);
    // Opened anew by another connection, it does not go with the first.
    open(&mut sessions, &a, 3);
    let left = sessions.disconnected(1);
    assert_eq!(left, [Left { key: c, partitions: vec![at(0)], is_last: true }]);
    assert!(sessions.disconnected(1).is_empty());
    let left: Vec<_> = [2, 3].into_iter().flat_map(|connection| sessions.disconnected(connection)).collect();
    assert_eq!(left.iter().map(|left| left.is_last).collect::<Vec<_>>(), [false, true]);
    assert!(sessions.by_connection.is_empty() && sessions.members.is_empty() && sessions.is_empty());
}
