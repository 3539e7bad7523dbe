//! The image: bytes and back, the store, and replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::security::{
    Acl, AclEntry, AclHost, AclPattern, Operation, PatternType, Permission, ResourceType, ScramCredential,
    ScramMechanism,
};
use crate::types::{LogMark, PartitionId, PeerId, ProducerId, RaftIndex, RaftTerm, TopicName};

fn sample_topic(id: u128, name: &str) -> Topic {
    Topic {
        id: TopicId(Uuid::from_u128(id)),
        name: TopicName::new(name).expect("legal"),
        partitions: vec![
            Partition {
                replicas: vec![NodeId(0), NodeId(2)],
                peers: vec![PeerId(1), PeerId(7)],
                ..Partition::default()
            },
            Partition {
                replicas: vec![NodeId(4)],
                moves: 3,
                since: LogMark { term: RaftTerm(4), index: RaftIndex(17) },
                moving: Some(Move { from: Some(vec![NodeId(1)]), leaving: vec![NodeId(1), NodeId(2)] }),
                ..Partition::default()
            },
        ],
        configs: Arc::new(map(&[("retention.ms", "5"), ("cleanup.policy", "")])),
    }
}

fn credential() -> ScramCredential {
    ScramCredential { salt: vec![1], stored_key: vec![2, 3], server_key: vec![], iterations: 4_096 }
}

fn acl(name: &str) -> Acl {
    let (resource, pattern) = (ResourceType::Group, PatternType::Prefixed);
    let (operation, permission) = (Operation::Alter, Permission::Deny);
    Acl {
        pattern: AclPattern { resource, pattern, name: name.into() },
        entry: AclEntry { principal: "User:u".into(), host: AclHost::new("*").unwrap(), operation, permission },
    }
}

