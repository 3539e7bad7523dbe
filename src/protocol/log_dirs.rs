//! DescribeLogDirs (key 35), versions 1 to 5, for both sides.
//!
//! Ours because `kafka-protocol` lacks version 5, which says whether a directory is cordoned (KIP-1066).

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::reader::{Malformed, Reader};
use super::shape;
use super::writer::Writer;

const KEY: i16 = 35;
/// From this version on there is a top-level error.
const ERROR_FROM: i16 = 3;
/// From this version on the volume's size is told (KIP-827).
const VOLUME_FROM: i16 = 4;
const CORDONED_FROM: i16 = 5;

/// Asks where partitions lie and how large they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeLogDirsRequest {
    /// `None` asks for all.
    pub topics: Option<Vec<LogDirsTopic>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirsTopic {
    pub name: StrBytes,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeLogDirsResponse {
    pub throttle_time_ms: i32,
    /// Kafka's error code, 0 for none. From version 3.
    pub error_code: i16,
    pub log_dirs: Vec<LogDir>,
}

/// One log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    pub error_code: i16,
    /// Absolute path.
    pub path: StrBytes,
    pub topics: Vec<LogDirTopic>,
    /// Size of the volume; -1: unknown. From version 4.
    pub total_bytes: i64,
    /// Free space of the volume; -1: unknown. From version 4.
    pub usable_bytes: i64,
    /// Takes no new partitions. From version 5.
    pub is_cordoned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirTopic {
    pub name: StrBytes,
    pub partitions: Vec<LogDirPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogDirPartition {
    pub index: i32,
    pub size_bytes: i64,
    /// How far the replica is behind the high watermark, or a future replica behind the present one.
    pub offset_lag: i64,
    /// Whether this replica is being moved here and will replace the present one.
    pub is_future: bool,
}

impl RequestBody for DescribeLogDirsRequest {
    const KEY: i16 = KEY;
    type Response = DescribeLogDirsResponse;
}

impl Decode for DescribeLogDirsRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let topics = reader.nullable_array(|reader| {
            let topic = LogDirsTopic { name: reader.string()?, partitions: reader.array(|reader| reader.i32())? };
            reader.skip_tags()?;
            Ok(topic)
        })?;
        reader.skip_tags()?;
        Ok(Self { topics })
    }
}

impl Encode for DescribeLogDirsRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        fields.nullable_len(self.topics.as_ref().map(Vec::len))?;
        for topic in self.topics.iter().flatten() {
            fields.string(&topic.name)?;
            fields.array(&topic.partitions, |fields, partition| {
                fields.i32(*partition);
                Ok(())
            })?;
            fields.no_tags();
        }
        fields.no_tags();
        Ok(())
    }
}

impl Decode for DescribeLogDirsResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(KEY), KEY, version, &body)?;
        let response = Self {
            throttle_time_ms: reader.i32()?,
            error_code: if version >= ERROR_FROM { reader.i16()? } else { 0 },
            log_dirs: reader.array(|reader| LogDir::read(reader, version))?,
        };
        reader.skip_tags()?;
        Ok(response)
    }
}

impl Encode for DescribeLogDirsResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        fields.i32(self.throttle_time_ms);
        if version >= ERROR_FROM {
            fields.i16(self.error_code);
        }
        fields.array(&self.log_dirs, |fields, dir| dir.write(fields, version))?;
        fields.no_tags();
        Ok(())
    }
}

impl LogDir {
    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, Malformed> {
        let dir = Self {
            error_code: reader.i16()?,
            path: reader.string()?,
            topics: reader.array(LogDirTopic::read)?,
            total_bytes: if version >= VOLUME_FROM { reader.i64()? } else { -1 },
            usable_bytes: if version >= VOLUME_FROM { reader.i64()? } else { -1 },
            is_cordoned: version >= CORDONED_FROM && reader.bool()?,
        };
        reader.skip_tags()?;
        Ok(dir)
    }

    fn write(&self, fields: &mut Writer<'_>, version: i16) -> Result<(), EncodeError> {
        fields.i16(self.error_code);
        fields.string(&self.path)?;
        fields.array(&self.topics, |fields, topic| topic.write(fields))?;
        if version >= VOLUME_FROM {
            fields.i64(self.total_bytes);
            fields.i64(self.usable_bytes);
        }
        if version >= CORDONED_FROM {
            fields.bool(self.is_cordoned);
        }
        fields.no_tags();
        Ok(())
    }
}

impl LogDirTopic {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = reader.string()?;
        let partitions = reader.array(|reader| {
            let partition = LogDirPartition {
                index: reader.i32()?,
                size_bytes: reader.i64()?,
                offset_lag: reader.i64()?,
                is_future: reader.bool()?,
            };
            reader.skip_tags()?;
            Ok(partition)
        })?;
        reader.skip_tags()?;
        Ok(Self { name, partitions })
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.name)?;
        fields.array(&self.partitions, |fields, partition| {
            fields.i32(partition.index);
            fields.i64(partition.size_bytes);
            fields.i64(partition.offset_lag);
            fields.bool(partition.is_future);
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;

    use super::super::samples::{check_codec, check_codec_beyond_the_crate};
    use super::*;

    #[test]
    fn it_reads_and_writes_as_the_crate_does() {
        check_codec::<DescribeLogDirsRequest, messages::DescribeLogDirsRequest>(shape::request(KEY));
        check_codec::<DescribeLogDirsResponse, messages::DescribeLogDirsResponse>(shape::response(KEY));
    }

    #[test]
    fn version_5_comes_back() {
        check_codec_beyond_the_crate::<DescribeLogDirsRequest>(shape::request(KEY), 5);
        check_codec_beyond_the_crate::<DescribeLogDirsResponse>(shape::response(KEY), 5);
    }
}
