//! Three nodes in one process, on real sockets.

use std::collections::{HashMap, HashSet};

use millstream_core::controller::{
    NewTopic, Node as Registered, TopicCreation, UsableNode, create_topics, register_node,
};
use millstream_core::types::{PartitionId, TopicId};
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::config::FirstUsers;
use crate::config::HostPort;
use crate::partition::{self, Leadership, Links, Post};
use crate::rpc::{self, BoundRpc, Lane, Local, Rpc, RpcConfig, kind};

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: TopicId = TopicId(Uuid::from_u128(77));

/// A node of a cluster whose founders are 1 to 3.
struct Node {
    id: NodeId,
    _dir: TempDir,
    rpc: Arc<Rpc>,
    partitions: Arc<Partitions>,
    controller: Arc<Controller>,
}

fn bind() -> BoundRpc {
    rpc::bind(&HostPort { host: "127.0.0.1".to_owned(), port: 0 }).unwrap()
}

fn directory(node: i32) -> DirectoryId {
    DirectoryId(Uuid::from_u128(node.unsigned_abs().into()))
}

/// No log is trimmed here, so nobody needs a snapshot.
fn links(rpc: &Arc<Rpc>) -> Links {
    let rpc = rpc.clone();
    let caller = Arc::new(|_, _| Box::pin(async { Err("no calls".to_owned()) }) as partition::Answer);
    let outlet = Arc::new(move |to, post, parts| match post {
        Post::Urgent => rpc.send(to, Lane::Heartbeat, kind::RAFT, parts),
        Post::Raft => rpc.send(to, Lane::Append, kind::RAFT, parts),
        Post::Leaders => rpc.send(to, Lane::Append, kind::LEADERS, parts),
        Post::Sleep => rpc.send(to, Lane::Heartbeat, kind::SLEEP, parts),
    });
    Links { outlet, caller }
}

/// Carries out what others forward, as far as these tests need it.
fn serve_others(rpc: &Rpc, controller: &Arc<Controller>) {
    let controller = controller.clone();
    rpc.on_call(kind::FORWARD, move |inbound| {
        let controller = controller.clone();
        Box::pin(async move {
            if !controller.is_here() {
                return Ok(Answer::NotController.encode());
            }
            let version = || controller.look(|now| now.image.version());
            let result = match Envelope::decode(inbound.body).unwrap() {
                Envelope::ProducerIds => match controller.allocate_producer_ids(inbound.from).await {
                    Ok(block) => encode_block(Ok(block)),
                    Err(_) => return Ok(Answer::NotAvailable.encode()),
                },
                Envelope::Position => version().to_be_bytes().to_vec().into(),
                other => panic!("{other:?}"),
            };
            Ok(Answer::Done { version: version(), result }.encode())
        })
    });
}

async fn start(id: i32, bound: BoundRpc, addresses: HashMap<NodeId, HostPort>) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let local = Local { node: NodeId(id), directory: directory(id), boot: Uuid::new_v4() };
    let rpc = Rpc::start(bound, local, RpcConfig::default()).unwrap();
    rpc.set_cluster("cluster");
    let store = Arc::new(Store::open(&dir.path().join("kv")).unwrap());
    let data = DataDir::open(dir.path(), FlushConfig { ballast_bytes: 1 << 20, ..FlushConfig::default() }).unwrap();
    let peer =
        |node: i32| Peer { id: PeerId(node.unsigned_abs().into()), node: NodeId(node), directory: directory(node) };
    let identity = Identity { peer: peer(id).id, node: NodeId(id), boot: local.boot };
    let partitions = Partitions::start(data, store.clone(), identity, Some(links(&rpc)), partitions_config());
    for (kind, post) in [(kind::RAFT, Post::Raft), (kind::LEADERS, Post::Leaders), (kind::SLEEP, Post::Sleep)] {
        let partitions = partitions.clone();
        rpc.on_message(kind, move |inbound| {
            let partitions = partitions.clone();
            Box::pin(async move { partitions.deliver(inbound.from, post, inbound.body).await.unwrap() })
        });
    }
    rpc.set_nodes(addresses);
    tokio::spawn(follow_the_living(rpc.clone(), partitions.clone()));
    let settings = BrokerConfig::new([("node.id".to_owned(), id.to_string())].into()).unwrap();
    let founding = Founding {
        cluster_id: "cluster".to_owned(),
        founders: (1..=3).map(peer).collect(),
        users: FirstUsers::default(),
    };
    let begun = super::super::start(Start {
        partitions: partitions.clone(),
        store,
        settings,
        founding,
        rpc: Some(rpc.clone()),
    });
    let controller = begun.await.unwrap();
    serve_others(&rpc, &controller);
    Node { id: NodeId(id), _dir: dir, rpc, partitions, controller }
}

async fn follow_the_living(rpc: Arc<Rpc>, partitions: Arc<Partitions>) {
    let mut changes = rpc.alive_changes();
    let mut known = HashSet::new();
    loop {
        let (living, dead): (HashSet<_>, HashSet<_>) =
            partitions.nodes().into_iter().partition(|node| rpc.is_alive(*node));
        for node in living.difference(&known) {
            partitions.greet(*node, rpc.boot_id(*node).unwrap_or_default()).await;
        }
        known = living;
        partitions.set_silent(dead.clone()).await;
        partitions.set_dead(dead).await;
        drop(tokio::time::timeout(Duration::from_secs(1), changes.changed()).await);
    }
}

