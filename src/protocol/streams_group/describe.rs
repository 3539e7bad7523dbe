//! StreamsGroupDescribe (key 89), version 0.

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

const KEY: i16 = 89;

/// What there is to know of streams groups is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsGroupDescribeRequest {
    pub group_ids: Vec<StrBytes>,
    pub include_authorized_operations: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsGroupDescribeResponse {
    pub groups: Vec<DescribedGroup>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedGroup {
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub group_id: StrBytes,
    pub group_state: StrBytes,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    pub topology: Option<DescribedTopology>,
    pub members: Vec<DescribedMember>,
    /// `i32::MIN`: not asked for.
    pub authorized_operations: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedTopology {
    pub epoch: i32,
    pub subtopologies: Option<Vec<DescribedSubtopology>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedSubtopology {
    pub subtopology_id: StrBytes,
    pub source_topics: Vec<StrBytes>,
    pub repartition_sink_topics: Vec<StrBytes>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_source_topics: Vec<TopicInfo>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: StrBytes,
    pub member_epoch: i32,
    pub instance_id: Option<StrBytes>,
    pub rack_id: Option<StrBytes>,
    pub client_id: StrBytes,
    pub client_host: StrBytes,
    pub topology_epoch: i32,
    pub process_id: StrBytes,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Vec<KeyValue>,
    pub task_offsets: Vec<TaskOffset>,
    pub task_end_offsets: Vec<TaskOffset>,
    pub assignment: Assignment,
    pub target_assignment: Assignment,
    pub is_classic: bool,
}

/// Tasks by the subtopology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    pub active_tasks: Vec<PartitionsOf>,
    pub standby_tasks: Vec<PartitionsOf>,
    pub warmup_tasks: Vec<PartitionsOf>,
}

impl RequestBody for StreamsGroupDescribeRequest {
    const KEY: i16 = KEY;
    type Response = StreamsGroupDescribeResponse;
}

impl Decode for StreamsGroupDescribeRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let request = Self { group_ids: read_strings(&mut reader)?, include_authorized_operations: reader.bool()? };
        reader.skip_tags()?;
        Ok(request)
    }
}

impl Encode for StreamsGroupDescribeRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        write_strings(&mut fields, &self.group_ids)?;
        fields.bool(self.include_authorized_operations);
        fields.no_tags();
        Ok(())
    }
}

impl Decode for StreamsGroupDescribeResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(KEY), KEY, version, &body)?;
        // Throttling.
        reader.i32()?;
        let groups = reader.array(DescribedGroup::read)?;
        reader.skip_tags()?;
        Ok(Self { groups })
    }
}

impl Encode for StreamsGroupDescribeResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        // No throttling.
        fields.i32(0);
        write_all(&mut fields, &self.groups)?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for DescribedGroup {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            error_code: reader.i16()?,
            error_message: reader.nullable_string()?,
            group_id: reader.string()?,
            group_state: reader.string()?,
            group_epoch: reader.i32()?,
            assignment_epoch: reader.i32()?,
            topology: read_or_null(reader)?,
            members: reader.array(DescribedMember::read)?,
            authorized_operations: reader.i32()?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.i16(self.error_code);
        fields.nullable_string(self.error_message.as_deref())?;
        fields.string(&self.group_id)?;
        fields.string(&self.group_state)?;
        fields.i32(self.group_epoch);
        fields.i32(self.assignment_epoch);
        write_or_null(fields, self.topology.as_ref())?;
        write_all(fields, &self.members)?;
        fields.i32(self.authorized_operations);
        fields.no_tags();
        Ok(())
    }
}

impl Part for DescribedTopology {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self { epoch: reader.i32()?, subtopologies: reader.nullable_array(DescribedSubtopology::read)? };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.i32(self.epoch);
        write_all_or_null(fields, self.subtopologies.as_deref())?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for DescribedSubtopology {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            subtopology_id: reader.string()?,
            source_topics: read_strings(reader)?,
            repartition_sink_topics: read_strings(reader)?,
            state_changelog_topics: reader.array(TopicInfo::read)?,
            repartition_source_topics: reader.array(TopicInfo::read)?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.subtopology_id)?;
        write_strings(fields, &self.source_topics)?;
        write_strings(fields, &self.repartition_sink_topics)?;
        write_all(fields, &self.state_changelog_topics)?;
        write_all(fields, &self.repartition_source_topics)?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for DescribedMember {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            member_id: reader.string()?,
            member_epoch: reader.i32()?,
            instance_id: reader.nullable_string()?,
            rack_id: reader.nullable_string()?,
            client_id: reader.string()?,
            client_host: reader.string()?,
            topology_epoch: reader.i32()?,
            process_id: reader.string()?,
            user_endpoint: read_or_null(reader)?,
            client_tags: reader.array(KeyValue::read)?,
            task_offsets: reader.array(TaskOffset::read)?,
            task_end_offsets: reader.array(TaskOffset::read)?,
            assignment: Assignment::read(reader)?,
            target_assignment: Assignment::read(reader)?,
            is_classic: reader.bool()?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.member_id)?;
        fields.i32(self.member_epoch);
        fields.nullable_string(self.instance_id.as_deref())?;
        fields.nullable_string(self.rack_id.as_deref())?;
        fields.string(&self.client_id)?;
        fields.string(&self.client_host)?;
        fields.i32(self.topology_epoch);
        fields.string(&self.process_id)?;
        write_or_null(fields, self.user_endpoint.as_ref())?;
        write_all(fields, &self.client_tags)?;
        write_all(fields, &self.task_offsets)?;
        write_all(fields, &self.task_end_offsets)?;
        self.assignment.write(fields)?;
        self.target_assignment.write(fields)?;
        fields.bool(self.is_classic);
        fields.no_tags();
        Ok(())
    }
}

impl Part for Assignment {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            active_tasks: reader.array(PartitionsOf::read)?,
            standby_tasks: reader.array(PartitionsOf::read)?,
            warmup_tasks: reader.array(PartitionsOf::read)?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        write_all(fields, &self.active_tasks)?;
        write_all(fields, &self.standby_tasks)?;
        write_all(fields, &self.warmup_tasks)?;
        fields.no_tags();
        Ok(())
    }
}
