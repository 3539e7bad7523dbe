//! A streams group works while the nodes are killed one after the other: no task is with two members at once, nobody is
//! fenced, and what was committed is what whoever has the task next goes on from.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{CreateTopicsRequest, FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use millstream::protocol::streams_group::{
    PartitionsOf, StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse,
};

use crate::groups::{coordinator, group};
use crate::harness::nodes::Nodes;
use crate::harness::streams_member::{beat, call, join, topology, try_call};
use crate::harness::topics::{self, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};
use crate::streams_groups::AT_ONCE;

/// Told while a coordinator is looked for, or loads: COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE,
/// NOT_COORDINATOR.
const PASSING: [i16; 3] = [14, 15, 16];
const PARTITIONS: i32 = 6;
const MEMBERS: usize = 3;
/// The subtopology that reads the topic.
const READS: &str = "0";
const PATIENCE: Duration = Duration::from_secs(10);
/// Rounds after which a member goes, to come again: so that tasks move.
const STAYS: usize = 60;

/// What is known of all members.
#[derive(Default)]
struct Known {
    /// Who has which task.
    holders: HashMap<(String, i32), usize>,
    /// Up to where it was said to be committed.
    committed: BTreeMap<i32, i64>,
    commits: usize,
    moves: usize,
    /// What must not be.
    wrong: Vec<String>,
}

struct Member {
    number: usize,
    group: String,
    topic: String,
    addresses: Vec<String>,
    wire: Option<Wire>,
    /// 0: it is to join.
    epoch: i32,
    tasks: Vec<PartitionsOf>,
    /// Where it stands in the partitions that it reads.
    positions: BTreeMap<i32, i64>,
}

#[test]
fn a_streams_group_goes_on_while_nodes_are_killed() {
    let Some(mut nodes) = Nodes::started(3, AT_ONCE) else { return };
    let (of, topic) = (unique("app"), unique("topic"));
    let wanted = topics::creatable(&topic, PARTITIONS, &[]).with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    assert_eq!(nodes.wire(1).call(7, &request).topics[0].error_code, 0);
    let known = Arc::new(Mutex::new(Known::default()));
    let is_over = Arc::new(AtomicBool::new(false));
    let members: Vec<_> = (0..MEMBERS)
        .map(|number| {
            let addresses = (1..=3).map(|node| nodes.kafka(node).to_owned()).collect();
            let member = Member {
                number,
                group: of.clone(),
                topic: topic.clone(),
                addresses,
                wire: None,
                epoch: 0,
                tasks: Vec::new(),
                positions: BTreeMap::new(),
            };
            let (known, is_over) = (Arc::clone(&known), Arc::clone(&is_over));
            std::thread::spawn(move || member.work(&known, &is_over))
        })
        .collect();
    let count = || {
        let known = known.lock().unwrap();
        (known.commits, known.moves)
    };
    for victim in [1, 2, 3, 1, 2, 3] {
        let before = count();
        // They work and give each other tasks since the last one came back.
        eventually("tasks move, and more is committed", || {
            let now = count();
            (now.0 > before.0 + 20 && now.1 > before.1 + 5).then_some(())
        });
        nodes.kill(victim);
        std::thread::sleep(Duration::from_millis(500));
        nodes.start_all();
    }
    let before = count();
    eventually("they go on", || (count().0 > before.0 + 20).then_some(()));
    is_over.store(true, Ordering::Relaxed);
    let members: Vec<Member> = members.into_iter().map(|member| member.join().expect("a member's thread")).collect();
    let known = known.lock().unwrap();
    assert_eq!(known.wrong, [] as [String; 0]);
    println!("{} commits, {} moves of tasks", known.commits, known.moves);
    // What the group says of its members is what they know.
    let mut wire = eventually("the coordinator", || members[0].coordinator());
    coordinator(&mut wire, &of);
    let asked = StreamsGroupDescribeRequest { group_ids: vec![text(&of)], include_authorized_operations: false };
    let told = call(&mut wire, &asked).groups.remove(0);
    for row in &told.members {
        let member = members.iter().find(|member| *row.member_id == *member.name()).expect("it is known");
        assert!(row.member_epoch >= member.epoch, "{told:?}");
    }
}

impl Member {
    fn name(&self) -> String {
        format!("member-{}", self.number)
    }

    fn work(mut self, known: &Mutex<Known>, is_over: &AtomicBool) -> Self {
        let mut rounds = 0;
        while !is_over.load(Ordering::Relaxed) {
            rounds += 1;
            if self.wire.is_none() {
                self.wire = self.coordinator();
            }
            // What a member does meanwhile.
            std::thread::sleep(Duration::from_millis(10));
            if self.round(rounds, known).is_none() {
                self.wire = None;
            }
        }
        self
    }

    /// A connection to the coordinator, if somebody knows it.
    fn coordinator(&self) -> Option<Wire> {
        let find = FindCoordinatorRequest::default().with_key(text(&self.group)).with_key_type(0);
        let ask = |address: &String| Wire::try_connect(address)?.try_call(2, &find, PATIENCE);
        let found = self.addresses.iter().filter_map(ask).find(|found| found.error_code == 0)?;
        let node = usize::try_from(found.node_id.0).ok()?;
        Wire::try_connect(&self.addresses[node - 1])
    }

