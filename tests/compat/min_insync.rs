//! `min.insync.replicas` on real nodes: what acks=all is promised, and what it is told when that cannot be kept.

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};

use crate::failover::{all_in_sync, replicated};
use crate::harness::batch::Batch;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{LATEST, creatable, list_offset, produce_request};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const NOT_ENOUGH_REPLICAS: i16 = 19;
const PRODUCE: i16 = 10;
const TOPIC: i8 = 2;
const SET: i8 = 0;

/// The error code and the offset of one record.
#[track_caller]
fn write(wire: &mut Wire, topic: &str, acks: i16) -> (i16, i64) {
    let records = Batch::of(&["a record"]).build();
    let answer = wire.call(PRODUCE, &produce_request(topic, 0, records).with_acks(acks).with_timeout_ms(30_000));
    let row = &answer.responses[0].partition_responses[0];
    (row.error_code, row.base_offset)
}

/// Sets how many replicas must have a batch.
#[track_caller]
fn needs(wire: &mut Wire, topic: &str, count: u32) {
    let config = AlterableConfig::default()
        .with_name(text("min.insync.replicas"))
        .with_config_operation(SET)
        .with_value(Some(text(&count.to_string())));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let done = wire.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(done.responses[0].error_code, 0, "{done:?}");
}

#[test]
fn acks_all_below_min_insync_replicas_is_refused_and_nothing_is_appended() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[("min.insync.replicas", "3")]);
    let leader = all_in_sync(&nodes, &topic);
    let mut wire = nodes.wire(leader);
    assert_eq!(write(&mut wire, &topic, -1), (0, 0));
    let away = leader % 3 + 1;
    nodes.kill(away);
    // Until the leader knows, what is written waits for the third, and is told that it may be there.
    eventually("the leader knows that one is away", || {
        (write(&mut wire, &topic, -1).0 == NOT_ENOUGH_REPLICAS).then_some(())
    });
    let end = list_offset(&mut wire, &topic, 0, LATEST).offset;
    for _ in 0..5 {
        assert_eq!(write(&mut wire, &topic, -1), (NOT_ENOUGH_REPLICAS, -1));
    }
    assert_eq!(list_offset(&mut wire, &topic, 0, LATEST).offset, end, "what was refused is not there");
    // Who does not ask for it is not held to it.
    assert_eq!(write(&mut wire, &topic, 1), (0, end));
    // A topic whose setting changes is held to the new one at once, in both directions.
    needs(&mut wire, &topic, 2);
    assert_eq!(
        eventually("two are enough", || Some(write(&mut wire, &topic, -1)).filter(|told| told.0 == 0)).1,
        end + 1
    );
    needs(&mut wire, &topic, 3);
    eventually("two are not enough", || (write(&mut wire, &topic, -1).0 == NOT_ENOUGH_REPLICAS).then_some(()));
    nodes.spawn(away);
    nodes.await_ready(away);
    eventually("the third is back", || (write(&mut wire, &topic, -1).0 == 0).then_some(()));
    all_in_sync(&nodes, &topic);
}

#[test]
fn a_partition_with_fewer_replicas_than_are_asked_for_needs_all_of_them() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = unique("few");
    let wanted = creatable(&topic, 1, &[("min.insync.replicas", "3")]).with_replication_factor(2);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    assert_eq!(nodes.wire(1).call(7, &request).topics[0].error_code, 0, "as with Kafka it can be asked for");
    let leader = eventually("it has a leader", || {
        let told = nodes.told_of(1, &topic)?;
        usize::try_from(told[0].leader_id.0).ok().filter(|id| *id > 0)
    });
    let mut wire = nodes.wire(leader);
    eventually("it is led", || (write(&mut wire, &topic, 1).0 == 0).then_some(()));
    // Kafka's `Partition.effectiveMinIsr`.
    assert_eq!(write(&mut wire, &topic, -1), (0, 1));
    let told = nodes.told_of(1, &topic).expect("it is told");
    let replicas = told[0].replica_nodes.iter().map(|id| usize::try_from(id.0).expect("an id"));
    nodes.kill(replicas.into_iter().find(|id| *id != leader).expect("there are two"));
    eventually("the leader knows that it is alone", || (write(&mut wire, &topic, -1).0 != 0).then_some(()));
}
