//! A consumer group that reads and commits in the background, whatever happens to the nodes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::config;
use super::{PATIENCE, eventually};

/// Messages between two commits.
const COMMIT_EVERY: usize = 100;

/// How much of what the member says is kept for the case that it does not go on.
const NOTES_MAX: usize = 400;

/// One member that commits what it has read. Its thread ends when this is dropped.
pub struct Group {
    name: String,
    topic: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The highest that a client was told was committed, by partition.
    seen: BTreeMap<i32, i64>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    /// Next offset of each partition.
    read: Mutex<BTreeMap<i32, i64>>,
    /// What a commit that was acknowledged said.
    committed: Mutex<BTreeMap<i32, i64>>,
    /// A message came before one that is due.
    gap: Mutex<Option<String>>,
    notes: Mutex<VecDeque<String>>,
    /// The member was sent away when it asked for its offsets.
    has_no_offsets: AtomicBool,
}

impl Shared {
    fn note(&self, text: String) {
        let mut notes = self.notes.lock().expect("notes");
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(text);
    }
}

/// The client's own words go to the notes.
struct Notes(Arc<Shared>);

impl ClientContext for Notes {
    fn log(&self, _: RDKafkaLogLevel, place: &str, text: &str) {
        self.0.note(format!("{} {place} {text}", super::now_ms()));
    }

    fn error(&self, error: KafkaError, text: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NotCoordinator) {
            self.0.has_no_offsets.store(true, Ordering::Relaxed);
        }
        self.0.note(format!("{} {error}: {text}", super::now_ms()));
    }
}

impl ConsumerContext for Notes {}

impl Group {
    pub fn start(bootstrap: &str, topic: &str, name: &str) -> Self {
        let more = [
            ("group.id", name),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "500"),
            ("debug", "consumer,cgrp,metadata"),
        ];
        let shared = Arc::new(Shared::default());
        let notes = Notes(Arc::clone(&shared));
        let mut settings = config(bootstrap, &more);
        settings.set_log_level(RDKafkaLogLevel::Debug);
        let consumer: BaseConsumer<Notes> = BaseConsumer::from_config_and_context(&settings, notes).expect("consumer");
        consumer.subscribe(&[topic]).expect("subscribe");
        let (its, of_topic) = (Arc::clone(&shared), topic.to_owned());
        let thread = Some(std::thread::spawn(move || run(&consumer, &of_topic, &its)));
        Self { name: name.to_owned(), topic: topic.to_owned(), shared, thread, seen: BTreeMap::new() }
    }

    /// What acknowledged commits said at most, by partition.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        self.shared.committed.lock().expect("committed").clone()
    }

    /// A fresh client finds at least what was acknowledged to the member, and what any client was told before.
    #[track_caller]
    pub fn check_committed(&mut self, bootstrap: &str) {
        let least = self.committed();
        let asks: BaseConsumer =
            BaseConsumer::from_config(&config(bootstrap, &[("group.id", &self.name)])).expect("consumer");
        let mut wanted = TopicPartitionList::new();
        for partition in least.keys() {
            wanted.add_partition(&self.topic, *partition);
        }
        let told = eventually("committed offsets are told", || {
            let told = asks.committed_offsets(wanted.clone(), Duration::from_secs(5)).ok()?;
            told.elements().iter().all(|element| element.error().is_ok()).then_some(told)
        });
        for element in told.elements() {
            let (partition, now) = (element.partition(), element.offset().to_raw().unwrap_or(-1));
            let least = least[&partition].max(self.seen.get(&partition).copied().unwrap_or(-1));
            assert!(now >= least, "group {}, partition {partition}: {now} after {least}", self.name);
            self.seen.insert(partition, now);
        }
        self.check_read();
    }

    /// Waits until everything was read up to these ends, and nothing left out.
    #[track_caller]
    pub fn await_read(&self, ends: &BTreeMap<i32, i64>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.check_read();
            let read = self.shared.read.lock().expect("read").clone();
            if ends.iter().all(|(partition, end)| read.get(partition) >= Some(end) || *end == 0) {
                return;
            }
            if Instant::now() > deadline {
                let notes = Vec::from(self.shared.notes.lock().expect("notes").clone()).join("\n");
                panic!("the group has read {read:?} of {ends:?} and committed {:?}\n{notes}", self.committed());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn check_read(&self) {
        let gap = self.shared.gap.lock().expect("gap").clone();
        assert!(gap.is_none(), "group {}: {gap:?}", self.name);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the thread of group {} has panicked", self.name);
        }
    }
}

fn run(consumer: &BaseConsumer<Notes>, topic: &str, shared: &Shared) {
    let mut since = 0;
    while !shared.ends.load(Ordering::Relaxed) {
        // librdkafka (2.12) never asks again for offsets that it was refused with NOT_COORDINATOR (an empty answer in
        // rd_kafka_assignment_apply_offsets), with any broker: a new subscription makes it ask.
        if shared.has_no_offsets.swap(false, Ordering::Relaxed) {
            consumer.unsubscribe();
            consumer.subscribe(&[topic]).expect("subscribe");
        }
        let message = consumer.poll(Duration::from_millis(100));
        if let Some(Ok(message)) = &message {
            let mut read = shared.read.lock().expect("read");
            let next = read.entry(message.partition()).or_insert(0);
            if message.offset() > *next {
                let text = format!("partition {}: {} after {next}", message.partition(), message.offset());
                shared.gap.lock().expect("gap").get_or_insert(text);
            }
            *next = message.offset() + 1;
            since += 1;
        }
        // What is left when nothing more comes is committed as well.
        if since == 0 || (since < COMMIT_EVERY && message.is_some()) {
            continue;
        }
        since = 0;
        let mut offsets = TopicPartitionList::new();
        let read = shared.read.lock().expect("read").clone();
        for (partition, next) in &read {
            offsets.add_partition_offset(topic, *partition, Offset::Offset(*next)).expect("an offset");
        }
        if let Err(error) = consumer.commit(&offsets, CommitMode::Sync) {
            shared.note(format!("{} commit: {error}", super::now_ms()));
        } else {
            let mut committed = shared.committed.lock().expect("committed");
            for (partition, next) in read {
                let told = committed.entry(partition).or_insert(next);
                *told = (*told).max(next);
            }
        }
    }
}
