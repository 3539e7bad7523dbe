//! Three nodes' partitions in one process, over a network that can be cut.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, Weak};

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::faults::eventually;
use super::*;

type Inbox = mpsc::UnboundedSender<(Post, Bytes)>;

/// Frames between nodes. A cut link loses what is sent over it.
#[derive(Default)]
pub(super) struct Net {
    /// Those who answer calls.
    partitions: Mutex<HashMap<i32, Weak<Partitions>>>,
    /// Calls that were made.
    pub calls: AtomicUsize,
    /// So many calls fail from now on.
    pub calls_to_fail: AtomicUsize,
    inboxes: Mutex<HashMap<(i32, i32), Inbox>>,
    cut: Mutex<HashSet<(i32, i32)>>,
    /// Frames of raft that were sent.
    pub sent: AtomicUsize,
}

impl Net {
    fn outlet(self: &Arc<Self>, from: i32) -> Outlet {
        let net = self.clone();
        Arc::new(move |to, post, parts| {
            if net.cut.lock().unwrap().contains(&(from, to.0)) {
                return false;
            }
            if matches!(post, Post::Urgent | Post::Raft) {
                net.sent.fetch_add(1, Ordering::Relaxed);
            }
            let inboxes = net.inboxes.lock().unwrap();
            inboxes.get(&(from, to.0)).is_some_and(|inbox| inbox.send((post, parts.concat().into())).is_ok())
        })
    }

    fn caller(self: &Arc<Self>, from: i32) -> Caller {
        let net = self.clone();
        Arc::new(move |to, body| {
            let net = net.clone();
            net.calls.fetch_add(1, Ordering::Relaxed);
            let call = async move {
                let is_cut = || net.cut.lock().unwrap().contains(&(from, to.0));
                let fails = net.calls_to_fail.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
                if is_cut() || fails.is_ok() {
                    return Err("lost".to_owned());
                }
                let partitions = net.partitions.lock().unwrap().get(&to.0).and_then(Weak::upgrade);
                let answer = partitions.ok_or("nobody there")?.answer(NodeId(from), body).await;
                if is_cut() { Err("lost".to_owned()) } else { answer }
            };
            Box::pin(call) as Answer
        })
    }

    fn connect(&self, to: i32, partitions: &Arc<Partitions>) {
        self.partitions.lock().unwrap().insert(to, Arc::downgrade(partitions));
        for from in (1..=3).filter(|from| *from != to) {
            let (inbox, mut frames) = mpsc::unbounded_channel();
            self.inboxes.lock().unwrap().insert((from, to), inbox);
            let partitions = Arc::downgrade(partitions);
            tokio::spawn(async move {
                while let Some((post, body)) = frames.recv().await {
                    let Some(partitions) = partitions.upgrade() else { return };
                    partitions.deliver(NodeId(from), post, body).await.unwrap();
                }
            });
        }
    }

    /// The node is not heard, and hears.
    pub fn mute(&self, node: i32, is_cut: bool) {
        let mut cut = self.cut.lock().unwrap();
        for link in (1..=3).map(|other| (node, other)) {
            if is_cut {
                cut.insert(link)
            } else {
                cut.remove(&link)
            };
        }
    }

    /// Nothing comes to the node or from it.
    pub fn isolate(&self, node: i32, is_cut: bool) {
        let mut cut = self.cut.lock().unwrap();
        for other in 1..=3 {
            for link in [(node, other), (other, node)] {
                if is_cut {
                    cut.insert(link)
                } else {
                    cut.remove(&link)
                };
            }
        }
    }
}

pub(super) struct Cluster {
    pub net: Arc<Net>,
    dirs: Vec<TempDir>,
    nodes: Vec<Option<Node>>,
    /// `replica.lag.time.max.ms` of nodes that are started.
    pub lag_max: Duration,
    /// Partitions that are not opened.
    pub offline: HashSet<i32>,
}

impl Cluster {
    pub async fn start() -> Self {
        let dirs = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut cluster = Self {
            net: Arc::default(),
            dirs,
            nodes: vec![None, None, None],
            lag_max: Duration::from_secs(30),
            offline: HashSet::new(),
        };
        for node in 1..=3 {
            cluster.start_node(node, true).await;
        }
        cluster
    }