async fn cluster() -> Vec<Node> {
    let bound: Vec<BoundRpc> = (0..3).map(|_| bind()).collect();
    let address = |bound: &BoundRpc| HostPort { host: "127.0.0.1".to_owned(), port: bound.address.port() };
    let addresses: HashMap<NodeId, HostPort> = (1..).map(NodeId).zip(bound.iter().map(address)).collect();
    let mut nodes = Vec::new();
    for (id, bound) in (1..).zip(bound) {
        nodes.push(start(id, bound, addresses.clone()).await);
    }
    nodes
}

async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn leader(nodes: &[Node]) -> usize {
    let is_leading = |node: &Node| node.controller.leader() == Some(node.id);
    eventually("somebody leads the metadata", || nodes.iter().any(is_leading)).await;
    nodes.iter().position(is_leading).unwrap()
}

/// Asks the leader, whoever that is by then.
async fn change<R: Send + 'static>(
    nodes: &[Node],
    decide: impl Fn(&Image) -> Decision<R> + Clone + Send + 'static,
) -> R {
    let until = Instant::now() + PATIENCE;
    loop {
        let leader = leader(nodes).await;
        match nodes[leader].controller.change(decide.clone()).await {
            Ok(reply) => return reply,
            Err(e) => assert!(Instant::now() < until, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn register(nodes: &[Node], id: i32) {
    let node = Registered {
        id: NodeId(id),
        directory: directory(id),
        rack: None,
        endpoints: Vec::new(),
        rpc_address: String::new(),
        features: Vec::new(),
    };
    let peer = change(nodes, move |image| register_node(image, node.clone())).await;
    assert_eq!(peer, PeerId(id.unsigned_abs().into()));
}

async fn create_topic(nodes: &[Node], name: &'static str, replication_factor: i16) {
    let decide = move |image: &Image| {
        let usable = |id| UsableNode { id: NodeId(id), rack: None, alive: true };
        let topic = NewTopic { name: name.to_owned(), partitions: 3, replication_factor, ..NewTopic::default() };
        let by = TopicCreation {
            image,
            broker: &BrokerConfig::default(),
            nodes: &[1, 2, 3].map(usable),
            next_id: &mut || TOPIC,
            pick: &mut |_| 0,
        };
        create_topics(by, &[topic], false)
    };
    for (_, created) in change(nodes, decide).await {
        created.unwrap();
    }
}

async fn all_have(nodes: &[Node], version: u64) {
    for node in nodes {
        assert!(node.controller.reach(version, PATIENCE).await, "node {} reads on", node.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_have_the_same_metadata_and_go_on_without_one() {
    let mut nodes = cluster().await;
    for id in 1..=3 {
        register(&nodes, id).await;
    }
    create_topic(&nodes, "orders", 3).await;
    let at = leader(&nodes).await;
    let image = nodes[at].controller.published().image.clone();
    assert_eq!(image.cluster_id(), Some("cluster"));
    all_have(&nodes, image.version()).await;
    for node in &nodes {
        assert_eq!(node.controller.published().image, image, "node {}", node.id);
        let peers = |p: i32| node.controller.published().image.topic(TOPIC).unwrap().partitions[p as usize].peers.len();
        assert_eq!((0..3).map(peers).collect::<Vec<_>>(), [3, 3, 3]);
        // Everybody has a replica, and knows in the end who leads.
        for partition in 0..3 {
            let id = PartitionId { topic: TOPIC, partition };
            let led = || node.partitions.leaders().get(id).is_some();
            eventually("somebody leads the partition", led).await;
            assert_ne!(node.partitions.get(id).unwrap().leadership(), Leadership::Offline);
        }
    }
    // One that does not lead says who does, and asks it for producer ids.
    let other = &nodes[(at + 1) % 3];
    let refused = set_feature(&other.controller, "f").await;
    assert_eq!(refused, Err(ControllerError::NotController { leader: Some(nodes[at].id) }));
    let mut ids = HashSet::new();
    for node in &nodes {
        assert!(ids.insert(node.controller.next_producer_id().await.unwrap()));
    }
    // The leader is cut off: the others go on, and nothing is lost.
    let alone = nodes.swap_remove(at);
    alone.rpc.stop();
    register(&nodes, 1).await;
    change(&nodes, |_| Decision { commands: vec![Command::SetFeature { name: "g".to_owned(), level: 2 }], reply: () })
        .await;
    let version = nodes[leader(&nodes).await].controller.published().image.version();
    all_have(&nodes, version).await;
    for node in &nodes {
        let now = node.controller.published();
        assert_eq!((now.image.feature("g"), now.image.topic_by_name("orders").is_some()), (2, true));
        assert!(ids.insert(node.controller.next_producer_id().await.unwrap()));
    }
    eventually("the one that is cut off decides no more", || alone.controller.leader() != Some(alone.id)).await;
    assert!(matches!(set_feature(&alone.controller, "h").await, Err(ControllerError::NotController { .. })));
}
