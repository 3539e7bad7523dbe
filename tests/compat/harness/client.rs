//! rdkafka clients as applications set them up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::PATIENCE;

pub fn config(bootstrap: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    AdminClient::from_config(&config(bootstrap, &[])).expect("admin client")
}

/// Runs one future of rdkafka to its end.
pub fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(future)
}

/// What became of a message: the sender's number for it, and where it went or why not.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub number: usize,
    pub result: Result<(i32, i64), KafkaError>,
}

#[derive(Clone, Default)]
pub struct Deliveries(Arc<Mutex<Vec<Delivery>>>);

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let result = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("deliveries").push(Delivery { number, result });
    }
}

/// A producer that remembers every delivery report.
pub struct Producer {
    inner: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
}

impl Producer {
    pub fn new(bootstrap: &str, more: &[(&str, &str)]) -> Producer {
        let deliveries = Deliveries::default();
        let inner =
            ThreadedProducer::from_config_and_context(&config(bootstrap, more), deliveries.clone()).expect("producer");
        Producer { inner, deliveries }
    }

    /// Queues a message; waits while the queue is full.
    pub fn send(&self, number: usize, topic: &str, partition: Option<i32>, key: Option<&str>, value: &[u8]) {
        let mut record = BaseRecord::<str, [u8], usize>::with_opaque_to(topic, number).payload(value);
        record.partition = partition;
        record.key = key;
        let deadline = Instant::now() + PATIENCE;
        while let Err((error, back)) = self.inner.send(record) {
            assert!(Instant::now() < deadline, "queue: {error}");
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull), "{error}");
            std::thread::sleep(Duration::from_millis(5));
            record = back;
        }
    }

    /// Waits until every message is delivered or has failed.
    #[track_caller]
    pub fn flush(&self) -> Vec<Delivery> {
        self.inner.flush(Duration::from_secs(120)).expect("flush");
        self.deliveries.0.lock().expect("deliveries").clone()
    }

    pub fn delivered(&self) -> usize {
        self.deliveries.0.lock().expect("deliveries").len()
    }
}

/// A message as the tests compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<String>,
    pub value: Vec<u8>,
}

/// Reads each partition from its start to its present end.
#[track_caller]
pub fn consume_all(bootstrap: &str, topic: &str, partitions: i32) -> BTreeMap<i32, Vec<Received>> {
    let more = [
        ("group.id", "unused"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("check.crcs", "true"),
    ];
    let consumer: BaseConsumer = BaseConsumer::from_config(&config(bootstrap, &more)).expect("consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("partition");
    }
    consumer.assign(&assignment).expect("assign");
    let mut out: BTreeMap<i32, Vec<Received>> = (0..partitions).map(|p| (p, Vec::new())).collect();
    let mut at_end = std::collections::BTreeSet::new();
    let mut quiet_since = Instant::now();
    while at_end.len() < out.len() {
        assert!(quiet_since.elapsed() < PATIENCE, "nothing more comes; at the end: {at_end:?}");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                quiet_since = Instant::now();
                out.entry(message.partition()).or_default().push(received(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition);
            }
            Some(Err(error)) => eprintln!("consumer: {error}"),
            None => {}
        }
    }
    out
}

pub fn received(message: &impl Message) -> Received {
    Received {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(|k| String::from_utf8_lossy(k).into_owned()),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}
