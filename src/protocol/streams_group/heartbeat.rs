//! StreamsGroupHeartbeat (key 88), version 0: a process of a Streams application, and the tasks that it is given.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::super::decode::{Decode, DecodeError, RequestBody, reader};
use super::super::encode::{Encode, EncodeError, writer};
use super::super::reader::{Malformed, Reader};
use super::super::shape;
use super::super::writer::Writer;
use super::{
    Endpoint, KeyValue, Part, PartitionsOf, TaskOffset, TopicInfo, read_or_null, read_strings, write_all,
    write_all_or_null, write_or_null, write_strings,
};

const KEY: i16 = 88;

/// What a member says. What is null has not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsGroupHeartbeatRequest {
    pub group_id: StrBytes,
    pub member_id: StrBytes,
    /// 0 to join, -1 to leave, -2 to leave for a while.
    pub member_epoch: i32,
    pub endpoint_information_epoch: i32,
    pub instance_id: Option<StrBytes>,
    pub rack_id: Option<StrBytes>,
    /// -1: as before.
    pub rebalance_timeout_ms: i32,
    pub topology: Option<Topology>,
    /// By the subtopology.
    pub active_tasks: Option<Vec<PartitionsOf>>,
    pub standby_tasks: Option<Vec<PartitionsOf>>,
    pub warmup_tasks: Option<Vec<PartitionsOf>>,
    pub process_id: Option<StrBytes>,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Option<Vec<KeyValue>>,
    pub task_offsets: Option<Vec<TaskOffset>>,
    pub task_end_offsets: Option<Vec<TaskOffset>>,
    pub shutdown_application: bool,
}

/// Which topics the parts of the application read and write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    pub epoch: i32,
    pub subtopologies: Vec<Subtopology>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtopology {
    pub subtopology_id: StrBytes,
    pub source_topics: Vec<StrBytes>,
    pub source_topic_regex: Vec<StrBytes>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_sink_topics: Vec<StrBytes>,
    pub repartition_source_topics: Vec<TopicInfo>,
    pub copartition_groups: Vec<CopartitionGroup>,
}

/// Source topics that must have equally many partitions: places in the lists of the subtopology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopartitionGroup {
    pub source_topics: Vec<i16>,
    pub source_topic_regex: Vec<i16>,
    pub repartition_source_topics: Vec<i16>,
}

/// What the member is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsGroupHeartbeatResponse {
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub member_id: StrBytes,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    pub acceptable_recovery_lag: i32,
    pub task_offset_interval_ms: i32,
    pub status: Option<Vec<Status>>,
    /// Null where the tasks are as before.
    pub active_tasks: Option<Vec<PartitionsOf>>,
    pub standby_tasks: Option<Vec<PartitionsOf>>,
    pub warmup_tasks: Option<Vec<PartitionsOf>>,
    pub endpoint_information_epoch: i32,
    pub partitions_by_user_endpoint: Option<Vec<EndpointToPartitions>>,
}

/// Something that holds the application up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub status_code: i8,
    pub status_detail: StrBytes,
}

/// The partitions by topic that can be asked about at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointToPartitions {
    pub user_endpoint: Endpoint,
    pub active_partitions: Vec<PartitionsOf>,
    pub standby_partitions: Vec<PartitionsOf>,
}

impl RequestBody for StreamsGroupHeartbeatRequest {
    const KEY: i16 = KEY;
    type Response = StreamsGroupHeartbeatResponse;
}

impl Decode for StreamsGroupHeartbeatRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let request = Self {
            group_id: reader.string()?,
            member_id: reader.string()?,
            member_epoch: reader.i32()?,
            endpoint_information_epoch: reader.i32()?,
            instance_id: reader.nullable_string()?,
            rack_id: reader.nullable_string()?,
            rebalance_timeout_ms: reader.i32()?,
            topology: read_or_null(&mut reader)?,
            active_tasks: reader.nullable_array(PartitionsOf::read)?,
            standby_tasks: reader.nullable_array(PartitionsOf::read)?,
            warmup_tasks: reader.nullable_array(PartitionsOf::read)?,
            process_id: reader.nullable_string()?,
            user_endpoint: read_or_null(&mut reader)?,
            client_tags: reader.nullable_array(KeyValue::read)?,
            task_offsets: reader.nullable_array(TaskOffset::read)?,
            task_end_offsets: reader.nullable_array(TaskOffset::read)?,
            shutdown_application: reader.bool()?,
        };
        reader.skip_tags()?;
        Ok(request)
    }
}

impl Encode for StreamsGroupHeartbeatRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        fields.string(&self.group_id)?;
        fields.string(&self.member_id)?;
        fields.i32(self.member_epoch);
        fields.i32(self.endpoint_information_epoch);
        fields.nullable_string(self.instance_id.as_deref())?;
        fields.nullable_string(self.rack_id.as_deref())?;
        fields.i32(self.rebalance_timeout_ms);
        write_or_null(&mut fields, self.topology.as_ref())?;
        write_all_or_null(&mut fields, self.active_tasks.as_deref())?;
        write_all_or_null(&mut fields, self.standby_tasks.as_deref())?;
        write_all_or_null(&mut fields, self.warmup_tasks.as_deref())?;
        fields.nullable_string(self.process_id.as_deref())?;
        write_or_null(&mut fields, self.user_endpoint.as_ref())?;
        write_all_or_null(&mut fields, self.client_tags.as_deref())?;
        write_all_or_null(&mut fields, self.task_offsets.as_deref())?;
        write_all_or_null(&mut fields, self.task_end_offsets.as_deref())?;
        fields.bool(self.shutdown_application);
        fields.no_tags();
        Ok(())
    }
}

impl Part for Topology {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self { epoch: reader.i32()?, subtopologies: reader.array(Subtopology::read)? };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.i32(self.epoch);
        write_all(fields, &self.subtopologies)?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for Subtopology {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            subtopology_id: reader.string()?,
            source_topics: read_strings(reader)?,
            source_topic_regex: read_strings(reader)?,
            state_changelog_topics: reader.array(TopicInfo::read)?,
            repartition_sink_topics: read_strings(reader)?,
            repartition_source_topics: reader.array(TopicInfo::read)?,
            copartition_groups: reader.array(CopartitionGroup::read)?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.subtopology_id)?;
        write_strings(fields, &self.source_topics)?;
        write_strings(fields, &self.source_topic_regex)?;
        write_all(fields, &self.state_changelog_topics)?;
        write_strings(fields, &self.repartition_sink_topics)?;
        write_all(fields, &self.repartition_source_topics)?;
        write_all(fields, &self.copartition_groups)?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for CopartitionGroup {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            source_topics: reader.array(|reader| reader.i16())?,
            source_topic_regex: reader.array(|reader| reader.i16())?,
            repartition_source_topics: reader.array(|reader| reader.i16())?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        for places in [&self.source_topics, &self.source_topic_regex, &self.repartition_source_topics] {
            fields.array(places, |fields, place| {
                fields.i16(*place);
                Ok(())
            })?;
        }
        fields.no_tags();
        Ok(())
    }
}

impl Decode for StreamsGroupHeartbeatResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(KEY), KEY, version, &body)?;
        // Throttling.
        reader.i32()?;
        let response = Self {
            error_code: reader.i16()?,
            error_message: reader.nullable_string()?,
            member_id: reader.string()?,
            member_epoch: reader.i32()?,
            heartbeat_interval_ms: reader.i32()?,
            acceptable_recovery_lag: reader.i32()?,
            task_offset_interval_ms: reader.i32()?,
            status: reader.nullable_array(Status::read)?,
            active_tasks: reader.nullable_array(PartitionsOf::read)?,
            standby_tasks: reader.nullable_array(PartitionsOf::read)?,
            warmup_tasks: reader.nullable_array(PartitionsOf::read)?,
            endpoint_information_epoch: reader.i32()?,
            partitions_by_user_endpoint: reader.nullable_array(EndpointToPartitions::read)?,
        };
        reader.skip_tags()?;
        Ok(response)
    }
}

impl Encode for StreamsGroupHeartbeatResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        // No throttling.
        fields.i32(0);
        fields.i16(self.error_code);
        fields.nullable_string(self.error_message.as_deref())?;
        fields.string(&self.member_id)?;
        fields.i32(self.member_epoch);
        fields.i32(self.heartbeat_interval_ms);
        fields.i32(self.acceptable_recovery_lag);
        fields.i32(self.task_offset_interval_ms);
        write_all_or_null(&mut fields, self.status.as_deref())?;
        write_all_or_null(&mut fields, self.active_tasks.as_deref())?;
        write_all_or_null(&mut fields, self.standby_tasks.as_deref())?;
        write_all_or_null(&mut fields, self.warmup_tasks.as_deref())?;
        fields.i32(self.endpoint_information_epoch);
        write_all_or_null(&mut fields, self.partitions_by_user_endpoint.as_deref())?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for Status {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self { status_code: reader.i8()?, status_detail: reader.string()? };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.i8(self.status_code);
        fields.string(&self.status_detail)?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for EndpointToPartitions {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            user_endpoint: Endpoint::read(reader)?,
            active_partitions: reader.array(PartitionsOf::read)?,
            standby_partitions: reader.array(PartitionsOf::read)?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        self.user_endpoint.write(fields)?;
        write_all(fields, &self.active_partitions)?;
        write_all(fields, &self.standby_partitions)?;
        fields.no_tags();
        Ok(())
    }
}
