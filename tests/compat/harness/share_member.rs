//! A member of a share group as raw requests make it: a session with each leader, records taken and acknowledged.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{GroupId, ShareAcknowledgeRequest, ShareFetchRequest};
use uuid::Uuid;

use super::text;
use super::topics::metadata_request;
use super::wire::Wire;

/// How long an answer is waited for: longer than the broker looks for a share coordinator.
const PATIENCE: Duration = Duration::from_secs(20);
const ACCEPT: i8 = 1;

/// Consecutive records of a partition: the last is inclusive.
pub type Range = (i32, i64, i64);

pub struct Member {
    group: String,
    id: String,
    topic: (String, Uuid),
    /// Of each node.
    addresses: Vec<String>,
    sessions: HashMap<usize, Session>,
}

/// With one leader.
struct Session {
    wire: Wire,
    epoch: i32,
    partitions: Vec<i32>,
}

impl Member {
    pub fn new(group: &str, topic: (String, Uuid), addresses: Vec<String>) -> Self {
        let id = Uuid::new_v4().to_string();
        Self { group: group.to_owned(), id, topic, addresses, sessions: HashMap::new() }
    }

    /// Forgets its sessions, and looks who leads what now.
    pub fn look_around(&mut self) {
        self.sessions.clear();
        let request = metadata_request(&[&self.topic.0]);
        let found = self.addresses.iter().find_map(|address| {
            let mut wire = Wire::try_connect(address)?;
            let told = wire.try_call(12, &request, Duration::from_secs(5))?;
            (!told.topics.is_empty() && told.topics[0].error_code == 0).then_some(told)
        });
        let Some(told) = found else { return };
        let mut led: HashMap<usize, Vec<i32>> = HashMap::new();
        for partition in &told.topics[0].partitions {
            if let Ok(leader @ 1..) = usize::try_from(partition.leader_id.0) {
                led.entry(leader).or_default().push(partition.partition_index);
            }
        }
        for (leader, partitions) in led {
            if let Some(wire) = Wire::try_connect(&self.addresses[leader - 1]) {
                self.sessions.insert(leader, Session { wire, epoch: 0, partitions });
            }
        }
    }

    /// The nodes that it has sessions with.
    pub fn leaders(&self) -> Vec<usize> {
        self.sessions.keys().copied().collect()
    }

    /// Takes records from a leader. None: the session is over.
    pub fn take(&mut self, leader: usize, max_records: i32) -> Option<Vec<Range>> {
        let session = self.sessions.get_mut(&leader)?;
        // Those that are in a session are not named again.
        let named = if session.epoch == 0 { session.partitions.clone() } else { Vec::new() };
        let partitions = named.into_iter().map(|p| FetchPartition::default().with_partition_index(p)).collect();
        let topics = vec![FetchTopic::default().with_topic_id(self.topic.1).with_partitions(partitions)];
        let request = ShareFetchRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(session.epoch)
            .with_max_wait_ms(200)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(max_records)
            .with_batch_size(max_records)
            .with_topics(if session.epoch == 0 { topics } else { Vec::new() });
        session.epoch += 1;
        let answer = session.wire.try_call(1, &request, PATIENCE).filter(|answer| answer.error_code == 0)?;
        let rows = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let mut taken = Vec::new();
        for row in rows {
            if row.error_code != 0 {
                return None;
            }
            assert!(row.acquired_records.is_empty() || row.records.as_ref().is_some_and(|records| !records.is_empty()));
            taken.extend(row.acquired_records.iter().map(|r| (row.partition_index, r.first_offset, r.last_offset)));
        }
        Some(taken)
    }

    /// Accepts records; gives those of which it is sure that the group has them. None: the session is over.
    pub fn accept(&mut self, leader: usize, taken: &[Range]) -> Option<Vec<Range>> {
        let session = self.sessions.get_mut(&leader)?;
        let mut partitions: Vec<AcknowledgePartition> = Vec::new();
        for (partition, first, last) in taken {
            let batch = AcknowledgementBatch::default().with_first_offset(*first).with_last_offset(*last);
            let batch = batch.with_acknowledge_types(vec![ACCEPT]);
            match partitions.iter_mut().find(|known| known.partition_index == *partition) {
                Some(known) => known.acknowledgement_batches.push(batch),
                None => partitions.push(
                    AcknowledgePartition::default()
                        .with_partition_index(*partition)
                        .with_acknowledgement_batches(vec![batch]),
                ),
            }
        }
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic.1).with_partitions(partitions);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(session.epoch)
            .with_topics(vec![topic]);
        session.epoch += 1;
        let answer = session.wire.try_call(1, &request, PATIENCE).filter(|answer| answer.error_code == 0)?;
        let rows = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let kept: Vec<i32> = rows.filter(|row| row.error_code == 0).map(|row| row.partition_index).collect();
        Some(taken.iter().filter(|(partition, ..)| kept.contains(partition)).copied().collect())
    }
}
