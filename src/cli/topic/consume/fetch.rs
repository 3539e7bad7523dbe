//! Fetches the partitions of one leader until each has reached its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest};
use millstream_core::types::{TopicName, TopicPartition};
use tokio::sync::mpsc;

use super::decode::{Decoded, decode_batches};
use crate::cli::client::{Client, ClientError, Isolation, OffsetQuery, text};
use crate::cli::output::remark;
use crate::cli::record_format::ConsumedRecord;

/// How long a broker may wait for records when it has none.
const FETCH_WAIT_MS_MAX: i32 = 500;
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const RESPONSE_BYTES_MAX: i32 = 16 << 20;

/// Where reading of a partition stands.
#[derive(Clone, Debug)]
pub struct Cursor {
    pub partition: TopicPartition,
    /// The next offset to read.
    next: i64,
    /// Not read any more; None: without end.
    end: Option<i64>,
}

impl Cursor {
    pub fn new(partition: TopicPartition, next: i64, end: Option<i64>) -> Self {
        Self { partition, next, end }
    }

    pub fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// Records of one partition, in order.
pub struct Chunk {
    pub partition: TopicPartition,
    pub records: Vec<ConsumedRecord>,
}

/// The partition, if one is to blame.
pub type FetchFailure = (Option<TopicPartition>, ClientError);

/// What a lost leader leaves behind, and why it is lost.
#[derive(Default)]
pub struct Left {
    pub cursors: Vec<Cursor>,
    pub error: Option<ClientError>,
}

/// Fetches until everything is read, or the leader is lost: then what is left comes back.
pub async fn fetch_from(
    client: Arc<Client>,
    leader: i32,
    mut cursors: Vec<Cursor>,
    isolation: Isolation,
    chunks: mpsc::Sender<Chunk>,
) -> Result<Left, FetchFailure> {
    loop {
        cursors.retain(|cursor| !cursor.is_done());
        if cursors.is_empty() {
            return Ok(Left::default());
        }
        let wait = Duration::from_millis(FETCH_WAIT_MS_MAX.unsigned_abs().into());
        let response = match client.broker_waiting(leader, |_| request(&cursors, isolation), wait).await {
            Ok(response) => response,
            Err(error) if error.is_retriable() => return Ok(Left { cursors, error: Some(error) }),
            Err(error) => return Err((None, error)),
        };
        if let Some(error) = ClientError::of_code(response.error_code, None) {
            return if error.is_retriable() { Ok(Left { cursors, error: Some(error) }) } else { Err((None, error)) };
        }
        let mut lost = None;
        for topic in response.responses {
            for data in topic.partitions {
                let is_it = |c: &&mut Cursor| {
                    c.partition.topic.as_str() == &**topic.topic && c.partition.partition == data.partition_index
                };
                let Some(cursor) = cursors.iter_mut().find(is_it) else { continue };
                match take(&client, cursor, &data, isolation).await.map_err(|e| (Some(cursor.partition.clone()), e))? {
                    Taken::Records(records) if records.is_empty() => {}
                    Taken::Records(records) => {
                        let chunk = Chunk { partition: cursor.partition.clone(), records };
                        if chunks.send(chunk).await.is_err() {
                            return Ok(Left::default());
                        }
                    }
                    Taken::LeaderLost(error) => lost = Some(error),
                }
            }
        }
        if lost.is_some() {
            return Ok(Left { cursors, error: lost });
        }
        // The broker fills its answer in this order: let another be first.
        cursors.rotate_left(1);
    }
}

enum Taken {
    Records(Vec<ConsumedRecord>),
    LeaderLost(ClientError),
}

async fn take(
    client: &Arc<Client>,
    cursor: &mut Cursor,
    data: &PartitionData,
    isolation: Isolation,
) -> Result<Taken, ClientError> {
    match ResponseError::try_from_code(data.error_code) {
        None => {}
        Some(ResponseError::OffsetOutOfRange) => {
            skip_what_is_gone(client, cursor, isolation).await?;
            return Ok(Taken::Records(Vec::new()));
        }
        Some(error) => {
            let is_passing = error.is_retriable();
            let error = ClientError::Response { error, message: None };
            return if is_passing { Ok(Taken::LeaderLost(error)) } else { Err(error) };
        }
    }
    let Some(bytes) = &data.records else { return Ok(Taken::Records(Vec::new())) };
    let aborted = match isolation {
        Isolation::ReadUncommitted => Vec::new(),
        Isolation::ReadCommitted => {
            let rows = data.aborted_transactions.iter().flatten();
            rows.map(|row| (row.first_offset, row.producer_id.0)).collect()
        }
    };
    let Decoded { records, next } = decode_batches(bytes, cursor.next, cursor.end, aborted).map_err(|problem| {
        let message = format!("at offset {}: {problem}", cursor.next);
        ClientError::Response { error: ResponseError::CorruptMessage, message: Some(message) }
    })?;
    cursor.next = next;
    Ok(Taken::Records(records))
}

/// Retention was faster than we: go on where the log begins now.
async fn skip_what_is_gone(client: &Arc<Client>, cursor: &mut Cursor, isolation: Isolation) -> Result<(), ClientError> {
    let asked = [cursor.partition.clone()];
    let mut answers = client.list_offsets(&asked, OffsetQuery::Start, isolation).await?;
    let start = answers.remove(&cursor.partition).transpose()?.flatten().unwrap_or(0);
    if start <= cursor.next {
        let message = format!("offset {} is beyond the end: was the topic deleted and made anew?", cursor.next);
        return Err(ClientError::Response { error: ResponseError::OffsetOutOfRange, message: Some(message) });
    }
    remark(&format!(
        "millstream: {}: offsets {} to {} were deleted meanwhile, goes on at {start}",
        cursor.partition,
        cursor.next,
        start - 1
    ));
    cursor.next = start;
    Ok(())
}

/// Without a fetch session (KIP-227): the partitions change little, and sessions cost the broker memory.
fn request(cursors: &[Cursor], isolation: Isolation) -> FetchRequest {
    let mut topics: Vec<(&TopicName, Vec<FetchPartition>)> = Vec::new();
    let mut places: BTreeMap<&TopicName, usize> = BTreeMap::new();
    for cursor in cursors {
        let row = FetchPartition::default()
            .with_partition(cursor.partition.partition)
            .with_fetch_offset(cursor.next)
            .with_partition_max_bytes(PARTITION_BYTES_MAX);
        let place = *places.entry(&cursor.partition.topic).or_insert_with(|| {
            topics.push((&cursor.partition.topic, Vec::new()));
            topics.len() - 1
        });
        topics[place].1.push(row);
    }
    let topic = |(name, rows): (&TopicName, _)| {
        FetchTopic::default().with_topic(text(name.as_str()).into()).with_partitions(rows)
    };
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(FETCH_WAIT_MS_MAX)
        .with_min_bytes(1)
        .with_max_bytes(RESPONSE_BYTES_MAX)
        .with_isolation_level(isolation.to_wire())
        .with_topics(topics.into_iter().map(topic).collect())
}
