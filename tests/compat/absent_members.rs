//! Members whose client is gone, and offsets whose group is: what the coordinator does by itself, in time.

use kafka_protocol::messages::{DescribeGroupsRequest, ListGroupsRequest};

use crate::groups::{COORDINATOR_NOT_AVAILABLE, coordinator, group, join, stable, sync};
use crate::harness::broker::Broker;
use crate::harness::wire::Wire;
use crate::harness::{eventually, topics, unique};
use crate::offsets::{commit, committed};

/// Joins with an id are answered when the rebalance is over; up to this version a first join is one.
const JOIN_AT_ONCE: i16 = 3;
const SYNC: i16 = 3;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
/// Up to version 4 a commit may name a retention.
const COMMIT_WITH_RETENTION: i16 = 4;

fn members(wire: &mut Wire, name: &str) -> usize {
    let described = wire.call(5, &DescribeGroupsRequest::default().with_groups(vec![group(name)]));
    assert_eq!(described.groups[0].error_code, 0);
    described.groups[0].members.len()
}

/// As with Kafka, nobody looks whether the client is still there: the member is in the next generation, and out when it
/// does not ask for its assignment. The answer goes nowhere, and nothing of the connection stays.
#[test]
fn a_client_that_goes_while_its_join_waits_leaves_nothing_behind() {
    let Some(broker) = Broker::own(&[]) else { return };
    let name = unique("group");
    let mut wire = broker.wire();
    let (member, generation) = stable(&mut wire, &name, None);
    let connections = broker.metric("millstream_connections");
    let mut other = broker.wire();
    other.send(JOIN_AT_ONCE, &join(&name, "", None).with_rebalance_timeout_ms(1_000));
    eventually("the join waits", || (members(&mut wire, &name) == 2).then_some(()));
    drop(other);
    let joined = wire.call(JOIN_AT_ONCE, &join(&name, &member, None).with_rebalance_timeout_ms(1_000));
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, generation + 1, 2));
    let synced = wire.call(SYNC, &sync(&name, joined.generation_id, &member, &joined));
    assert_eq!(synced.error_code, 0);
    eventually("the connection is gone", || {
        let now = broker.metric("millstream_connections");
        let bytes = broker.metric("millstream_inflight_request_bytes");
        (now == connections && bytes == 0.0).then_some(())
    });
    eventually("the member is gone", || (members(&mut wire, &name) == 1).then_some(()));
}

/// The retention is the broker's, or what old clients ask for with the commit.
#[test]
fn offsets_of_a_group_without_members_expire_and_the_group_with_them() {
    let settings = ["offsets.retention.minutes=1", "offsets.retention.check.interval.ms=50"];
    let Some(broker) = Broker::own(&settings) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let (kept, left) = (unique("kept"), unique("left"));
    for (name, retention_ms) in [(&kept, -1), (&left, 100)] {
        coordinator(&mut wire, name);
        let request = commit(name, &topic, 0, 4).with_retention_time_ms(retention_ms);
        // A disk that takes longer than the broker waits for it may still write the commit: clients ask again.
        eventually("the commit", || {
            let error = wire.call(COMMIT_WITH_RETENTION, &request).topics[0].partitions[0].error_code;
            assert!([0, COORDINATOR_NOT_AVAILABLE].contains(&error), "error {error}");
            (error == 0).then_some(())
        });
    }
    eventually("the group is gone", || {
        let listed = wire.call(4, &ListGroupsRequest::default());
        // While a coordinator loads there is no list, which is not an empty one.
        assert!([0, COORDINATOR_LOAD_IN_PROGRESS].contains(&listed.error_code), "error {}", listed.error_code);
        (listed.error_code == 0 && !listed.groups.iter().any(|listed| listed.group_id == group(&left))).then_some(())
    });
    assert_eq!(committed(&mut wire, &left, &topic, 0).0, -1);
    assert_eq!(committed(&mut wire, &kept, &topic, 0).0, 4);
}
