//! `millstream txn`: what goes on, and what hangs.

use kafka_protocol::messages::TransactionalId;
use rdkafka::config::FromClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::cli::{json_if_done, shown};
use crate::harness::batch::Batch;
use crate::harness::broker::Broker;
use crate::harness::client::config;
use crate::harness::topics::{self, producer_id, topic};
use crate::harness::{PATIENCE, text, unique};

#[test]
fn cli_transactions_are_listed_and_described() {
    let broker = Broker::start();
    let topic = topic(&mut broker.wire(), 2);
    let id = unique("t");
    let producer: BaseProducer =
        BaseProducer::from_config(&config(broker.bootstrap(), &[("transactional.id", &id)])).expect("a producer");
    producer.init_transactions(PATIENCE).expect("begins");
    producer.begin_transaction().expect("begins");
    producer.send(BaseRecord::<str, str>::to(&topic).payload("v").partition(1)).expect("sent");
    producer.flush(PATIENCE).expect("flush");
    let pattern = format!("{id}.*");
    let listed = json_if_done(&broker, &["txn", "list", "--state", "Ongoing", "--pattern", &pattern]).expect("a list");
    let rows = listed["transactions"].as_array().expect("rows");
    assert_eq!(rows.len(), 1, "{listed}");
    assert_eq!((&rows[0]["transactional_id"], &rows[0]["state"]), (&id.as_str().into(), &"Ongoing".into()));
    let described = json_if_done(&broker, &["txn", "describe", &id]).expect("a description");
    let row = &described["transactions"][0];
    assert_eq!((&row["state"], &row["producer_id"]), (&"Ongoing".into(), &rows[0]["producer_id"]));
    assert_eq!(row["partitions"], serde_json::json!([{ "topic": topic, "partition": 1 }]));
    assert!(row["age_ms"].as_i64().is_some_and(|age| age >= 0), "{row}");
    // Its coordinator knows it: it does not hang, however short the time that it is given.
    let found = json_if_done(&broker, &["txn", "find-hanging", "--topic", &topic, "--max-timeout", "0.001"]);
    assert_eq!(found.expect("an answer")["transactions"], serde_json::json!([]));
    producer.commit_transaction(PATIENCE).expect("commits");
    assert!(shown(&broker, &["txn", "list", "--pattern", &pattern]).contains(&id));
    assert!(json_if_done(&broker, &["txn", "describe", &unique("nobody")]).is_none(), "nobody knows it");
}

#[test]
fn cli_a_hanging_transaction_is_found_and_aborted() {
    // What older brokers let happen: a batch in the name of a transaction that its coordinator does not know.
    let Some(broker) = Broker::own(&["transaction.partition.verification.enable=false"]) else { return };
    let mut wire = broker.wire();
    let topic = topic(&mut wire, 2);
    topics::write(&mut wire, &topic, 1, &["before"]);
    let (id, epoch) = producer_id(&mut wire, 4);
    let batch = Batch::of(&["hangs"]).producer(id, epoch, 0).with(|b| b.attributes = 0x10).build();
    let request =
        topics::produce_request(&topic, 1, batch).with_transactional_id(Some(TransactionalId(text(&unique("t")))));
    assert_eq!(wire.call(9, &request).responses[0].partition_responses[0].error_code, 0);
    let hanging = || {
        let args = ["txn", "find-hanging", "--topic", &topic, "--max-timeout", "0.001"];
        json_if_done(&broker, &args).expect("an answer")["transactions"].clone()
    };
    let found = hanging();
    let row = &found[0];
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!((&row["partition"], &row["start_offset"], &row["producer_id"]), (&1.into(), &1.into(), &id.into()));
    let partition = format!("{topic}:1");
    assert!(json_if_done(&broker, &["txn", "abort", &partition, "--start-offset", "0"]).is_none(), "none begins there");
    let aborted = json_if_done(&broker, &["txn", "abort", &partition, "--start-offset", "1"]).expect("aborted");
    assert_eq!((&aborted["status"], &aborted["producer_id"]), (&"aborted".into(), &id.into()));
    assert_eq!(hanging(), serde_json::json!([]));
    let all = json_if_done(&broker, &["txn", "find-hanging", "--max-timeout", "0.001"]).expect("an answer");
    assert_eq!(all["transactions"], serde_json::json!([]));
}