    pub async fn start_node(&mut self, node: i32, newborn: bool) {
        let dir = self.dirs[node as usize - 1].path();
        // What the node before had under way may hold the store a little longer.
        let found = OnceLock::new();
        eventually("the store is free", || Store::open(&dir.join("kv")).is_ok_and(|store| found.set(store).is_ok()))
            .await;
        let store = Arc::new(found.into_inner().unwrap());
        let data = DataDir::open(dir, FlushConfig::default()).unwrap();
        let config =
            PartitionsConfig { shards: 2, producer_id_expiration_ms: 86_400_000, replica_lag_max: self.lag_max };
        let identity = Identity { peer: PeerId(node as u64), node: NodeId(node), boot: Uuid::from_u128(node as u128) };
        let links = Links { outlet: self.net.outlet(node), caller: self.net.caller(node) };
        let partitions = Partitions::start(data, store, identity, Some(links), config);
        let peers = (1..=3).map(|n| (PeerId(n), NodeId(n as i32)));
        partitions.set_peers(peers.clone().collect(), peers.map(|(peer, node)| (node, peer)));
        self.net.connect(node, &partitions);
        let voters = (1..=3).map(PeerId).collect::<Vec<_>>();
        let open = |p| ToOpen { voters: voters.clone(), preferred: node == p + 1, ..to_open(p, newborn) };
        let opened = (0..3).filter(|p| !self.offline.contains(p)).map(open);
        let outcomes = partitions.open(opened.collect()).await;
        assert!(outcomes.iter().all(|o| o.failed.is_none()), "{outcomes:?}");
        self.nodes[node as usize - 1] = Some(Node { partitions });
    }

    /// As `kill -9` would: nothing is saved.
    pub async fn kill(&mut self, node: i32) {
        self.net.isolate(node, true);
        let Node { partitions } = self.nodes[node as usize - 1].take().unwrap();
        partitions.crash().await;
        self.net.isolate(node, false);
    }

    pub fn node(&self, node: i32) -> &Node {
        self.nodes[node as usize - 1].as_ref().unwrap()
    }

    /// Who leads, once somebody else than `than` does.
    pub async fn leader(&self, partition: i32, than: i32) -> i32 {
        let found = OnceLock::new();
        eventually("somebody leads", || {
            let alive = self.nodes.iter().zip(1..).filter_map(|(node, n)| Some((node.as_ref()?, n)));
            let mut leads = alive.filter(|(node, n)| *n != than && node.get(partition).is_leading());
            leads.next().is_some_and(|(_, n)| found.set(n).is_ok())
        })
        .await;
        *found.get().unwrap()
    }

    /// Whether nothing is said for longer than any election takes: nobody misses the heartbeats.
    pub async fn is_quiet(&self) -> bool {
        let before = self.net.sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        self.net.sent.load(Ordering::Relaxed) == before
    }

    pub fn dir(&self, node: i32) -> &Path {
        self.dirs[node as usize - 1].path()
    }

