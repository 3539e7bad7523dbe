mod markers;
mod node;
mod share_states;
mod shares;
mod transactions;
mod turns;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::config::TopicConfig;
use millstream_core::coordinator::group::{
    ClientHost, ClientId, Command, CommitPartition, CommitTopic, FetchTopic, Fetched, Generation, GroupConfig, GroupId,
    JoinGroup, Joined, LeaveGroup, LeavingMember, ListGroups, MemberId, OffsetCommit, OffsetFetch, Protocol,
    ProtocolName, ProtocolType, Reply, ReplyToken, SyncGroup,
};
use millstream_core::types::{LogMark, NodeId, Offset, PartitionId, PeerId, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

use self::node::{Node, ask, commit, fetch, join, loaded, sync};
use super::*;
use crate::log::{DataDir, FlushConfig};
use crate::partition::{Identity, Partitions, PartitionsConfig, ToOpen};
use crate::store::{Batch, Durability, Store};

const TOPIC: TopicId = TopicId(Uuid::from_u128(50));
const COUNT: i32 = 2;
const ORDERS: TopicId = TopicId(Uuid::from_u128(7));

fn id(partition: i32) -> PartitionId {
    PartitionId { topic: TOPIC, partition }
}

fn group(name: &str) -> GroupId {
    GroupId::new(name).unwrap()
}

/// Takes the materialised state away, as if nothing had been written since the log began.
fn forget_materialised(dir: &Path) {
    let store = Store::open(&dir.join("kv")).unwrap();
    let mut batch = Batch::default();
    for partition in 0..COUNT {
        let forget = |key: &[u8], _: &[u8]| {
            batch.apply_coordinator_record(id(partition), key, None);
            Ok::<_, crate::store::StoreError>(())
        };
        store.coordinator_records(id(partition), forget).unwrap();
        batch.put_coordinator_applied(id(partition), Offset::ZERO);
    }
    store.write(batch, Durability::Buffered).unwrap();
}

#[test]
fn what_was_committed_is_there_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    for n in 0..20 {
        node.commit(&format!("group{n}"), 0, 100 + n);
    }
    node.commit("group3", 0, 7);
    node.stop();
    let node = Node::start(dir.path(), false);
    assert_eq!(node.committed("group3", 0), Some((7, "note".to_owned())), "the latest");
    assert_eq!(node.committed("group4", 0), Some((104, "note".to_owned())));
    assert_eq!(node.committed("group4", 1), None);
    assert_eq!(node.committed("nobody", 0), None);
    assert_eq!(node.listed().len(), 20);
}

#[test]
fn what_was_committed_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let node = Node::start(dir.path(), round == 0);
        for before in 0..round {
            assert_eq!(node.committed("group", before), Some((i64::from(before), "note".to_owned())));
        }
        node.commit("group", round, i64::from(round));
        // One more is under way when the process ends.
        drop(node.runtime.block_on(node.groups.ask_for("group", commit("group", 9, 9, ""))));
    }
}

#[test]
fn what_is_not_materialised_is_replayed_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    for n in 0..50 {
        node.commit("a", n % 5, i64::from(n));
        node.commit("b", n % 5, i64::from(n));
    }
    node.stop();
    forget_materialised(dir.path());
    for _ in 0..2 {
        // The second time from what the first one has stored.
        let node = Node::start(dir.path(), false);
        for partition in 0..5 {
            for of in ["a", "b"] {
                assert_eq!(node.committed(of, partition), Some((i64::from(45 + partition), "note".to_owned())));
            }
        }
        node.stop();
    }
}

#[test]
fn a_replica_that_follows_stores_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    for n in 0..50 {
        node.commit("a", n % 5, i64::from(n));
        node.commit("b", n % 5, i64::from(n));
    }
    node.stop();
    forget_materialised(dir.path());
    let node = Node::start_unfollowed(dir.path(), false);
    let store = node.groups.store();
    let mut records = 0;
    for partition in (0..COUNT).map(id) {
        let handle = node.partitions.get(partition).unwrap();
        while super::load::materialise(&handle, store).unwrap() < handle.high_watermark() {}
        assert_eq!(store.coordinator_applied(partition).unwrap(), handle.high_watermark());
        let count = |_: &[u8], _: &[u8]| {
            records += 1;
            Ok::<(), super::load::LoadError>(())
        };
        store.coordinator_records(partition, count).unwrap();
    }
    assert_eq!(records, 10, "an offset of each partition of each group");
}

