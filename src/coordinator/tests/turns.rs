//! That nobody waits for others without end: neither those who ask for timers, nor timers for those who ask.

use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::coordinator::group::{DescribeGroups, InstanceId};

use super::*;

/// Nothing here takes as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Timers that set themselves again are due again later, not in the same turn.
#[test]
fn a_group_whose_members_allow_no_time_leaves_time_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    let home = node.groups.partition_for("group").unwrap();
    let other = (0..).map(|n| format!("other{n}")).find(|o| node.groups.partition_for(o).unwrap() == home).unwrap();
    let command = |fresh: &str, member: Option<&str>, rebalance_timeout_ms| {
        let asked = join("group", member, fresh, 1);
        move |token| match asked(token) {
            Command::JoinGroup(join) => Command::JoinGroup(JoinGroup {
                instance: (join.fresh_member.as_str() != "dynamic").then(|| InstanceId::new("i").unwrap()),
                rebalance_timeout_ms,
                session_timeout_ms: 1_800_000,
                ..join
            }),
            other => other,
        }
    };
    let Reply::JoinGroup(Ok(joined)) = node.ask("group", command("s1", None, 100)) else { panic!("joins") };
    let share = sync("group", &joined, 1);
    assert!(matches!(node.ask("group", share), Reply::SyncGroup(Ok(_))));
    assert!(matches!(node.ask("group", command("s2", None, 0)), Reply::JoinGroup(Ok(_))), "keeps its generation");
    drop(node.runtime.block_on(node.groups.ask_for("group", command("dynamic", None, 50))).unwrap());
    let leave = |token| {
        let members = vec![LeavingMember { member: Some(MemberId::new("dynamic").unwrap()), instance: None }];
        Command::LeaveGroup(LeaveGroup { token, group: group("group"), members })
    };
    assert!(matches!(node.ask("group", leave), Reply::LeaveGroup(Ok(_))));
    // The rebalance comes to its end without anybody, again and again.
    for offset in 0..20 {
        let asked = node.runtime.block_on(node.groups.ask_for(&other, commit(&other, 0, offset, ""))).unwrap();
        let reply = node.runtime.block_on(async { tokio::time::timeout(PATIENCE, asked.reply()).await });
        assert!(matches!(reply, Ok(Ok(Reply::OffsetCommit(Ok(_))))), "{reply:?}");
        // Until the next turn of the timer.
        node.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
    }
}

#[test]
fn timers_fire_however_many_ask() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    let Reply::JoinGroup(Ok(_)) = node.ask("group", join("group", None, "m1", 1)) else { panic!("joins") };
    let stop = Arc::new(AtomicBool::new(false));
    // More work to carry out than to ask for: the mailbox is never empty.
    for _ in 0..4 {
        let (groups, stop) = (node.groups.clone(), stop.clone());
        node.runtime.spawn(async move {
            let describe = |token| {
                let groups = (0..1_000).map(|_| group("nobody")).collect();
                Command::DescribeGroups(DescribeGroups { token, groups })
            };
            while !stop.load(Ordering::Relaxed) {
                drop(groups.ask_for("group", describe).await);
            }
        });
    }
    // It never asks for its share: after the rebalance timeout it is out.
    let describe = |token| Command::DescribeGroups(DescribeGroups { token, groups: vec![group("group")] });
    let started = std::time::Instant::now();
    loop {
        let Reply::DescribeGroups(described) = node.ask("group", describe) else { panic!("a description") };
        match &described[0].1 {
            Some(group) if !group.members.is_empty() => assert!(started.elapsed() < PATIENCE, "{group:?}"),
            _ => break,
        }
    }
    stop.store(true, Ordering::Relaxed);
}
