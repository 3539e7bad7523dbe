//! Who may answer: a leader that is confirmed, and a follower that hears of its leader.

use std::sync::atomic::Ordering;

use super::faults::eventually;
use super::replicas::Cluster;
use super::*;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn that_a_node_leads_is_confirmed_by_others_and_many_share_an_answer() {
    const ASKERS: usize = 200;
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    let p = cluster.node(leader).get(0);
    p.clone().confirmed().await;
    let before = cluster.net.sent.load(Ordering::Relaxed);
    confirm_leaderships(vec![p.clone(); ASKERS]).await;
    let sent = cluster.net.sent.load(Ordering::Relaxed) - before;
    assert!(p.is_leading() && sent < ASKERS, "{sent} frames for {ASKERS} questions");
    // Cut off it cannot know; it ends when the node has given up.
    cluster.net.isolate(leader, true);
    p.clone().confirmed().await;
    assert!(!p.is_leading());
    let new = cluster.leader(0, leader).await;
    cluster.node(new).get(0).confirmed().await;
    assert!(cluster.node(new).get(0).is_leading());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gives_what_is_committed_while_it_hears_of_a_leader() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    let follower = leader % 3 + 1;
    let p = cluster.node(follower).get(0);
    let ask = |from| ReadAsk {
        from: Offset(from),
        max_bytes: 1 << 20,
        at_least_one: true,
        current_epoch: None,
        last_fetched_epoch: None,
        may_block: true,
        from_follower: true,
        isolation: Isolation::ReadUncommitted,
    };
    eventually("it follows", || p.feeds_consumers()).await;
    let wait = FetchWait::register(vec![p.clone()]);
    let mark = wait.mark();
    cluster.node(leader).produce(0, batch("one", 3), Acks::All).await.unwrap();
    tokio::time::timeout(SOON, wait.woken(mark, 1)).await.expect("the commit wakes those who wait at the follower");
    eventually("it knows what is committed", || p.high_watermark() == Offset(3)).await;
    let read_here = p.read(&ask(0)).unwrap();
    assert_eq!((read_here.high_watermark, read_here.log_start), (Offset(3), Offset(0)));
    assert_eq!(read(&p, 0), read(&cluster.node(leader).get(0), 0), "the same bytes");
    let as_leader = ReadAsk { from_follower: false, ..ask(0) };
    assert!(matches!(p.read(&as_leader), Err(ReadRefused::NotLeader)));
    assert!(matches!(p.read(&ask(4)), Err(ReadRefused::OutOfRange { .. })));
    let epoch = p.leader_epoch();
    assert_eq!(epoch, cluster.node(leader).get(0).leader_epoch());
    let in_epoch = |epoch| p.read(&ReadAsk { current_epoch: Some(LeaderEpoch(epoch)), ..ask(3) });
    assert!(in_epoch(epoch.0).is_ok());
    assert!(matches!(in_epoch(epoch.0 - 1), Err(ReadRefused::FencedEpoch { .. })));
    assert!(matches!(in_epoch(epoch.0 + 1), Err(ReadRefused::UnknownEpoch { .. })));

    // Cut off it does not know what is committed elsewhere, and says so to those who wait.
    let mark = wait.mark();
    cluster.net.isolate(follower, true);
    for node in 1..=3 {
        let silent = (1..=3).filter(|other| *other != node && (node == follower || *other == follower));
        cluster.node(node).partitions.set_silent(silent.map(NodeId).collect()).await;
    }
    tokio::time::timeout(SOON, wait.woken(mark, i64::MAX)).await.expect("those who wait are told");
    assert!(matches!(p.read(&ask(0)), Err(ReadRefused::NotLeader)));
}

impl Partition {
    async fn confirmed(self: Arc<Self>) {
        tokio::time::timeout(SOON, confirm_leaderships([self])).await.expect("it is known in time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_sends_away_who_waits_for_a_deletion_of_records() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    cluster.node(leader).produce(0, batch("x", 3), Acks::All).await.unwrap();
    cluster.agree(0, 3).await;
    cluster.net.isolate(leader, true);
    let p = cluster.node(leader).get(0);
    let trimmed = tokio::time::timeout(SOON, p.trim(Offset(2))).await;
    assert_eq!(trimmed.expect("it is answered"), Err(AppendError::NotLeader));
}