#[test]
fn commits_of_many_at_once_are_all_kept_and_share_batches() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    node.commit("group", 0, 0);
    let asked = node.runtime.block_on(async {
        let mut asked = Vec::new();
        for partition in 0..1_000 {
            asked.push(node.groups.ask_for("group", commit("group", partition, 5, "")).await.unwrap());
        }
        asked
    });
    for asked in asked {
        let reply = node.runtime.block_on(asked.reply());
        assert!(matches!(reply, Ok(Reply::OffsetCommit(Ok(_)))), "{reply:?}");
    }
    let home = node.groups.partition_for("group").unwrap();
    let log = node.partitions.get(id(home)).unwrap();
    assert_eq!(log.high_watermark(), Offset(1_001), "a record each");
    node.stop();
    forget_materialised(dir.path());
    let node = Node::start(dir.path(), false);
    for partition in [0, 1, 500, 999] {
        assert_eq!(node.committed("group", partition), Some((5, String::new())));
    }
}

#[test]
fn a_stable_group_is_there_after_a_kill_and_a_member_that_left_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    let Reply::JoinGroup(Ok(joined)) = node.ask("group", join("group", None, "m1", 10)) else { panic!("joins") };
    assert_eq!((joined.generation, joined.member.as_str()), (Generation(1), "m1"));
    let reply = node.ask("group", sync("group", &joined, 3));
    assert!(matches!(reply, Reply::SyncGroup(Ok(ref synced)) if synced.assignment[..] == [1, 1, 1]), "{reply:?}");
    drop(node);
    let node = Node::start(dir.path(), false);
    let again = node.ask("group", sync("group", &joined, 0));
    assert!(matches!(again, Reply::SyncGroup(Ok(ref synced)) if synced.assignment[..] == [1, 1, 1]), "{again:?}");
    let leave = |token| {
        let members = vec![LeavingMember { member: Some(MemberId::new("m1").unwrap()), instance: None }];
        Command::LeaveGroup(LeaveGroup { token, group: group("group"), members })
    };
    assert!(matches!(node.ask("group", leave), Reply::LeaveGroup(Ok(_))));
    drop(node);
    let node = Node::start(dir.path(), false);
    let gone = node.ask("group", sync("group", &joined, 0));
    assert!(matches!(gone, Reply::SyncGroup(Err(_))), "{gone:?}");
}

#[test]
fn a_member_whose_connection_went_while_it_joined_holds_nobody_up_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    let Reply::JoinGroup(Ok(first)) = node.ask("group", join("group", None, "m1", 1)) else { panic!("joins") };
    assert!(matches!(node.ask("group", sync("group", &first, 1)), Reply::SyncGroup(Ok(_))));
    // A second one joins, and its client is gone before the first one has joined again.
    drop(node.runtime.block_on(node.groups.ask_for("group", join("group", None, "m2", 1))).unwrap());
    let Reply::JoinGroup(Ok(again)) = node.ask("group", join("group", Some("m1"), "x", 1)) else { panic!("joins") };
    assert_eq!((again.generation, again.members.len()), (Generation(2), 2));
    assert!(matches!(node.ask("group", sync("group", &again, 1)), Reply::SyncGroup(Ok(_))));
    // It never asks for its share: after the rebalance timeout it is out. Whoever joins then sees the others only.
    let Reply::JoinGroup(Ok(later)) = node.ask("group", join("group", Some("m1"), "x", 2)) else { panic!("joins") };
    assert_eq!((later.generation, later.members.len()), (Generation(3), 1));
}

#[test]
fn a_coordinator_that_was_waited_for_answers_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    let reply = node.runtime.block_on(async {
        node.groups.loaded("group", tokio::time::Instant::now() + Duration::from_secs(30)).await;
        node.groups.ask_for("group", fetch("group", 0)).await?.reply().await
    });
    assert!(matches!(reply, Ok(Reply::OffsetFetch(_))), "{reply:?}");
}

#[test]
fn nobody_is_coordinated_before_there_is_a_topic_and_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_unfollowed(dir.path(), true);
    let refused = |node: &Node| {
        let asked = node.runtime.block_on(node.groups.ask_for("group", fetch("group", 0)));
        assert_eq!(asked.err(), Some(CoordinatorError::NotCoordinator));
    };
    assert_eq!((node.groups.partition_count(), node.groups.coordinated()), (0, vec![]));
    refused(&node);
    node.follow();
    assert_eq!((node.groups.partition_count(), node.groups.coordinated()), (2, vec![0, 1]));
    assert_eq!(node.groups.partition_id_for("group").map(|id| id.topic), Ok(TOPIC));
    node.commit("group", 0, 1);
    let last = node.runtime.block_on(node.groups.ask_for("group", commit("group", 0, 2, ""))).unwrap();
    node.runtime.block_on(node.groups.stop());
    assert!(matches!(node.runtime.block_on(last.reply()), Ok(Reply::OffsetCommit(Ok(_)))), "asked before the stop");
    refused(&node);
    node.follow();
    refused(&node);
}

