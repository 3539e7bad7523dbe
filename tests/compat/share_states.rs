//! The share coordinator as raw requests meet it: InitializeShareGroupState, ReadShareGroupState, WriteShareGroupState,
//! DeleteShareGroupState, ReadShareGroupStateSummary, FindCoordinator; over kills, of one node and of three.

use kafka_protocol::messages::{CreateTopicsRequest, FindCoordinatorRequest};
use uuid::Uuid;

use crate::harness::broker::Broker;
use crate::harness::nodes::Nodes;
use crate::harness::share_state::{Share, State};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, topics, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_COORDINATOR: i16 = 16;
const INVALID_REQUEST: i16 = 42;
const FENCED_LEADER_EPOCH: i16 = 74;
const FENCED_STATE_EPOCH: i16 = 124;

const AVAILABLE: i8 = 0;
const ACKNOWLEDGED: i8 = 2;
const ARCHIVED: i8 = 4;

/// A new group's view of a new topic, and its coordinator is there.
fn share(wire: &mut Wire, partition: i32) -> Share {
    let topic = topics::topic(wire, 2);
    let share = Share { group: unique("readers"), topic: topics::topic_id(wire, &topic), partition };
    eventually("the share coordinator", || (share.coordinator(wire) > 0).then_some(()));
    share
}

fn state(epoch: i32, start: i64, batches: &[(i64, i64, i8, i16)]) -> State {
    State { code: 0, epoch, start, batches: batches.to_vec() }
}

#[test]
fn find_coordinator_of_a_share_partition() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let share = share(&mut wire, 0);
    let find = |key: &str| FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![text(key)]);
    let code = |wire: &mut Wire, version, key: &str| wire.call(version, &find(key)).coordinators[0].error_code;
    assert_eq!(code(&mut wire, 5, &share.name()), INVALID_REQUEST, "before there were any");
    for key in ["", "readers", ":AAAAAAAAAAAAAAAAAAAAAQ:0", "readers:0", "readers:AAAAAAAAAAAAAAAAAAAAAQ:x"] {
        assert_eq!(code(&mut wire, 6, key), INVALID_REQUEST, "{key}");
    }
}

#[test]
fn initialize_share_group_state() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let at = share(&mut wire, 0);
    assert_eq!(at.initialize(&mut wire, 2, 7), 0);
    assert_eq!(at.read(&mut wire, -1), state(2, 7, &[]));
    assert_eq!(at.initialize(&mut wire, 1, 9), FENCED_STATE_EPOCH);
    assert_eq!(at.initialize(&mut wire, 3, -1), 0);
    assert_eq!(at.read(&mut wire, -1), state(3, -1, &[]));
    assert_eq!(Share { partition: 2, ..at.clone() }.initialize(&mut wire, 1, 0), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(Share { partition: -1, ..at.clone() }.initialize(&mut wire, 1, 0), INVALID_REQUEST);
    assert_eq!(Share { topic: Uuid::from_u128(5), ..at }.initialize(&mut wire, 1, 0), UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn read_share_group_state() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let at = share(&mut wire, 1);
    assert_eq!(at.read(&mut wire, 1).code, INVALID_REQUEST, "nobody began");
    assert_eq!(at.initialize(&mut wire, 1, 0), 0);
    assert_eq!(at.read(&mut wire, 5), state(1, 0, &[]));
    assert_eq!(at.read(&mut wire, 5), state(1, 0, &[]));
    assert_eq!(at.read(&mut wire, 4).code, FENCED_LEADER_EPOCH);
    assert_eq!(at.read(&mut wire, 6), state(1, 0, &[]));
    assert_eq!(at.read(&mut wire, 5).code, FENCED_LEADER_EPOCH);
    assert_eq!(Share { partition: -1, ..at }.read(&mut wire, 5).code, INVALID_REQUEST);
}

#[test]
fn write_share_group_state() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let at = share(&mut wire, 0);
    assert_eq!(at.write(&mut wire, (1, 1), 0, &[]), INVALID_REQUEST, "nobody began");
    assert_eq!(at.initialize(&mut wire, 2, 0), 0);
    assert_eq!(at.read(&mut wire, 5).code, 0);
    assert_eq!(at.write(&mut wire, (2, 5), 0, &[(0, 9, AVAILABLE, 1), (10, 14, ACKNOWLEDGED, 1)]), 0);
    assert_eq!(at.write(&mut wire, (2, 5), -1, &[(4, 6, ACKNOWLEDGED, 2), (15, 15, ARCHIVED, 5)]), 0);
    let batches = [
        (0, 3, AVAILABLE, 1),
        (4, 6, ACKNOWLEDGED, 2),
        (7, 9, AVAILABLE, 1),
        (10, 14, ACKNOWLEDGED, 1),
        (15, 15, ARCHIVED, 5),
    ];
    assert_eq!(at.read(&mut wire, 5), state(2, 0, &batches));
    assert_eq!(at.write(&mut wire, (2, 4), 10, &[]), FENCED_LEADER_EPOCH);
    assert_eq!(at.write(&mut wire, (1, 5), 10, &[]), FENCED_STATE_EPOCH);
    assert_eq!(at.write(&mut wire, (2, 5), 12, &[]), 0);
    assert_eq!(at.read(&mut wire, 5), state(2, 12, &[(12, 14, ACKNOWLEDGED, 1), (15, 15, ARCHIVED, 5)]));
    // Version 1 counts.
    assert_eq!(at.write_counted(&mut wire, (2, 5), 16, 3), 0);
    assert_eq!(at.write_counted(&mut wire, (2, 4), 17, 3), FENCED_LEADER_EPOCH);
    assert_eq!(at.counted(&mut wire), 3);
    assert_eq!(at.read(&mut wire, 5), state(2, 16, &[]));
}

