//! What lies on the disks of several nodes: the same batches, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kafka_protocol::messages::metadata_response::MetadataResponsePartition;

use super::nodes::Nodes;
use super::{batch, eventually, topics};

/// The batches of each partition of a topic, in a row.
pub type Batches = BTreeMap<i32, Vec<u8>>;

/// Waits until each of these nodes has the same batches of each partition, and gives them.
#[track_caller]
pub fn await_same_bytes(nodes: &Nodes, ids: &[usize], topic: &str, partitions: i32) -> Batches {
    await_same(nodes, topic, &(0..partitions).map(|partition| (partition, ids.to_vec())).collect::<Vec<_>>())
}

/// The same of all replicas of a topic, once all of them are in sync.
#[track_caller]
pub fn await_same_replicas(nodes: &Nodes, topic: &str) -> Batches {
    let placed: Vec<(i32, Vec<usize>)> = eventually(&format!("all replicas of {topic} are in sync"), || {
        let told = nodes.told_of((1..=nodes.count()).find(|id| nodes.is_running(*id))?, topic)?;
        let replicas = |p: &MetadataResponsePartition| {
            let ids = p.replica_nodes.iter().map(|id| usize::try_from(id.0).ok()).collect::<Option<_>>()?;
            let is_settled = p.leader_id.0 > 0 && p.isr_nodes.len() == p.replica_nodes.len();
            is_settled.then_some((p.partition_index, ids))
        };
        told.iter().map(replicas).collect::<Option<_>>()
    });
    assert!(!placed.is_empty(), "{topic} has no partitions");
    await_same(nodes, topic, &placed)
}

/// `placed`: the nodes that have replicas of each partition.
#[track_caller]
fn await_same(nodes: &Nodes, topic: &str, placed: &[(i32, Vec<usize>)]) -> Batches {
    let topic_id = eventually("the topic has an id", || {
        let described = topics::metadata(&mut nodes.wire(*placed.first()?.1.first()?), &[topic]);
        described.topics.first().filter(|topic| topic.error_code == 0).map(|topic| topic.topic_id.to_string())
    });
    let mut differing = String::new();
    let mut last = None;
    eventually(&format!("the replicas of {topic} are the same"), || {
        let mut all = Batches::new();
        for (partition, ids) in placed {
            let of = |id: &usize| batches(&nodes.data_dir(*id).join("log").join(&topic_id).join(partition.to_string()));
            let mut found: Vec<Option<Vec<u8>>> = ids.iter().map(of).collect();
            let first = found.first()?.as_ref()?;
            if found.iter().any(|other| other.as_ref() != Some(first)) {
                let lengths: Vec<_> = found.iter().map(|bytes| bytes.as_ref().map(Vec::len)).collect();
                let now = format!("partition {partition}: {lengths:?}");
                if differing != now {
                    eprintln!("replicas differ: {now}");
                    differing = now;
                }
                return None;
            }
            all.insert(*partition, found.swap_remove(0)?);
        }
        // Twice, so that it is no accident of the moment.
        let is_settled = last.as_ref() == Some(&all);
        last = Some(all);
        if is_settled { last.take() } else { None }
    })
}

/// All batches of the segments of a directory in a row; None where they change under the reader.
fn batches(dir: &Path) -> Option<Vec<u8>> {
    let entries = fs::read_dir(dir).ok()?.map(|entry| entry.map(|entry| entry.path()));
    let mut segments: Vec<_> = entries.collect::<Result<_, _>>().ok()?;
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let mut out = Vec::new();
    for segment in segments {
        let bytes = fs::read(segment).ok()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // Own frames have a length like a batch's.
            let (frame, after) = batch::split(rest)?;
            if frame.get(16) == Some(&2) {
                out.extend_from_slice(frame);
            }
            rest = after;
        }
    }
    Some(out)
}

/// A batch of a producer with an identity: whose, in which epoch, and its first sequence number.
pub type Sequence = (u64, u64, u64);

/// Of the batches in a row those of producers with an identity.
pub fn sequences(mut batches: &[u8]) -> Vec<Sequence> {
    let mut out = Vec::new();
    while let Some((frame, after)) = batch::split(batches) {
        let (id, epoch, first) = (batch::be(frame, 43, 8), batch::be(frame, 51, 2), batch::be(frame, 53, 4));
        // -1: none.
        if id != u64::MAX {
            out.push((id, epoch, first));
        }
        batches = after;
    }
    out
}
