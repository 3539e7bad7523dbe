//! One request for each API and right, about things that are there.

mod admin;
mod groups;
mod share_groups;

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;

use super::{
    ALTER, CLUSTER_ACTION, DELETE, DESCRIBE, IDEMPOTENT_WRITE, READ, Right, Row, Things, Told, WRITE, on_cluster,
    on_group, on_topic, on_transactional_id,
};
use crate::harness::batch::Batch;
use crate::harness::wire::Wire;
use crate::harness::{text, topics};

pub use share_groups::make_share_group;

fn ask<R: Request<Response: std::fmt::Debug>>(wire: &mut Wire, version: i16, request: &R) -> String {
    format!("{:?}", wire.call(version, request))
}

fn id(things: &Things) -> TransactionalId {
    TransactionalId(text(&things.name))
}

fn group(things: &Things) -> GroupId {
    GroupId(text(&things.name))
}

fn name(things: &Things) -> TopicName {
    topics::name(&things.name)
}

fn row(api: ApiKey, of: &'static str, needs: &[Right], ask: fn(&mut Wire, &Things) -> String) -> Row {
    Row { api: api as i16, name: format!("{api:?}"), of, needs: needs.to_vec(), told: Told::Code, ask }
}

/// Of an answer that leaves out what may not be known.
fn quiet(
    api: ApiKey,
    of: &'static str,
    needs: &[Right],
    part: fn(&Things) -> String,
    ask: fn(&mut Wire, &Things) -> String,
) -> Row {
    Row { api: api as i16, name: format!("{api:?}"), of, needs: needs.to_vec(), told: Told::LeftOut(part), ask }
}

pub fn rows() -> Vec<Row> {
    let mut rows = data();
    rows.extend(groups::rows());
    rows.extend(transactions());
    rows.extend(admin::topics_and_settings());
    rows.extend(admin::cluster());
    rows.extend(share_groups::rows());
    rows
}

fn data() -> Vec<Row> {
    vec![
        row(ApiKey::Produce, "by name", &[on_topic(WRITE)], |wire, of| {
            ask(wire, 9, &topics::produce_request(&of.name, 0, Batch::of(&["a"]).build()))
        }),
        row(ApiKey::Produce, "by id", &[on_topic(WRITE)], |wire, of| {
            let mut request = topics::produce_request("", 0, Batch::of(&["a"]).build());
            request.topic_data[0].topic_id = of.topic_id;
            ask(wire, 13, &request)
        }),
        row(ApiKey::Fetch, "by name", &[on_topic(READ)], |wire, of| {
            ask(wire, 12, &topics::fetch_request(&of.name, 0, 0))
        }),
        row(ApiKey::Fetch, "by id", &[on_topic(READ)], |wire, of| {
            let mut request = topics::fetch_request("", 0, 0);
            request.topics[0].topic_id = of.topic_id;
            ask(wire, 13, &request)
        }),
        row(ApiKey::ListOffsets, "ListOffsets", &[on_topic(DESCRIBE)], |wire, of| {
            ask(wire, 7, &topics::list_offsets_request(&of.name, 0, -1))
        }),
        row(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", &[on_topic(DESCRIBE)], |wire, of| {
            use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
            let partition = OffsetForLeaderPartition::default().with_partition(0).with_leader_epoch(0);
            let topic = OffsetForLeaderTopic::default().with_topic(name(of)).with_partitions(vec![partition]);
            ask(wire, 4, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic]))
        }),
        row(ApiKey::Metadata, "by name", &[on_topic(DESCRIBE)], |wire, of| {
            ask(wire, 12, &topics::metadata_request(&[&of.name]))
        }),
        row(ApiKey::Metadata, "by id", &[on_topic(DESCRIBE)], |wire, of| {
            let topic = metadata_request::MetadataRequestTopic::default().with_topic_id(of.topic_id).with_name(None);
            ask(wire, 12, &MetadataRequest::default().with_topics(Some(vec![topic])))
        }),
        quiet(
            ApiKey::Metadata,
            "of all",
            &[on_topic(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 12, &MetadataRequest::default().with_topics(None)),
        ),
        quiet(
            ApiKey::Metadata,
            "operations of the cluster",
            &[on_cluster(DESCRIBE)],
            |_| "cluster_authorized_operations: 256,".to_owned(),
            |wire, _| {
                let asked = MetadataRequest::default().with_topics(Some(Vec::new()));
                ask(wire, 10, &asked.with_include_cluster_authorized_operations(true))
            },
        ),
        row(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions", &[on_topic(DESCRIBE)], |wire, of| {
            let topic = describe_topic_partitions_request::TopicRequest::default().with_name(name(of));
            ask(wire, 0, &DescribeTopicPartitionsRequest::default().with_topics(vec![topic]).with_cursor(None))
        }),
        row(ApiKey::DescribeProducers, "DescribeProducers", &[on_topic(READ)], |wire, of| {
            use describe_producers_request::TopicRequest;
            let topic = TopicRequest::default().with_name(name(of)).with_partition_indexes(vec![0]);
            ask(wire, 0, &DescribeProducersRequest::default().with_topics(vec![topic]))
        }),
        row(ApiKey::DeleteRecords, "DeleteRecords", &[on_topic(DELETE)], |wire, of| {
            use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
            let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(0);
            let topic = DeleteRecordsTopic::default().with_name(name(of)).with_partitions(vec![partition]);
            ask(wire, 2, &DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000))
        }),
    ]
}