fn one_of_each() -> Vec<Command> {
    let topic = TopicId(Uuid::from_u128(5));
    let owners = [
        ConfigOwner::Topic(topic),
        ConfigOwner::AllBrokers,
        ConfigOwner::Broker(NodeId(3)),
        ConfigOwner::Group("g".into()),
        ConfigOwner::ClientMetrics("m".into()),
    ];
    let mut commands = vec![
        Command::FormCluster { cluster_id: "c".into() },
        Command::RegisterNode(node(2)),
        Command::RegisterNode(Node { rack: None, endpoints: vec![], features: vec![], ..node(3) }),
        Command::RemoveNode { node: NodeId(3) },
        Command::AssignPeer(Peer { id: PeerId(9), node: NodeId(2), directory: node(2).directory }),
        Command::CreateTopic(sample_topic(5, "t")),
        Command::AddPartitions {
            id: topic,
            first: 2,
            partitions: vec![Partition { replicas: vec![NodeId(1)], peers: vec![PeerId(1)], ..Partition::default() }],
        },
        Command::MoveReplicas {
            id: PartitionId { topic, partition: 1 },
            replicas: vec![NodeId(3)],
            moving: Some(Move { from: None, leaving: vec![NodeId(5)] }),
            since: LogMark { term: RaftTerm(2), index: RaftIndex(9) },
        },
        Command::SetReplicas { id: topic, replicas: vec![(1, vec![NodeId(2), NodeId(0)]), (7, vec![])] },
        Command::AllocateProducerIds { node: NodeId(1), next: ProducerId(1_000) },
        Command::SetFeature { name: "f".into(), level: 3 },
        Command::SetFeature { name: "f".into(), level: 0 },
        Command::SetScram { user: "u".into(), mechanism: ScramMechanism::Sha256, credential: Some(credential()) },
        Command::SetScram { user: "u".into(), mechanism: ScramMechanism::Sha512, credential: Some(credential()) },
        Command::SetScram { user: "u".into(), mechanism: ScramMechanism::Sha256, credential: None },
        Command::SetLoginSecret { secret: vec![1, 2, 3] },
        Command::AddAcl(acl("a")),
        Command::AddAcl(acl("b")),
        Command::RemoveAcl(acl("b")),
    ];
    let changes = vec![("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)];
    commands.extend(owners.map(|owner| Command::ChangeConfigs { owner, changes: changes.clone() }));
    commands.push(Command::DeleteTopic { id: topic });
    commands
}

#[test]
fn every_command_survives_its_bytes() {
    for command in one_of_each() {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command.clone()));
        for cut in 0..bytes.len() {
            assert!(Command::decode(&bytes[..cut]).is_err(), "{command:?} cut at {cut}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(Command::decode(&longer), Err(CommandError::Damaged(_))));
    }
}

#[test]
fn the_bytes_of_commands_stay_as_they_are() {
    let bytes = |command: Command| command.encode();
    assert_eq!(bytes(Command::FormCluster { cluster_id: "ab".into() }), [0, 1, 0, 2, b'a', b'b']);
    assert_eq!(bytes(Command::RemoveNode { node: NodeId(7) }), [0, 3, 0, 0, 0, 0, 7]);
    let owner = ConfigOwner::Broker(NodeId(1));
    let changes = vec![("k".into(), Some("v".into())), ("l".into(), None)];
    assert_eq!(
        bytes(Command::ChangeConfigs { owner, changes }),
        [0, 20, 0, 3, 0, 0, 0, 1, 2, 1, b'k', 2, b'v', 1, b'l', 0]
    );
    assert_eq!(
        bytes(Command::AllocateProducerIds { node: NodeId(1), next: ProducerId(1_000) }),
        [0, 21, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0xe8]
    );
    assert_eq!(bytes(Command::SetFeature { name: "f".into(), level: 3 }), [0, 22, 0, 1, b'f', 0, 3]);
    let scram = |credential| Command::SetScram { user: "u".into(), mechanism: ScramMechanism::Sha512, credential };
    assert_eq!(bytes(scram(None)), [0, 40, 0, 1, b'u', 2, 0]);
    assert_eq!(
        bytes(scram(Some(credential()))),
        [0, 40, 0, 1, b'u', 2, 1, 1, 1, 2, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]
    );
    assert_eq!(bytes(Command::SetLoginSecret { secret: vec![7] }), [0, 41, 0, 1, 7]);
    let rest = [&[3, 4, 7, 2, 1, b'n', 6][..], b"User:u", &[1, b'*']].concat();
    assert_eq!(bytes(Command::AddAcl(acl("n"))), [&[0, 30, 0][..], &rest].concat());
    assert_eq!(bytes(Command::RemoveAcl(acl("n"))), [&[0, 31, 0][..], &rest].concat());
}

#[test]
fn a_newer_command_stops_the_node_and_says_what_it_needs() {
    assert_eq!(Command::decode(&[0, 32, 0]), Err(CommandError::TooNew { number: 32, version: 0 }));
    let mut newer = Command::RemoveNode { node: NodeId(7) }.encode();
    newer[2] = 1;
    assert_eq!(
        Command::decode(&newer).expect_err("refused").to_string(),
        "metadata holds command 3 in version 1: this node is too old, run the version that wrote it"
    );
}

#[test]
fn a_topic_from_before_clusters_has_the_peer_of_the_one_node() {
    let topic = [&[0; 15][..], &[5], &[1, b't'], &[1, 1, 0, 0, 0, 1], &[0]].concat();
    let is_whole = |image: &Image| {
        let partitions = image.topic_by_name("t").expect("there").partitions.clone();
        assert_eq!(
            partitions,
            [Partition { replicas: vec![NodeId(1)], peers: vec![PeerId(1)], ..Partition::default() }]
        );
    };
    let mut image = Image::default();
    image.apply(&Command::decode(&[&[0, 10, 0], &topic[..]].concat()).expect("an old command"));
    is_whole(&image);
    let stored = ([&[4][..], &topic[..16]].concat(), [&[0], &topic[..]].concat());
    is_whole(&Image::from_stored([stored]).expect("an old entity"));
}

#[test]
fn the_peers_of_a_partition_stay_when_a_disk_is_replaced() {
    let mut controller = Controller::new(3);
    controller.create(assigned("t", &[(0, &[3, 1])])).expect("created");
    let wiped = Node { directory: DirectoryId(Uuid::from_u128(77)), ..node(3) };
    controller.apply(&register_node(&controller.image, wiped).commands);
    controller.create(assigned("later", &[(0, &[3, 1])])).expect("created");
    let peers = |name| controller.image.topic_by_name(name).expect("there").partitions[0].peers.clone();
    assert_eq!(peers("t"), [PeerId(3), PeerId(1)]);
    assert_eq!(peers("later"), [PeerId(4), PeerId(1)]);
}

#[test]
fn copies_of_an_image_are_independent() {
    let mut image = cluster(1);
    let before = image.clone();
    for id in 0..500u128 {
        image.apply(&Command::CreateTopic(sample_topic(id, &format!("t{id}"))));
    }
    let halfway = image.clone();
    image.apply(&Command::DeleteTopic { id: TopicId(Uuid::from_u128(3)) });
    assert_eq!((before.topic_count(), halfway.topic_count(), image.topic_count()), (0, 500, 499));
    assert!(halfway.topic_by_name("t3").is_some() && image.topic_by_name("t3").is_none());
    assert_eq!(image.topics().count(), 499);
}

#[test]
fn commands_about_what_is_gone_change_nothing_else() {
    let mut image = cluster(1);
    let gone = TopicId(Uuid::from_u128(42));
    let before = image.clone();
    image.apply(&Command::DeleteTopic { id: gone });
    image.apply(&Command::AddPartitions { id: gone, first: 0, partitions: vec![] });
    image.apply(&Command::ChangeConfigs { owner: ConfigOwner::Topic(gone), changes: vec![("a".into(), None)] });
    assert_eq!(image.version(), before.version() + 3);
    assert_eq!(image.topic_count(), 0);
}

#[test]
fn damaged_or_newer_entities_are_not_taken() {
    let mut image = cluster(2);
    one_of_each().iter().for_each(|command| image.apply(command));
    image.apply(&Command::CreateTopic(sample_topic(5, "t")));
    for (key, value) in image.stored() {
        for cut in 0..value.len() {
            assert!(Image::from_stored([(&key, &value[..cut])]).is_err());
        }
        let mut newer = value.clone();
        newer[0] = 9;
        assert_eq!(Image::from_stored([(&key, newer)]), Err(StoredError::TooNew { kind: key[0], version: 9 }));
    }
    assert_eq!(Image::from_stored([([99u8], [0u8])]), Err(StoredError::TooNew { kind: 99, version: 0 }));
}

/// A request to the controller, small enough that requests meet each other's results.
#[derive(Clone, Debug)]
enum Request {
    Create(u8, i32, i16),
    Delete(u8),
    Grow(u8, i32),
    Set(u8, i8, u8, u8),
    Register(i32, u8),
    Remove(i32),
    ProducerIds,
    Feature(i16, i8),
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (0..8u8, -1..4i32, -1..3i16).prop_map(|(t, p, r)| Request::Create(t, p, r)),
        (0..8u8).prop_map(Request::Delete),
        (0..8u8, 0..6i32).prop_map(|(t, count)| Request::Grow(t, count)),
        (0..12u8, 0..4i8, 0..3u8, 0..4u8).prop_map(|(o, op, k, v)| Request::Set(o, op, k, v)),
        (0..4i32, 0..3u8).prop_map(|(n, d)| Request::Register(n, d)),
        (0..4i32).prop_map(Request::Remove),
        Just(Request::ProducerIds),
        (0..32i16, 0..4i8).prop_map(|(level, kind)| Request::Feature(level, kind)),
    ]
}

fn name(topic: u8) -> String {
    // Some names are alike but for dots.
    ["a", "b.c", "b_c", "d", "e", "f.g.h", "f_g.h", "i"][usize::from(topic) % 8].to_owned()
}

fn set_request(owner: u8, op: i8, key: u8, value: u8) -> Alteration {
    let (resource_type, resource_name, keys) = match owner {
        8 => (resource_type::BROKER, String::new(), ["log.retention.ms", "log.cleanup.policy", "log.segment.bytes"]),
        9 => (resource_type::BROKER, "1".into(), ["log.retention.ms", "log.cleanup.policy", "message.max.bytes"]),
        10 => (
            resource_type::GROUP,
            "g".into(),
            ["consumer.session.timeout.ms", "share.isolation.level", "streams.num.standby.replicas"],
        ),
        11 => (resource_type::CLIENT_METRICS, "m".into(), ["metrics", "interval.ms", "match"]),
        topic => (resource_type::TOPIC, name(topic), ["retention.ms", "cleanup.policy", "segment.bytes"]),
    };
    let value = [None, Some("5"), Some("compact"), Some("2000000")][usize::from(value)];
    let change = ConfigChange { name: keys[usize::from(key)].into(), operation: op, value: value.map(str::to_owned) };
    Alteration { resource_type, resource_name, changes: vec![change] }
}

/// The commands that follow from a request.
fn decide(controller: &Controller, request: &Request, fresh: u128) -> Vec<Command> {
    let Controller { image, broker, .. } = controller;
    let nodes = controller.nodes();
    match *request {
        Request::Create(topic, partitions, replication_factor) => {
            let mut next_id = || TopicId(Uuid::from_u128(fresh));
            let by = TopicCreation { image, broker, nodes: &nodes, next_id: &mut next_id, pick: &mut |_| 0 };
            create_topics(by, &[new_topic(&name(topic), partitions, replication_factor)], false).commands
        }
        Request::Delete(topic) => {
            let topic = TopicToDelete { name: Some(name(topic)), id: TopicId::ZERO };
            delete_topics(image, broker, &[topic]).commands
        }
        Request::Grow(topic, count) => {
            let more = MorePartitions { topic: name(topic), count, assignments: None };
            create_partitions(image, &nodes, &mut |_| 0, &[more], false).commands
        }
        Request::Set(owner, op, key, value) => {
            incremental_alter_configs(image, broker, broker.node_id(), &[set_request(owner, op, key, value)], false)
                .commands
        }
        Request::Register(id, directory) => {
            let directory = DirectoryId(Uuid::from_u128(u128::from(directory)));
            register_node(image, Node { directory, ..node(id) }).commands
        }
        Request::Remove(id) => remove_node(image, NodeId(id)).commands,
        Request::ProducerIds => allocate_producer_ids(image, NodeId(1)).expect("ids").commands,
        Request::Feature(level, upgrade_type) => {
            let update = FeatureUpdate { name: "metadata.version".into(), level, upgrade_type };
            update_features(image, NodeId(1), &[update], false).commands
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Deciding, replaying the log, and loading the store lead to the same image.
    #[test]
    fn replay_and_store_agree_with_the_decider(requests in proptest::collection::vec(request(), 1..60)) {
        let mut decider = Controller::new(0);
        let mut log: Vec<Vec<u8>> = Vec::new();
        let mut store: BTreeMap<Vec<u8>, Vec<u8>> = decider.image.stored().into_iter().collect();
        let start = decider.image.clone();
        for (at, request) in requests.iter().enumerate() {
            for command in decide(&decider, request, at as u128 + 1) {
                log.push(command.encode());
                decider.apply(std::slice::from_ref(&command));
                for (key, value) in decider.image.stored_changes(&command) {
                    match value {
                        Some(value) => store.insert(key, value),
                        None => store.remove(&key),
                    };
                }
            }
        }
        let mut replayed = start;
        for record in &log {
            replayed.apply(&Command::decode(record).expect("own bytes"));
        }
        prop_assert_eq!(&replayed, &decider.image);
        let loaded = Image::from_stored(&store).expect("own bytes");
        prop_assert_eq!(&loaded, &decider.image);
        let all: BTreeMap<_, _> = decider.image.stored().into_iter().collect();
        prop_assert_eq!(all, store);
        for topic in decider.image.topics() {
            prop_assert_eq!(decider.image.topic_by_name(topic.name.as_str()), Some(topic));
            prop_assert!(topic.partitions.iter().all(|partition| !partition.replicas.is_empty()));
        }
    }

    /// No bytes make the decoder panic or take memory out of proportion.
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..23u8) {
        let bytes = [&[0, kind, 0], bytes.as_slice()].concat();
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }
}
