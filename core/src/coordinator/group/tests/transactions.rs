//! Offsets that wait for the end of a transaction: what asks for them, deletes them, or lets them expire.

use std::sync::Arc;

use crate::coordinator::group::{
    Command, CommitError, CommitPartition, CommitTopic, DeleteGroups, Fetched, Generation, GroupConfig, GroupId,
    MemberId, OffsetCommit, OffsetDelete, OffsetFetch, Record, Reply, ReplyToken, Shard, TimerKey,
};
use crate::types::{Offset, ProducerId, Timestamp, TopicId, TopicName};

const TOKEN: ReplyToken = ReplyToken(1);
const NOW: Timestamp = Timestamp(1_000_000);

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn commit(partition: i32, offset: i64) -> OffsetCommit {
    let partition = CommitPartition { partition, offset: Offset(offset), leader_epoch: None, metadata: "".into() };
    OffsetCommit {
        token: TOKEN,
        group: group(),
        member: None,
        instance: None,
        generation: Generation(-1),
        retention_ms: None,
        knows_epochs: true,
        topics: vec![CommitTopic { name: topic(), id: TopicId::ZERO, partitions: vec![partition] }],
    }
}

fn shard() -> Shard {
    Shard::new(Arc::new(GroupConfig::default()))
}

/// Commits in a transaction at an offset of the log.
fn hold(shard: &mut Shard, producer: i64, at: i64, commit: OffsetCommit) -> Reply {
    let decision = shard.decide(NOW, &Command::TransactionalCommit(commit));
    let mut applied = shard.apply_in_transaction(decision, ProducerId(producer), Offset(at));
    applied.replies.pop().unwrap().1
}

/// The records of a command, which is carried out.
fn run(shard: &mut Shard, now: Timestamp, command: &Command) -> (Vec<Record>, Vec<Reply>) {
    let decision = shard.decide(now, command);
    let records = decision.records.clone();
    let applied = shard.apply(decision);
    (records, applied.replies.into_iter().map(|(_, reply)| reply).collect())
}

fn fetched(shard: &mut Shard, require_stable: bool) -> Vec<(i32, Option<i64>)> {
    let fetch = OffsetFetch { token: TOKEN, group: group(), topics: None, require_stable, member: None, epoch: -1 };
    let (_, replies) = run(shard, NOW, &Command::OffsetFetch(fetch));
    let [Reply::OffsetFetch(Ok(topics))] = &replies[..] else { panic!("{replies:?}") };
    let of = |fetched: &Fetched| match fetched {
        Fetched::Offset(found) => Some(found.offset.0),
        Fetched::Nothing | Fetched::Unstable => None,
    };
    topics.iter().flat_map(|topic| &topic.partitions).map(|(partition, found)| (*partition, of(found))).collect()
}

#[test]
fn who_may_commit_in_a_transaction_is_checked_as_kafka_does() {
    let mut shard = shard();
    let of_member =
        OffsetCommit { generation: Generation(3), member: Some(MemberId::new("m").unwrap()), ..commit(0, 1) };
    let refused = hold(&mut shard, 7, 0, of_member.clone());
    assert_eq!(refused, Reply::OffsetCommit(Err(CommitError::IllegalGeneration)), "no such group");
    assert!(matches!(hold(&mut shard, 7, 0, commit(0, 1)), Reply::OffsetCommit(Ok(_))));
    assert_eq!(hold(&mut shard, 7, 1, of_member), Reply::OffsetCommit(Err(CommitError::UnknownMember)));
}

#[test]
fn only_who_wants_a_stable_answer_waits() {
    let mut shard = shard();
    run(&mut shard, NOW, &Command::OffsetCommit(commit(0, 4)));
    hold(&mut shard, 7, 1, commit(0, 5));
    assert_eq!(fetched(&mut shard, false), [(0, Some(4))]);
    assert_eq!(fetched(&mut shard, true), [(0, None)]);
    shard.end_transaction(ProducerId(7), true);
    assert_eq!(fetched(&mut shard, true), [(0, Some(5))]);
}

#[test]
fn neither_a_group_nor_its_offsets_expire_under_a_transaction() {
    let mut shard = shard();
    run(&mut shard, NOW, &Command::OffsetCommit(commit(0, 4)));
    run(&mut shard, NOW, &Command::OffsetCommit(commit(1, 4)));
    hold(&mut shard, 7, 2, commit(0, 5));
    let late = NOW.plus_ms(GroupConfig::default().offsets_retention_ms + 1);
    let expiry = Command::TimerFired(TimerKey::Expiry);
    let (records, _) = run(&mut shard, late, &expiry);
    assert_eq!(records.len(), 1, "the offset that nothing waits for: {records:?}");
    assert!(run(&mut shard, late, &expiry).0.is_empty());
    shard.end_transaction(ProducerId(7), false);
    let (records, _) = run(&mut shard, late, &expiry);
    assert_eq!(records.len(), 2, "the offset and the group: {records:?}");
    // One that has nothing else yet.
    hold(&mut shard, 7, 9, commit(0, 5));
    assert!(run(&mut shard, late, &expiry).0.is_empty());
}

#[test]
fn what_is_deleted_does_not_come_back_with_the_marker() {
    let mut shard = shard();
    hold(&mut shard, 7, 0, commit(0, 5));
    hold(&mut shard, 7, 1, commit(1, 6));
    let delete = OffsetDelete { token: TOKEN, group: group(), topics: vec![(topic(), vec![0, 2])] };
    let (records, _) = run(&mut shard, NOW, &Command::OffsetDelete(delete));
    assert_eq!(records.len(), 1, "{records:?}");
    shard.end_transaction(ProducerId(7), true);
    assert_eq!(fetched(&mut shard, true), [(1, Some(6))]);
    hold(&mut shard, 7, 5, commit(0, 7));
    let delete = DeleteGroups { token: TOKEN, groups: vec![group()] };
    let (records, _) = run(&mut shard, NOW, &Command::DeleteGroups(delete));
    assert_eq!(records.len(), 3, "two offsets and the group: {records:?}");
    shard.end_transaction(ProducerId(7), true);
    assert_eq!(fetched(&mut shard, true), []);
    // And with a topic.
    hold(&mut shard, 7, 9, commit(0, 7));
    let deleted = Command::TopicsDeleted { topics: Arc::new([(topic(), TopicId::ZERO)]), after: None };
    assert_eq!(run(&mut shard, NOW, &deleted).0.len(), 1);
    shard.end_transaction(ProducerId(7), true);
    assert_eq!(fetched(&mut shard, true), []);
}