#[test]
fn delete_share_group_state() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let at = share(&mut wire, 0);
    assert_eq!(at.delete(&mut wire), 0, "what is not there is deleted");
    assert_eq!(at.initialize(&mut wire, 4, 0), 0);
    assert_eq!(at.delete(&mut wire), 0);
    assert_eq!(at.read(&mut wire, 1).code, INVALID_REQUEST);
    assert_eq!(at.initialize(&mut wire, 1, 3), 0, "its epochs are forgotten, too");
    assert_eq!(Share { partition: 9, ..at.clone() }.delete(&mut wire), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(Share { partition: -1, ..at }.delete(&mut wire), INVALID_REQUEST);
}

#[test]
fn read_share_group_state_summary() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let at = share(&mut wire, 0);
    assert_eq!(at.summary(&mut wire), (0, 0, 0, -1), "nobody began");
    assert_eq!(at.counted(&mut wire), -1);
    assert_eq!(at.initialize(&mut wire, 4, 11), 0);
    assert_eq!(at.read(&mut wire, 6).code, 0);
    assert_eq!(at.summary(&mut wire), (0, 4, 6, 11));
    assert_eq!(at.counted(&mut wire), 0);
    assert_eq!(Share { partition: 9, ..at.clone() }.summary(&mut wire).0, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(Share { partition: -1, ..at }.summary(&mut wire).0, INVALID_REQUEST);
}

/// What is written in a round.
fn batch(round: i64) -> (i64, i64, i8, i16) {
    (10 * round + 1, 10 * round + 4, ACKNOWLEDGED, 1)
}

#[test]
fn states_survive_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 8);
    let topic = topics::topic_id(&mut wire, &topic);
    let group = unique("readers");
    let shares: Vec<Share> = (0..8).map(|partition| Share { group: group.clone(), topic, partition }).collect();
    eventually("the share coordinator", || (shares[0].coordinator(&mut wire) > 0).then_some(()));
    for at in &shares {
        assert_eq!(at.initialize(&mut wire, 1, 0), 0);
    }
    for round in 1..=3_i64 {
        for at in &shares {
            assert_eq!(at.read(&mut wire, 5).code, 0);
            assert_eq!(at.write(&mut wire, (1, 5), 10 * round, &[batch(round)]), 0);
        }
        broker.kill();
        broker.restart();
        wire = broker.wire();
        for at in &shares {
            assert_eq!(at.read(&mut wire, 5), state(1, 10 * round, &[batch(round)]));
            assert_eq!(at.read(&mut wire, 4).code, FENCED_LEADER_EPOCH);
        }
    }
}

#[test]
fn states_go_on_elsewhere_when_their_coordinator_dies() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let mut wire = nodes.wire(1);
    let topic = unique("topic");
    let wanted = topics::creatable(&topic, 4, &[]).with_replication_factor(3);
    let created = wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]));
    let topic = created.topics[0].topic_id;
    let group = unique("readers");
    let shares: Vec<Share> = (0..4).map(|partition| Share { group: group.clone(), topic, partition }).collect();
    for at in &shares {
        let (_, mut home) = at.wire(&nodes, 1);
        assert_eq!(at.initialize(&mut home, 1, 0), 0);
    }
    for round in 1..=3_i64 {
        for at in &shares {
            let (id, mut home) = at.wire(&nodes, 1);
            assert_eq!(at.write(&mut home, (1, 5), 10 * round, &[batch(round)]), 0);
            // Others say that they are not it.
            let mut other = nodes.wire(id % 3 + 1);
            eventually("it knows who is", || (not_coordinated(at, &mut other) == NOT_COORDINATOR).then_some(()));
        }
        let (victim, _) = shares[0].wire(&nodes, 1);
        nodes.kill(victim);
        let living = victim % 3 + 1;
        for at in &shares {
            let (_, mut home) = at.wire(&nodes, living);
            let expected = state(1, 10 * round, &[batch(round)]);
            assert_eq!(at.read(&mut home, -1), expected, "round {round}, partition {}", at.partition);
        }
        nodes.start_all();
    }
}

/// The error of a delete where there is no coordinator.
fn not_coordinated(at: &Share, wire: &mut Wire) -> i16 {
    use kafka_protocol::messages::DeleteShareGroupStateRequest;
    use kafka_protocol::messages::delete_share_group_state_request::{DeleteStateData, PartitionData};
    let partition = PartitionData::default().with_partition(at.partition);
    let topic = DeleteStateData::default().with_topic_id(at.topic).with_partitions(vec![partition]);
    let request = DeleteShareGroupStateRequest::default().with_group_id(text(&at.group)).with_topics(vec![topic]);
    wire.call(0, &request).results[0].partitions[0].error_code
}