/// Right after a restart nobody is known to lead: a client that is sent away looks for a coordinator that may be this one.
#[test]
fn who_asks_before_a_leader_is_known_is_told_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), true, &[PeerId(1), PeerId(2)]);
    node.follow();
    let refused = node.runtime.block_on(async { node.groups.ask_for("group", fetch("group", 0)).await?.reply().await });
    assert_eq!(refused, Err(CoordinatorError::LoadInProgress));
}

#[test]
fn offsets_of_a_topic_that_is_deleted_while_the_coordinators_load_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    node.commit("group", 0, 1);
    node.stop();
    let node = Node::start(dir.path(), false);
    let deleted: Arc<[_]> = Arc::new([(TopicName::new("orders").unwrap(), ORDERS)]);
    node.runtime.block_on(node.groups.topics_deleted(deleted));
    assert_eq!(node.committed("group", 0), None);
    node.stop();
    let node = Node::start(dir.path(), false);
    assert_eq!(node.committed("group", 0), None);
}

#[test]
fn a_groups_topic_that_grows_keeps_its_groups_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    let before = node.groups.partition_for("group");
    let _entered = node.runtime.enter();
    node.groups.follow(TOPIC, 50);
    assert_eq!((node.groups.partition_count(), node.groups.partition_for("group")), (COUNT, before));
}

#[test]
fn coordinators_go_with_their_topic() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    node.commit("group", 0, 1);
    let deleted: Arc<[_]> = Arc::new([(TopicName::new("__consumer_offsets").unwrap(), TOPIC)]);
    node.runtime.block_on(node.groups.topics_deleted(deleted));
    assert_eq!((node.groups.partition_count(), node.groups.coordinated()), (0, vec![]));
}

#[test]
fn a_command_whose_records_are_too_large_is_refused_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    let Reply::JoinGroup(Ok(joined)) = node.ask("group", join("group", None, "m1", 17 << 20)) else { panic!("joins") };
    let refused = node.runtime.block_on(ask(&node.groups, "group", sync("group", &joined, 1)));
    assert_eq!(refused, Err(CoordinatorError::TooLarge));
    node.commit("other", 0, 1);
    // A large one that fits is taken, though the machine be busy between the two requests.
    let asked = join("large", None, "m1", 3 << 20);
    let patient = move |token| match asked(token) {
        Command::JoinGroup(join) => Command::JoinGroup(JoinGroup { rebalance_timeout_ms: 60_000, ..join }),
        other => other,
    };
    let Reply::JoinGroup(Ok(joined)) = node.ask("large", patient) else { panic!("joins") };
    assert!(matches!(node.ask("large", sync("large", &joined, 1)), Reply::SyncGroup(Ok(_))));
}

#[test]
fn a_panic_costs_the_memory_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    node.commit("group", 0, 1);
    let asked = node.runtime.block_on(node.groups.ask_for("group", |_| panic!("a mistake of ours"))).unwrap();
    assert_eq!(node.runtime.block_on(asked.reply()), Err(CoordinatorError::NotCoordinator));
    assert_eq!(node.committed("group", 0), Some((1, "note".to_owned())));
    node.commit("group", 0, 2);
}

#[test]
fn a_log_that_is_lost_ends_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    node.commit("group", 0, 1);
    let home = node.groups.partition_for("group").unwrap();
    node.runtime.block_on(async {
        node.partitions.remove(id(home)).await;
        let commit = node.groups.ask_for("group", commit("group", 0, 2, "")).await.unwrap();
        assert!(commit.reply().await.is_err());
        let fetch = node.groups.ask_for("group", fetch("group", 0)).await.unwrap();
        assert!(matches!(fetch.reply().await, Err(CoordinatorError::NotAvailable | CoordinatorError::LoadInProgress)));
    });
}

#[test]
fn a_groups_partition_is_kafkas() {
    // Java: "".hashCode() is 0, "a" 97, "my-group" -1906497762; of the last it is the lowest number of all, which has no
    // absolute value.
    assert_eq!(partition_of("", 50), 0);
    assert_eq!(partition_of("a", 50), 97 % 50);
    assert_eq!(partition_of("my-group", 50), 12);
    assert_eq!(partition_of("polygenelubricants", 50), 0);
    assert_eq!(partition_of("\u{1f600}", 7), (0xd83d_i32 * 31 + 0xde00) % 7, "by UTF-16 units");
}
