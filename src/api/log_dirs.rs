//! DescribeLogDirs (35) and AlterReplicaLogDirs (34). A node has one data directory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use millstream_core::security::Operation;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session};
use crate::controller::METADATA_PARTITION;
use crate::partition::{Leadership, Partition};
use crate::protocol::StrBytes;
use crate::protocol::log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, LogDir, LogDirPartition, LogDirTopic, LogDirsTopic,
};

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(describe(context, &request)))
}

fn describe(context: &Context, request: &Request) -> Outcome {
    let asked: DescribeLogDirsRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    if let Err(error) = request.access.check(Operation::Describe, Resource::Cluster) {
        let body = DescribeLogDirsResponse { error_code: error.code(), ..DescribeLogDirsResponse::default() };
        return Outcome::reply(&request.header, &body);
    }
    let named = asked.topics.as_deref().map(partitions_of);
    let mut topics: BTreeMap<String, Vec<LogDirPartition>> = BTreeMap::new();
    for partition in context.partitions.all() {
        let (topic, index) = (partition.name.topic.as_str(), partition.name.partition);
        // The metadata are no topic to anybody.
        if partition.id == METADATA_PARTITION || named.as_ref().is_some_and(|named| !named.contains(&(topic, index))) {
            continue;
        }
        topics.entry(topic.to_owned()).or_default().push(LogDirPartition {
            index,
            size_bytes: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
            offset_lag: offset_lag(&partition),
            is_future: false,
        });
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|p| p.index);
        LogDirTopic { name: StrBytes::from_string(name), partitions }
    });
    let (total_bytes, usable_bytes) = volume(&context.config.data_dir);
    let dir = LogDir {
        error_code: 0,
        path: StrBytes::from_string(absolute(&context.config.data_dir)),
        topics: topics.collect(),
        total_bytes,
        usable_bytes,
        is_cordoned: context.controller.look(|now| now.image.is_cordoned(context.node_id())),
    };
    let body = DescribeLogDirsResponse { throttle_time_ms: 0, error_code: 0, log_dirs: vec![dir] };
    Outcome::reply(&request.header, &body)
}

/// How far the log is behind what is known to be committed (Kafka `ReplicaManager.getLogEndOffsetLag`). Of an offline one
/// nobody knows.
fn offset_lag(partition: &Partition) -> i64 {
    match partition.leadership() {
        Leadership::Offline => -1,
        // Read first: it only grows, so a log that keeps up is never taken for one that lags.
        _ => {
            let high_watermark = partition.high_watermark();
            high_watermark.0.saturating_sub(partition.log_end().0).max(0)
        }
    }
}

/// Each partition once. A name is not copied for each: it may be long, and its partitions many.
fn partitions_of(topics: &[LogDirsTopic]) -> HashSet<(&str, i32)> {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&*topic.name, *index))).collect()
}

fn absolute(path: &std::path::Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// Size and free space of the volume that holds the data; -1 when the system does not tell.
fn volume(path: &std::path::Path) -> (i64, i64) {
    let Ok(stat) = nix::sys::statvfs::statvfs(path) else { return (-1, -1) };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.fragment_size())).unwrap_or(i64::MAX);
    (bytes(stat.blocks()), bytes(stat.blocks_available()))
}

pub fn handle_alter<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(alter(context, &request)))
}

/// There is nowhere to move to: Kafka's answers for a partition that is there already, that is not there, and for a
/// directory that is none of ours.
fn alter(context: &Context, request: &Request) -> Outcome {
    let asked: AlterReplicaLogDirsRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let own = absolute(&context.config.data_dir);
    let forbidden = request.access.check(Operation::Alter, Resource::Cluster).err();
    let mut results: BTreeMap<StrBytes, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in &asked.dirs {
        for topic in &dir.topics {
            for index in &topic.partitions {
                let error = if forbidden.is_some() {
                    forbidden
                } else if *dir.path != *own {
                    Some(ResponseError::LogDirNotFound)
                } else {
                    match context.partition_by_name(&topic.name, *index) {
                        Ok(partition) if partition.leadership() == Leadership::Offline => {
                            Some(ResponseError::KafkaStorageError)
                        }
                        Ok(_) => None,
                        Err(ResponseError::NotLeaderOrFollower) => Some(ResponseError::ReplicaNotAvailable),
                        Err(error) => Some(error),
                    }
                };
                let result = AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(*index)
                    .with_error_code(error.map_or(0, |e| e.code()));
                results.entry(topic.name.0.clone()).or_default().push(result);
            }
        }
    }
    let results = results.into_iter().map(|(name, partitions)| {
        AlterReplicaLogDirTopicResult::default().with_topic_name(name.into()).with_partitions(partitions)
    });
    Outcome::reply(&request.header, &AlterReplicaLogDirsResponse::default().with_results(results.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::allocated::allocated_by;

    #[test]
    fn a_long_name_with_many_partitions_is_not_copied() {
        let name = StrBytes::from_string("n".repeat(30_000));
        let topics = [LogDirsTopic { name, partitions: (0..40_000).collect() }];
        let (named, allocated) = allocated_by(|| partitions_of(&topics));
        assert_eq!(named.len(), 40_000);
        assert!(allocated < 8 << 20, "{allocated} bytes for 190 kB");
    }
}
