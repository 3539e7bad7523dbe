//! Requests to share coordinators, each about one share-partition.

use kafka_protocol::messages::write_share_group_state_request::StateBatch;
use kafka_protocol::messages::{
    DeleteShareGroupStateRequest, FindCoordinatorRequest, InitializeShareGroupStateRequest, ReadShareGroupStateRequest,
    ReadShareGroupStateSummaryRequest, WriteShareGroupStateRequest, delete_share_group_state_request,
    initialize_share_group_state_request, read_share_group_state_request, read_share_group_state_summary_request,
    write_share_group_state_request,
};
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use super::flex::{Reader, Writer};
use super::nodes::Nodes;
use super::text;
use super::txn::settled;
use super::wire::Wire;

const COORDINATOR_NOT_AVAILABLE: i16 = 15;

/// A group's view of a partition.
#[derive(Clone, Debug)]
pub struct Share {
    pub group: String,
    pub topic: Uuid,
    pub partition: i32,
}

/// What is kept, or the error.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub code: i16,
    pub epoch: i32,
    pub start: i64,
    /// First, last, state, deliveries.
    pub batches: Vec<(i64, i64, i8, i16)>,
}

impl Share {
    /// Its name for FindCoordinator.
    pub fn name(&self) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = self.topic.as_u128();
        let groups = (0..22).map(|at| if at < 21 { bits >> (122 - 6 * at) } else { bits << 4 } & 63);
        let topic: String = groups.map(|digit| char::from(DIGITS[digit as usize])).collect();
        format!("{}:{topic}:{}", self.group, self.partition)
    }

    /// The node that coordinates, as a node tells it; -1 while there is none.
    pub fn coordinator(&self, wire: &mut Wire) -> i32 {
        let asked = FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![text(&self.name())]);
        let found = wire.call(6, &asked);
        let row = &found.coordinators[0];
        assert!([0, COORDINATOR_NOT_AVAILABLE].contains(&row.error_code), "error {}", row.error_code);
        row.node_id.0
    }

    /// The same, once there is one that lives.
    pub fn wire(&self, nodes: &Nodes, asked: usize) -> (usize, Wire) {
        super::eventually("a share coordinator", || {
            let id = usize::try_from(self.coordinator(&mut nodes.wire(asked))).ok()?;
            nodes.is_running(id).then(|| (id, nodes.wire(id)))
        })
    }

    pub fn initialize(&self, wire: &mut Wire, epoch: i32, start: i64) -> i16 {
        use initialize_share_group_state_request::{InitializeStateData, PartitionData};
        let partition = PartitionData::default().with_partition(self.partition).with_state_epoch(epoch);
        let topic = InitializeStateData::default().with_topic_id(self.topic);
        let request = InitializeShareGroupStateRequest::default()
            .with_group_id(text(&self.group))
            .with_topics(vec![topic.with_partitions(vec![partition.with_start_offset(start)])]);
        settled(|| wire.call(0, &request).results[0].partitions[0].error_code, |code| *code)
    }

    pub fn read(&self, wire: &mut Wire, leader_epoch: i32) -> State {
        use read_share_group_state_request::{PartitionData, ReadStateData};
        let partition = PartitionData::default().with_partition(self.partition).with_leader_epoch(leader_epoch);
        let topic = ReadStateData::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        let request = ReadShareGroupStateRequest::default().with_group_id(text(&self.group)).with_topics(vec![topic]);
        let read = || {
            let row = wire.call(0, &request).results.remove(0).partitions.remove(0);
            let batch = |b: &kafka_protocol::messages::read_share_group_state_response::StateBatch| {
                (b.first_offset, b.last_offset, b.delivery_state, b.delivery_count)
            };
            let batches = row.state_batches.iter().map(batch).collect();
            State { code: row.error_code, epoch: row.state_epoch, start: row.start_offset, batches }
        };
        settled(read, |state| state.code)
    }

    /// Version 0. `epochs`: of the state, and of the leader.
    pub fn write(&self, wire: &mut Wire, epochs: (i32, i32), start: i64, batches: &[(i64, i64, i8, i16)]) -> i16 {
        use write_share_group_state_request::{PartitionData, WriteStateData};
        let batch = |(first, last, state, count): &(i64, i64, i8, i16)| {
            StateBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_delivery_state(*state)
                .with_delivery_count(*count)
        };
        let partition = PartitionData::default()
            .with_partition(self.partition)
            .with_state_epoch(epochs.0)
            .with_leader_epoch(epochs.1)
            .with_start_offset(start)
            .with_state_batches(batches.iter().map(batch).collect());
        let topic = WriteStateData::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        let request = WriteShareGroupStateRequest::default().with_group_id(text(&self.group)).with_topics(vec![topic]);
        settled(|| wire.call(0, &request).results[0].partitions[0].error_code, |code| *code)
    }

    /// Version 1, without batches: it counts what is done with.
    pub fn write_counted(&self, wire: &mut Wire, epochs: (i32, i32), start: i64, done: i32) -> i16 {
        let body = Writer::default().string(&self.group).array(1).uuid(self.topic).array(1);
        let body = body.i32(self.partition).i32(epochs.0).i32(epochs.1).i64(start).i32(done).array(0);
        let body = body.tags().tags().tags().bytes();
        let correlation = wire.send_body(WriteShareGroupStateRequest::KEY, 1, 2, &body);
        let mut reader = Reader(wire.receive_body(1, correlation));
        let code = self.row(&mut reader);
        (0..3).for_each(|_| reader.tags());
        reader.end();
        code
    }

    /// The code of the only row of an answer, up to its message.
    fn row(&self, reader: &mut Reader) -> i16 {
        assert_eq!((reader.array(), reader.uuid(), reader.array()), (Some(1), self.topic, Some(1)));
        assert_eq!(reader.i32(), self.partition);
        let code = reader.i16();
        assert_eq!(reader.string().is_some(), code != 0);
        code
    }

    pub fn delete(&self, wire: &mut Wire) -> i16 {
        use delete_share_group_state_request::{DeleteStateData, PartitionData};
        let partition = PartitionData::default().with_partition(self.partition);
        let topic = DeleteStateData::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        let request = DeleteShareGroupStateRequest::default().with_group_id(text(&self.group)).with_topics(vec![topic]);
        settled(|| wire.call(0, &request).results[0].partitions[0].error_code, |code| *code)
    }

    /// Error, epoch of the state and of the leader, start.
    pub fn summary(&self, wire: &mut Wire) -> (i16, i32, i32, i64) {
        use read_share_group_state_summary_request::{PartitionData, ReadStateSummaryData};
        let partition = PartitionData::default().with_partition(self.partition).with_leader_epoch(0);
        let topic = ReadStateSummaryData::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        let request =
            ReadShareGroupStateSummaryRequest::default().with_group_id(text(&self.group)).with_topics(vec![topic]);
        let read = || {
            let row = wire.call(0, &request).results.remove(0).partitions.remove(0);
            (row.error_code, row.state_epoch, row.leader_epoch, row.start_offset)
        };
        settled(read, |row| row.0)
    }

    /// Version 1: how many records are done with.
    pub fn counted(&self, wire: &mut Wire) -> i32 {
        let body = Writer::default().string(&self.group).array(1).uuid(self.topic).array(1);
        let body = body.i32(self.partition).i32(0).tags().tags().tags().bytes();
        let correlation = wire.send_body(ReadShareGroupStateSummaryRequest::KEY, 1, 2, &body);
        let mut reader = Reader(wire.receive_body(1, correlation));
        assert_eq!(self.row(&mut reader), 0);
        reader.i32();
        reader.i32();
        reader.i64();
        let done = reader.i32();
        (0..3).for_each(|_| reader.tags());
        reader.end();
        done
    }
}