    pub async fn agree(&self, partition: i32, end: i64) {
        eventually("all replicas have all", || {
            self.nodes.iter().flatten().all(|n| n.get(partition).high_watermark() == Offset(end))
        })
        .await;
        let logs: Vec<Bytes> = self.nodes.iter().flatten().map(|n| read(&n.get(partition), 0)).collect();
        assert!(logs.windows(2).all(|pair| pair[0] == pair[1]), "replicas of {partition} differ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_hold_the_same_and_the_preferred_ones_lead() {
    let cluster = Cluster::start().await;
    for partition in 0..3 {
        let leader = cluster.leader(partition, 0).await;
        assert_eq!(leader, partition + 1, "the preferred replica leads");
        for n in 0..20 {
            let sent = batch(&format!("{n}"), 2);
            let appended = cluster.node(leader).produce(partition, sent, Acks::All).await.unwrap();
            assert_eq!(appended.base_offset, Offset(n * 2));
        }
        cluster.agree(partition, 40).await;
    }
    for node in 1..=3 {
        let leaders = cluster.node(node).partitions.leaders();
        eventually("every node knows every leader", || {
            (0..3).all(|p| leaders.get(id(p)).is_some_and(|l| l.node.0 == p + 1 && l.isr.len() == 3))
        })
        .await;
        let other = node % 3;
        let refused = cluster.node(node).produce(other, batch("x", 1), Acks::All).await;
        assert_eq!(refused, Err(AppendError::NotLeader));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_leader_is_replaced_and_what_only_it_had_is_cut_off() {
    let cluster = Cluster::start().await;
    let old = cluster.leader(0, 0).await;
    cluster.node(old).produce(0, batch("first", 3), Acks::All).await.unwrap();
    cluster.agree(0, 3).await;
    cluster.net.isolate(old, true);
    // Appended there, and never on a majority.
    let lost: Vec<_> = (0..3).map(|n| batch(&format!("lost {n}"), 1)).collect();
    for batch in lost {
        cluster.node(old).produce(0, batch, Acks::Leader).await.unwrap();
    }
    let (ticket, header) = (Ticket::new(1, None), BatchHeader::parse(&batch("parked", 1)).unwrap());
    let append = Append {
        id: id(0),
        header,
        bytes: batch("parked", 1),
        acks: Acks::All,
        guard: None,
        ticket: ticket.clone(),
        place: 0,
    };
    cluster.node(old).partitions.append(vec![append]).await;
    // It hears of no successor: whoever waits is sent elsewhere.
    ticket.completed().await;
    assert_eq!(ticket.take().remove(0).unwrap(), Err(AppendError::NotLeader));
    let new = cluster.leader(0, old).await;
    assert_eq!(cluster.node(new).produce(0, batch("second", 2), Acks::All).await.unwrap().base_offset, Offset(3));
    eventually("the old leader gives up", || cluster.node(old).get(0).leadership() == Leadership::Following).await;
    cluster.net.isolate(old, false);
    cluster.agree(0, 5).await;
    assert_eq!(cluster.node(old).get(0).log_end(), Offset(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_die_one_after_the_other_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start().await;
    let mut end = 0;
    for round in 0..6 {
        let leader = cluster.leader(1, 0).await;
        for n in 0..10 {
            let appended = cluster.node(leader).produce(1, batch(&format!("{round} {n}"), 1), Acks::All).await.unwrap();
            assert_eq!(appended.base_offset, Offset(end));
            end += 1;
        }
        let dies = round % 3 + 1;
        cluster.kill(dies).await;
        let leader = cluster.leader(1, dies).await;
        assert_eq!(
            cluster.node(leader).produce(1, batch("meanwhile", 1), Acks::All).await.unwrap().base_offset,
            Offset(end)
        );
        end += 1;
        cluster.start_node(dies, false).await;
        cluster.agree(1, end).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_missed_much_catches_up_from_the_log() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    let late = leader % 3 + 1;
    cluster.net.isolate(late, true);
    for n in 0..300 {
        cluster.node(leader).produce(0, batch(&format!("{n} {}", "x".repeat(5000)), 1), Acks::All).await.unwrap();
    }
    cluster.net.isolate(late, false);
    cluster.agree(0, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leadership_is_handed_over_while_producers_write() {
    let cluster = Cluster::start().await;
    let mut end = 0;
    for round in 0..6 {
        let leader = cluster.leader(0, 0).await;
        let heir = leader % 3 + 1;
        assert!(cluster.node(leader).partitions.transfer(id(0), NodeId(heir)).await);
        match cluster.node(leader).produce(0, batch(&format!("{round}"), 1), Acks::All).await {
            Ok(appended) => {
                assert_eq!(appended.base_offset, Offset(end));
                end += 1;
            }
            Err(refused) => assert_eq!(refused, AppendError::NotLeader),
        }
        assert_eq!(cluster.leader(0, leader).await, heir);
    }
    cluster.agree(0, end).await;
    let leader = cluster.leader(0, 0).await;
    let other = cluster.node(leader % 3 + 1);
    assert!(!other.partitions.transfer(id(0), NodeId(leader)).await, "it does not lead");
    assert!(!cluster.node(leader).partitions.transfer(id(0), NodeId(9)).await, "nobody there");
    // A node that is about to stop gives away all that it leads.
    cluster.node(leader).partitions.hand_over().await;
    assert!((0..3).all(|p| !cluster.node(leader).get(p).is_leading()));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_in_sync_refuse_what_wants_all() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    let node = cluster.node(leader);
    let config = |min_insync_replicas| Arc::new(TopicConfig { min_insync_replicas, ..TopicConfig::default() });
    node.partitions.set_config(id(0), config(3)).await;
    node.produce(0, batch("all three", 1), Acks::All).await.unwrap();
    let gone = leader % 3 + 1;
    cluster.net.isolate(gone, true);
    // Appended and committed, but the third has not got it when it is found dead.
    let produced = tokio::spawn({
        let (partitions, bytes) = (node.partitions.clone(), batch("two", 1));
        async move { Node { partitions }.produce(0, bytes, Acks::All).await }
    });
    eventually("it is committed", || node.get(0).high_watermark() == Offset(2)).await;
    node.partitions.set_dead(HashSet::from([NodeId(gone)])).await;
    assert_eq!(produced.await.unwrap(), Err(AppendError::NotEnoughReplicasAfterAppend));
    let refused = node.produce(0, batch("x", 1), Acks::All).await;
    assert_eq!(refused, Err(AppendError::NotEnoughReplicas));
    node.produce(0, batch("the leader's word is enough", 1), Acks::Leader).await.unwrap();
    node.partitions.set_config(id(0), config(2)).await;
    assert_eq!(node.produce(0, batch("two are enough", 1), Acks::All).await.unwrap().base_offset, Offset(3));
    let isr = node.partitions.leaders().get(id(0)).unwrap().isr;
    assert!(isr.len() == 2 && !isr.contains(&NodeId(gone)));
    cluster.net.isolate(gone, false);
    node.partitions.set_dead(HashSet::new()).await;
    eventually("it is in sync again", || node.partitions.leaders().get(id(0)).unwrap().isr.len() == 3).await;
    node.partitions.set_config(id(0), config(3)).await;
    assert_eq!(node.produce(0, batch("all three", 1), Acks::All).await.unwrap().base_offset, Offset(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_while_producers_write_and_the_leader_goes_too() {
    let mut cluster = Cluster::start().await;
    let (moved, mut end) = (7, 0);
    for (node, voters) in [(1, &[1u64, 2][..]), (2, &[1, 2])] {
        let voters = voters.iter().map(|n| PeerId(*n)).collect();
        let open = ToOpen { voters, preferred: node == 1, ..to_open(moved, true) };
        cluster.node(node).partitions.open(vec![open]).await;
    }
    let produce = async |cluster: &Cluster, end: &mut i64| {
        let on = cluster.nodes.iter().flatten().filter(|n| n.partitions.get(id(moved)).is_some());
        for node in on {
            match node.produce(moved, batch(&format!("{end}"), 1), Acks::All).await {
                Ok(appended) => {
                    assert_eq!(appended.base_offset, Offset(*end));
                    *end += 1;
                }
                Err(refused) => assert_eq!(refused, AppendError::NotLeader),
            }
        }
    };
    eventually("it leads", || cluster.node(1).get(moved).is_leading()).await;
    produce(&cluster, &mut end).await;
    // The third is opened as a replica of a group that was born without it.
    let voters: Vec<_> = [1, 2].map(PeerId).into();
    let open = ToOpen { voters, preferred: false, ..to_open(moved, true) };
    cluster.node(3).partitions.open(vec![open]).await;
    for target in [[2, 3], [1, 3], [1, 2]] {
        let members = Members { voters: target.map(PeerId).into(), learners: Vec::new(), moves: 0 };
        for node in 1..=3 {
            cluster.node(node).partitions.set_members(id(moved), members.clone()).await;
        }
        let is_reached = || {
            let leader = cluster.node(1).partitions.leaders().get(id(moved));
            leader.is_some_and(|l| l.voters == members.voters && target.contains(&(l.node.0 as u64)))
        };
        for _ in 0..1000 {
            produce(&cluster, &mut end).await;
            if is_reached() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(is_reached(), "{target:?}: {:?}", cluster.node(1).partitions.leaders().get(id(moved)));
    }
    assert!(end > 10);
    let ends = |node| cluster.node(node).get(moved).high_watermark() == Offset(end);
    eventually("those who stay have all", || ends(1) && ends(2)).await;
    assert_eq!(read(&cluster.node(1).get(moved), 0), read(&cluster.node(2).get(moved), 0));
    // A restart finds the members that are, not those of the birth.
    cluster.kill(1).await;
    cluster.start_node(1, false).await;
    let open = ToOpen { voters: vec![PeerId(1), PeerId(2)], preferred: true, ..to_open(moved, false) };
    cluster.node(1).partitions.open(vec![open]).await;
    eventually("both go on", || cluster.node(1).get(moved).is_leading() || cluster.node(2).get(moved).is_leading())
        .await;
    // Who is alone has to apply that before it can lead, and nobody's messages help it along.
    let alone = Members { voters: vec![PeerId(1)], ..Members::default() };
    for node in [1, 2] {
        cluster.node(node).partitions.set_members(id(moved), alone.clone()).await;
    }
    let is_alone = || cluster.node(1).partitions.leaders().get(id(moved)).is_some_and(|l| l.voters == alone.voters);
    eventually("the first is left", is_alone).await;
    cluster.kill(1).await;
    cluster.start_node(1, false).await;
    let open = ToOpen { voters: vec![PeerId(1), PeerId(2)], ..to_open(moved, false) };
    let opened = cluster.node(1).partitions.open(vec![open]);
    tokio::time::timeout(Duration::from_secs(30), opened).await.expect("it leads by itself");
    assert!(cluster.node(1).get(moved).is_leading());
    produce(&cluster, &mut end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_offline_is_out_of_sync_though_its_node_lives() {
    let mut cluster = Cluster::start().await;
    cluster.lag_max = Duration::from_secs(1);
    // Those who lead afterwards have the shorter limit.
    for node in 1..=3 {
        cluster.kill(node).await;
        cluster.start_node(node, false).await;
    }
    let leader = cluster.leader(0, 0).await;
    cluster.node(leader).produce(0, batch("x", 1), Acks::All).await.unwrap();
    let returned = leader % 3 + 1;
    let id = cluster.node(leader).get(0).id;
    let in_sync = |cluster: &Cluster| cluster.node(leader).partitions.leaders().get(id).map(|told| told.isr);
    eventually("all are in sync", || in_sync(&cluster).is_some_and(|isr| isr.len() == 3)).await;
    for is_offline in [true, false] {
        cluster.kill(returned).await;
        cluster.offline = if is_offline { HashSet::from([0]) } else { HashSet::new() };
        cluster.start_node(returned, false).await;
        cluster.node(leader).partitions.greet(NodeId(returned), Uuid::from_u128(returned as u128)).await;
        let expected: Vec<NodeId> = (1..=3).filter(|node| !is_offline || *node != returned).map(NodeId).collect();
        eventually("the leader knows", || in_sync(&cluster).is_some_and(|isr| isr == expected)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_heard_while_the_leader_goes_to_sleep_is_in_sync_again_when_it_is() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    cluster.node(leader).produce(0, batch("x", 1), Acks::All).await.unwrap();
    cluster.agree(0, 1).await;
    let muted = leader % 3 + 1;
    let partitions = &cluster.node(leader).partitions;
    let in_sync = |count| partitions.leaders().get(id(0)).is_some_and(|told| told.isr.len() == count);
    eventually("all are in sync", || in_sync(3)).await;
    cluster.net.mute(muted, true);
    partitions.set_dead(HashSet::from([NodeId(muted)])).await;
    eventually("it is out of sync", || in_sync(2)).await;
    // Its node is back, and what its replica says still gets lost.
    partitions.set_dead(HashSet::new()).await;
    while !cluster.is_quiet().await {}
    assert!(in_sync(2));
    cluster.net.mute(muted, false);
    eventually("it is in sync again", || in_sync(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_groups_are_quiet_and_wake_when_something_happens() {
    let mut cluster = Cluster::start().await;
    for partition in 0..3 {
        let leader = cluster.leader(partition, 0).await;
        cluster.node(leader).produce(partition, batch("x", 1), Acks::All).await.unwrap();
    }
    let mut looks = 0;
    while !cluster.is_quiet().await {
        looks += 1;
        assert!(looks < 10, "the groups never sleep");
    }
    let epochs: Vec<_> = (0..3).map(|p| cluster.node(p + 1).get(p).leader_epoch()).collect();
    for partition in 0..3 {
        let appended = cluster.node(partition + 1).produce(partition, batch("y", 1), Acks::All).await.unwrap();
        assert_eq!(appended.base_offset, Offset(1));
        cluster.agree(partition, 2).await;
    }
    assert!(
        (0..3).all(|p| cluster.node(p + 1).get(p).leader_epoch() == epochs[p as usize]),
        "nobody stood for election"
    );
    while !cluster.is_quiet().await {}
    // Who asks whether they lead wakes them for a moment.
    confirm_leaderships((0..3).map(|p| cluster.node(p + 1).get(p))).await;
    while !cluster.is_quiet().await {}
    // The node of a leader dies in its sleep.
    cluster.kill(1).await;
    for node in [2, 3] {
        cluster.node(node).partitions.set_silent(HashSet::from([NodeId(1)])).await;
    }
    let leader = cluster.leader(0, 1).await;
    assert_eq!(cluster.node(leader).produce(0, batch("z", 1), Acks::All).await.unwrap().base_offset, Offset(2));
}
