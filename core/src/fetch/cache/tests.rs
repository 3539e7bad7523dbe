use super::super::session::{Answer, TopicKey};
use super::*;
use crate::types::Offset;

fn ask(partition: i32, from: i64) -> Ask {
    Ask {
        topic: TopicKey::Name("t".into()),
        partition,
        from: Offset(from),
        max_bytes: 1 << 20,
        current_epoch: None,
        last_fetched_epoch: None,
    }
}

fn request(session_id: i32, epoch: i32, asks: Vec<Ask>) -> SessionRequest {
    SessionRequest { session_id, epoch, by_id: false, asks, forgotten: Vec::new() }
}

fn created(cache: &mut SessionCache, asks: Vec<Ask>) -> (i32, Arc<Mutex<Session>>) {
    match cache.open(Timestamp(0), request(0, 0, asks), 7) {
        Ok(Opened::Created { id, session }) => (id, session),
        _ => panic!("no session was made"),
    }
}

fn quiet(high_watermark: i64) -> Answer {
    Answer { has_records: false, is_error: false, must_tell: false, high_watermark, last_stable: 0, log_start: 0 }
}

#[test]
fn an_incremental_fetch_tells_what_changed() {
    let mut cache = SessionCache::new(2);
    let (id, session) = created(&mut cache, vec![ask(0, 0), ask(1, 0)]);
    assert!(session.lock().unwrap().note(&ask(0, 0).key(), &quiet(5)));
    assert!(session.lock().unwrap().note(&ask(1, 0).key(), &quiet(5)));
    let Ok(Opened::Incremental { session, .. }) = cache.open(Timestamp(1), request(id, 1, vec![ask(1, 9)]), 0) else {
        panic!("the session is there");
    };
    let mut session = session.lock().unwrap();
    assert_eq!(session.asks(), [ask(0, 0), ask(1, 9)]);
    assert!(!session.note(&ask(0, 0).key(), &quiet(5)), "nothing changed");
    assert!(session.note(&ask(1, 9).key(), &quiet(6)), "the watermark moved");
    let error = Answer { is_error: true, ..quiet(-1) };
    assert!(session.note(&ask(0, 0).key(), &error));
    assert!(session.note(&ask(0, 0).key(), &error), "an error is told every time");
}

#[test]
fn who_gave_records_goes_to_the_end() {
    let mut cache = SessionCache::new(2);
    let (_, session) = created(&mut cache, vec![ask(0, 0), ask(1, 0)]);
    let mut session = session.lock().unwrap();
    session.note(&ask(0, 0).key(), &Answer { has_records: true, ..quiet(9) });
    assert_eq!(session.asks(), [ask(1, 0), ask(0, 0)]);
}

#[test]
fn unknown_sessions_and_epochs_are_refused() {
    let mut cache = SessionCache::new(2);
    let (id, _) = created(&mut cache, vec![ask(0, 0)]);
    assert_eq!(cache.open(Timestamp(0), request(id + 1, 1, vec![]), 0).err(), Some(SessionError::IdNotFound));
    assert_eq!(cache.open(Timestamp(0), request(id, 2, vec![]), 0).err(), Some(SessionError::InvalidEpoch));
    let by_id = SessionRequest { by_id: true, ..request(id, 1, vec![]) };
    assert_eq!(cache.open(Timestamp(0), by_id, 0).err(), Some(SessionError::TopicId));
    assert!(
        matches!(cache.open(Timestamp(0), request(id, -1, vec![ask(0, 0)]), 0), Ok(Opened::Full(asks)) if asks.len() == 1)
    );
    assert!(cache.is_empty(), "the final epoch ends the session");
}

#[test]
fn a_full_cache_serves_without_session_until_one_is_old() {
    let mut cache = SessionCache::new(1);
    let (id, _) = created(&mut cache, vec![ask(0, 0)]);
    assert!(matches!(cache.open(Timestamp(120_000), request(0, 0, vec![ask(0, 0)]), 7), Ok(Opened::Full(_))));
    let Ok(Opened::Created { id: new, .. }) = cache.open(Timestamp(120_001), request(0, 0, vec![ask(0, 0)]), 7) else {
        panic!("the old session yields");
    };
    assert_eq!((id, new, cache.len()), (7, 7, 1));
}

#[test]
fn forgetting_the_last_partition_ends_the_session() {
    let mut cache = SessionCache::new(1);
    let (id, _) = created(&mut cache, vec![ask(0, 0)]);
    let forget = SessionRequest { forgotten: vec![ask(0, 0).key()], ..request(id, 1, vec![]) };
    assert!(matches!(cache.open(Timestamp(0), forget, 0), Ok(Opened::Full(asks)) if asks.is_empty()));
    assert!(cache.is_empty());
}

#[test]
fn a_partition_that_is_asked_for_twice_is_served_once_as_last_asked() {
    let mut cache = SessionCache::new(1);
    let twice = || vec![ask(3, 0), ask(1, 0), ask(3, 7), ask(1, 8), ask(2, 0)];
    for epoch in [-1, 0] {
        let asks = match cache.open(Timestamp(0), request(0, epoch, twice()), 7) {
            Ok(Opened::Full(asks)) => asks,
            Ok(Opened::Created { session, .. }) => session.lock().unwrap().asks(),
            _ => panic!("served"),
        };
        assert_eq!(asks, [ask(3, 7), ask(1, 8), ask(2, 0)], "epoch {epoch}");
    }
    assert_eq!(cache.partitions, 3);
}

#[test]
fn what_is_added_and_forgotten_at_once_is_forgotten() {
    let mut cache = SessionCache::new(1);
    let (id, session) = created(&mut cache, vec![ask(0, 0)]);
    let both = SessionRequest { forgotten: vec![ask(1, 0).key()], ..request(id, 1, vec![ask(1, 0)]) };
    assert!(matches!(cache.open(Timestamp(0), both, 0), Ok(Opened::Incremental { .. })));
    assert_eq!(session.lock().unwrap().asks(), [ask(0, 0)]);
}

#[test]
fn who_follows_too_many_partitions_has_no_session() {
    let asks = |n: usize| (0..n).map(|n| ask(i32::try_from(n).unwrap(), 0)).collect::<Vec<_>>();
    let mut cache = SessionCache::new(1_000);
    let many = request(0, 0, asks(SESSION_PARTITIONS_MAX + 1));
    assert!(matches!(cache.open(Timestamp(0), many, 1), Ok(Opened::Full(asks)) if asks.len() > 10_000));
    // Nor does one that grows.
    let (id, _) = created(&mut cache, asks(SESSION_PARTITIONS_MAX));
    let more = request(id, 1, vec![ask(-1, 0)]);
    assert_eq!(cache.open(Timestamp(0), more, 0).err(), Some(SessionError::IdNotFound));
    assert_eq!((cache.len(), cache.partitions), (0, 0));
    // All together, too.
    let sessions = PARTITIONS_MAX / SESSION_PARTITIONS_MAX;
    let all: Vec<i32> = (0..sessions).map(|_| created(&mut cache, asks(SESSION_PARTITIONS_MAX)).0).collect();
    let one = || request(0, 0, vec![ask(0, 0)]);
    assert!(matches!(cache.open(Timestamp(0), one(), 1), Ok(Opened::Full(_))));
    assert!(cache.open(Timestamp(0), request(all[0], -1, vec![]), 0).is_ok());
    assert!(matches!(cache.open(Timestamp(0), one(), 1), Ok(Opened::Created { .. })));
    assert_eq!((cache.len(), cache.partitions), (sessions, PARTITIONS_MAX - SESSION_PARTITIONS_MAX + 1));
}
