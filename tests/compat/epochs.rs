//! Leader epochs as clients are told them, over a series of failovers: of one node they only grow, and over all nodes an
//! epoch has one leader.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::failover::{all_in_sync, replicated, write_anew};
use crate::harness::nodes::Nodes;
use crate::harness::topics::{METADATA, metadata_request};
use crate::harness::wire::Wire;

/// What nodes said: who leads in which epoch.
type Told = Arc<Mutex<BTreeMap<i32, i32>>>;

/// Asks one node again and again, whatever happens to it.
struct Poll {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<i32, String>>>,
}

impl Poll {
    fn start(address: &str, topic: &str, told: &Told) -> Poll {
        let ends = Arc::new(AtomicBool::new(false));
        let (its, address, topic, told) = (Arc::clone(&ends), address.to_owned(), topic.to_owned(), Arc::clone(told));
        Poll { ends, thread: Some(std::thread::spawn(move || poll(&its, &address, &topic, &told))) }
    }

    /// The last epoch it was told.
    #[track_caller]
    fn end(mut self) -> i32 {
        self.ends.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it runs").join().expect("it ends");
        ended.unwrap_or_else(|error| panic!("{error}"))
    }
}

fn poll(ends: &AtomicBool, address: &str, topic: &str, told: &Mutex<BTreeMap<i32, i32>>) -> Result<i32, String> {
    let (mut wire, mut last) = (None, -1);
    while !ends.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(2));
        let Some(open) = wire.as_mut() else {
            wire = Wire::try_connect(address);
            continue;
        };
        let Some(answer) = open.try_call(METADATA, &metadata_request(&[topic]), Duration::from_secs(1)) else {
            // It died, or stands still.
            wire = None;
            continue;
        };
        let Some(row) = answer.topics[0].partitions.first().filter(|row| row.leader_id.0 > 0) else { continue };
        if row.leader_epoch < last {
            return Err(format!("{address}: epoch {} after {last}", row.leader_epoch));
        }
        last = row.leader_epoch;
        let leader = *told.lock().expect("told").entry(last).or_insert(row.leader_id.0);
        if leader != row.leader_id.0 {
            return Err(format!("{address}: node {} leads in epoch {last}, and node {leader}", row.leader_id.0));
        }
    }
    Ok(last)
}

#[test]
fn leader_epochs_only_grow_and_have_one_leader_each() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[]);
    all_in_sync(&nodes, &topic);
    let told = Told::default();
    let polls: Vec<Poll> = (1..=3).map(|id| Poll::start(nodes.kafka(id), &topic, &told)).collect();
    for fault in ["kill", "stop", "pause", "all"] {
        let leader = all_in_sync(&nodes, &topic);
        match fault {
            "kill" => nodes.kill(leader),
            "stop" => drop(nodes.stop(leader)),
            "pause" => nodes.pause(leader),
            _ => (1..=3).for_each(|id| nodes.kill(id)),
        }
        match fault {
            "pause" => {
                write_anew(&nodes, 3, leader, &topic);
                nodes.resume(leader);
            }
            "all" => nodes.start_all(),
            _ => {
                write_anew(&nodes, 3, leader, &topic);
                nodes.start_all();
            }
        }
    }
    all_in_sync(&nodes, &topic);
    let last: Vec<i32> = polls.into_iter().map(Poll::end).collect();
    let told = told.lock().expect("told").clone();
    println!("epochs and their leaders: {told:?}");
    assert!(told.len() >= 4, "{told:?}");
    assert!(last.iter().all(|epoch| *epoch > 0), "{last:?}");
}