    /// Says what it has, takes what it is told, and commits what it has done. None: the coordinator is to be looked for.
    fn round(&mut self, number: usize, known: &Mutex<Known>) -> Option<()> {
        if self.epoch > 0 && (number + self.number * STAYS / MEMBERS).is_multiple_of(STAYS) {
            self.give_up(known);
            let leave = beat(&self.group, &self.name(), -1);
            try_call(self.wire.as_mut()?, &leave, PATIENCE)?;
            return Some(());
        }
        let said = self.heartbeat();
        let answer = try_call(self.wire.as_mut()?, &said, PATIENCE)?;
        match answer.error_code {
            0 => self.take(&answer, known),
            code if PASSING.contains(&code) => return None,
            code => {
                let wrong = format!("{} is refused: {code} {:?}", self.name(), answer.error_message);
                known.lock().unwrap().wrong.push(wrong);
                self.give_up(known);
                return Some(());
            }
        }
        let reads: Vec<i32> =
            self.tasks.iter().filter(|of| &*of.name == READS).flat_map(|of| of.partitions.clone()).collect();
        self.positions.retain(|partition, _| reads.contains(partition));
        for partition in reads {
            if !self.positions.contains_key(&partition) {
                let from = self.committed(partition)?;
                self.positions.insert(partition, from);
                let mut known = known.lock().unwrap();
                let least = known.committed.get(&partition).copied().unwrap_or(0);
                if from < least {
                    known.wrong.push(format!("partition {partition} goes on from {from}, and {least} was committed"));
                }
            }
            self.commit(partition, known)?;
        }
        Some(())
    }

    fn heartbeat(&self) -> StreamsGroupHeartbeatRequest {
        if self.epoch == 0 {
            return join(&self.group, &self.name(), topology(&self.group, &self.topic));
        }
        StreamsGroupHeartbeatRequest {
            active_tasks: Some(self.tasks.clone()),
            standby_tasks: Some(Vec::new()),
            warmup_tasks: Some(Vec::new()),
            ..beat(&self.group, &self.name(), self.epoch)
        }
    }

    fn take(&mut self, answer: &StreamsGroupHeartbeatResponse, known: &Mutex<Known>) {
        let mut known = known.lock().unwrap();
        if answer.member_epoch < self.epoch {
            known.wrong.push(format!("{} had epoch {}, and has {}", self.name(), self.epoch, answer.member_epoch));
        }
        self.epoch = answer.member_epoch;
        let Some(active) = &answer.active_tasks else { return };
        self.tasks.clone_from(active);
        let told: Vec<(String, i32)> = active
            .iter()
            .flat_map(|of| of.partitions.iter().map(|partition| (of.name.to_string(), *partition)))
            .collect();
        known.holders.retain(|task, holder| *holder != self.number || told.contains(task));
        for task in told {
            match known.holders.insert(task.clone(), self.number) {
                None => known.moves += 1,
                Some(before) if before == self.number => {}
                Some(before) => known.wrong.push(format!("{task:?} is with {before}, and with {}", self.number)),
            }
        }
    }

    /// It has no task from here on, and is no member.
    fn give_up(&mut self, known: &Mutex<Known>) {
        known.lock().unwrap().holders.retain(|_, holder| *holder != self.number);
        self.epoch = 0;
        self.tasks.clear();
        self.positions.clear();
    }

    /// What is committed of a partition.
    fn committed(&mut self, partition: i32) -> Option<i64> {
        let asked =
            OffsetFetchRequestTopics::default().with_name(name(&self.topic)).with_partition_indexes(vec![partition]);
        let of = OffsetFetchRequestGroup::default().with_group_id(group(&self.group)).with_topics(Some(vec![asked]));
        let request = OffsetFetchRequest::default().with_groups(vec![of]);
        let told = self.wire.as_mut()?.try_call(8, &request, PATIENCE)?.groups.remove(0);
        let row = told.topics.first()?.partitions.first()?;
        (told.error_code == 0 && row.error_code == 0).then_some(row.committed_offset.max(0))
    }

    /// One more is done.
    fn commit(&mut self, partition: i32, known: &Mutex<Known>) -> Option<()> {
        let offset = self.positions[&partition] + 1;
        self.positions.insert(partition, offset);
        let row = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        let topic = OffsetCommitRequestTopic::default().with_name(name(&self.topic)).with_partitions(vec![row]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(&self.group))
            .with_member_id(text(&self.name()))
            .with_generation_id_or_member_epoch(self.epoch)
            .with_topics(vec![topic]);
        let told = self.wire.as_mut()?.try_call(9, &request, PATIENCE)?;
        match told.topics[0].partitions[0].error_code {
            0 => {
                let mut known = known.lock().unwrap();
                known.committed.insert(partition, offset);
                known.commits += 1;
                Some(())
            }
            code if PASSING.contains(&code) => None,
            code => {
                let wrong = format!("{} may not commit partition {partition}: {code}", self.name());
                known.lock().unwrap().wrong.push(wrong);
                Some(())
            }
        }
    }
}