fn transactions() -> Vec<Row> {
    vec![
        row(ApiKey::FindCoordinator, "of a transactional id", &[on_transactional_id(DESCRIBE)], |wire, of| {
            let keys = vec![text(&of.name)];
            ask(wire, 4, &FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(keys))
        }),
        row(ApiKey::InitProducerId, "with a transactional id", &[on_transactional_id(WRITE)], |wire, of| {
            let asked = InitProducerIdRequest::default().with_transactional_id(Some(id(of)));
            ask(
                wire,
                5,
                &asked.with_transaction_timeout_ms(10_000).with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
            )
        }),
        row(ApiKey::InitProducerId, "idempotent", &[on_cluster(IDEMPOTENT_WRITE)], |wire, _| idempotent(wire)),
        row(
            ApiKey::AddPartitionsToTxn,
            "AddPartitionsToTxn",
            &[on_transactional_id(WRITE), on_topic(WRITE)],
            |wire, of| {
                let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                    .with_name(name(of))
                    .with_partitions(vec![0]);
                let asked = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id(of));
                ask(wire, 3, &asked.with_v3_and_below_topics(vec![topic]))
            },
        ),
        row(ApiKey::AddPartitionsToTxn, "of nodes", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            let transaction =
                add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default().with_transactional_id(id(of));
            ask(wire, 5, &AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]))
        }),
        row(ApiKey::AddOffsetsToTxn, "AddOffsetsToTxn", &[on_transactional_id(WRITE), on_group(READ)], |wire, of| {
            ask(wire, 4, &AddOffsetsToTxnRequest::default().with_transactional_id(id(of)).with_group_id(group(of)))
        }),
        row(ApiKey::EndTxn, "EndTxn", &[on_transactional_id(WRITE)], |wire, of| {
            ask(wire, 4, &EndTxnRequest::default().with_transactional_id(id(of)))
        }),
        row(
            ApiKey::TxnOffsetCommit,
            "TxnOffsetCommit",
            &[on_transactional_id(WRITE), on_group(READ), on_topic(READ)],
            |wire, of| {
                use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
                let partitions = vec![TxnOffsetCommitRequestPartition::default().with_partition_index(0)];
                let topic = TxnOffsetCommitRequestTopic::default().with_name(name(of)).with_partitions(partitions);
                let asked = TxnOffsetCommitRequest::default().with_transactional_id(id(of)).with_group_id(group(of));
                ask(wire, 3, &asked.with_topics(vec![topic]))
            },
        ),
        row(ApiKey::WriteTxnMarkers, "by ClusterAction", &[on_cluster(CLUSTER_ACTION)], markers),
        row(ApiKey::WriteTxnMarkers, "by Alter", &[on_cluster(ALTER)], markers),
        row(ApiKey::DescribeTransactions, "DescribeTransactions", &[on_transactional_id(DESCRIBE)], |wire, of| {
            ask(wire, 0, &DescribeTransactionsRequest::default().with_transactional_ids(vec![id(of)]))
        }),
        quiet(
            ApiKey::ListTransactions,
            "ListTransactions",
            &[on_transactional_id(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 1, &ListTransactionsRequest::default()),
        ),
    ]
}

pub fn idempotent(wire: &mut Wire) -> String {
    let asked = InitProducerIdRequest::default().with_transactional_id(None);
    ask(wire, 5, &asked.with_producer_id(ProducerId(-1)).with_producer_epoch(-1))
}

fn markers(wire: &mut Wire, of: &Things) -> String {
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let topic = WritableTxnMarkerTopic::default().with_name(name(of)).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default().with_producer_id(ProducerId(1)).with_topics(vec![topic]);
    ask(wire, 1, &WriteTxnMarkersRequest::default().with_markers(vec![marker]))
}
