//! A streams group (KIP-1071) as its coordinator describes it: members have tasks, and tasks read partitions.

use millstream_core::types::{TopicName, TopicPartition};
use serde_json::{Value, json};

use super::members::{Group, Member};
use crate::protocol::StrBytes;
use crate::protocol::streams_group::{Assignment, DescribedGroup, DescribedMember, DescribedTopology, PartitionsOf};

/// What a member works at, by the subtopology, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    active: Vec<Task>,
    standby: Vec<Task>,
    warmup: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Task {
    subtopology: String,
    partitions: Vec<i32>,
}

impl Tasks {
    fn of(assignment: &Assignment) -> Self {
        let tasks = |rows: &[PartitionsOf]| {
            let mut tasks: Vec<Task> = rows.iter().map(Task::of).collect();
            tasks.sort_by(|a, b| a.subtopology.cmp(&b.subtopology));
            tasks
        };
        Self {
            active: tasks(&assignment.active_tasks),
            standby: tasks(&assignment.standby_tasks),
            warmup: tasks(&assignment.warmup_tasks),
        }
    }

    fn kinds(&self) -> [(&'static str, &[Task]); 3] {
        [("active", &self.active), ("standby", &self.standby), ("warmup", &self.warmup)]
    }

    /// `active 0:0,1 1:2 standby 1:0`
    pub fn compact(&self) -> String {
        let mut words = Vec::new();
        for (kind, tasks) in self.kinds() {
            if !tasks.is_empty() {
                words.push(kind.to_owned());
                words.extend(tasks.iter().map(Task::compact));
            }
        }
        if words.is_empty() { "-".to_owned() } else { words.join(" ") }
    }

    pub fn to_json(&self) -> Value {
        let task = |task: &Task| json!({ "subtopology": task.subtopology, "partitions": task.partitions });
        self.kinds()
            .into_iter()
            .map(|(kind, tasks)| (kind.to_owned(), tasks.iter().map(task).collect::<Value>()))
            .collect()
    }
}

impl Task {
    fn of(row: &PartitionsOf) -> Self {
        let mut partitions = row.partitions.clone();
        partitions.sort_unstable();
        Self { subtopology: row.name.to_string(), partitions }
    }

    fn compact(&self) -> String {
        let partitions: Vec<String> = self.partitions.iter().map(ToString::to_string).collect();
        format!("{}:{}", self.subtopology, partitions.join(","))
    }
}

pub fn group(row: &DescribedGroup) -> Group {
    let member = |member: &DescribedMember| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: Some(read_by(&member.assignment.active_tasks, row.topology.as_ref())),
        tasks: Some(Tasks::of(&member.assignment)),
    };
    Group {
        state: row.group_state.to_string(),
        kind: "streams",
        protocol_type: "streams".to_owned(),
        assignor: None,
        members: row.members.iter().map(member).collect(),
    }
}

/// A task reads the partition of its number of each topic that its subtopology reads. Shorter topics have none of that
/// number.
fn read_by(tasks: &[PartitionsOf], topology: Option<&DescribedTopology>) -> Vec<TopicPartition> {
    let parts = || topology.and_then(|topology| topology.subtopologies.as_deref()).unwrap_or_default();
    let mut read = Vec::new();
    for task in tasks {
        for part in parts().iter().filter(|part| part.subtopology_id == task.name) {
            let own = part.repartition_source_topics.iter().map(|topic| &topic.name);
            let names = part.source_topics.iter().chain(own).filter_map(|name: &StrBytes| TopicName::new(name).ok());
            for topic in names {
                let partition = |partition: &i32| TopicPartition { topic: topic.clone(), partition: *partition };
                read.extend(task.partitions.iter().map(partition));
            }
        }
    }
    read.sort();
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::text;
    use crate::protocol::streams_group::{DescribedSubtopology, TopicInfo};

    fn tasks(name: &str, partitions: &[i32]) -> PartitionsOf {
        PartitionsOf { name: text(name), partitions: partitions.to_vec() }
    }

    #[test]
    fn members_have_tasks_and_the_partitions_that_these_read() {
        let own = TopicInfo { name: text("own"), ..TopicInfo::default() };
        let first = DescribedSubtopology {
            subtopology_id: text("0"),
            source_topics: vec![text("b"), text("a")],
            ..DescribedSubtopology::default()
        };
        let second = DescribedSubtopology {
            subtopology_id: text("1"),
            repartition_source_topics: vec![own],
            ..DescribedSubtopology::default()
        };
        let assignment = Assignment {
            active_tasks: vec![tasks("1", &[2]), tasks("0", &[1, 0])],
            standby_tasks: vec![tasks("1", &[0])],
            warmup_tasks: Vec::new(),
        };
        let member = DescribedMember { member_id: text("m"), assignment, ..DescribedMember::default() };
        let row = DescribedGroup {
            group_state: text("Stable"),
            topology: Some(DescribedTopology { epoch: 0, subtopologies: Some(vec![first, second]) }),
            members: vec![member],
            ..DescribedGroup::default()
        };
        let described = group(&row);
        let member = &described.members[0];
        let told = member.tasks.as_ref().expect("tasks");
        assert_eq!(told.compact(), "active 0:0,1 1:2 standby 1:0");
        assert_eq!(told.to_json()["standby"], json!([{ "subtopology": "1", "partitions": [0] }]));
        let read = member.partitions.as_deref().expect("partitions");
        assert_eq!(super::super::assignment::compact(read), "a:0,1 b:0,1 own:2");
        assert_eq!(Tasks::default().compact(), "-");
    }
}
