//! What lies on the disks of several nodes: the same batches, byte for byte.

use std::fs;
use std::path::Path;

use super::nodes::Nodes;
use super::{batch, eventually, topics};

/// Waits until each of these nodes has the same batches of each partition; gives their bytes in sum.
#[track_caller]
pub fn await_same_bytes(nodes: &Nodes, ids: &[usize], topic: &str, partitions: i32) -> usize {
    let topic_id = eventually("the topic has an id", || {
        let described = topics::metadata(&mut nodes.wire(*ids.first()?), &[topic]);
        described.topics.first().filter(|topic| topic.error_code == 0).map(|topic| topic.topic_id.to_string())
    });
    let mut differing = String::new();
    let mut last = None;
    eventually(&format!("the replicas of {topic} are the same"), || {
        let mut all = 0;
        for partition in 0..partitions {
            let of = |id: &usize| batches(&nodes.data_dir(*id).join("log").join(&topic_id).join(partition.to_string()));
            let found: Vec<Option<Vec<u8>>> = ids.iter().map(of).collect();
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
            all += first.len();
        }
        // Twice, so that it is no accident of the moment.
        (last.replace(all) == Some(all)).then_some(all)
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
