//! WriteTxnMarkers (key 27), versions 1 and 2, for both sides.
//!
//! Ours because `kafka-protocol` lacks version 2, which says which kind of transaction a marker ends (KIP-1228).

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::shape;

const KEY: i16 = 27;
/// From this version on a marker tells its transaction's version.
const TRANSACTION_VERSION_FROM: i16 = 2;

/// What coordinators of transactions tell the leaders of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteTxnMarkersRequest {
    pub markers: Vec<WritableTxnMarker>,
}

/// The end of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableTxnMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// False: it is aborted.
    pub is_commit: bool,
    pub topics: Vec<WritableTxnMarkerTopic>,
    pub coordinator_epoch: i32,
    /// 0 before version 2.
    pub transaction_version: i8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableTxnMarkerTopic {
    pub name: StrBytes,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteTxnMarkersResponse {
    pub markers: Vec<WritableTxnMarkerResult>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableTxnMarkerResult {
    pub producer_id: i64,
    pub topics: Vec<WritableTxnMarkerTopicResult>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableTxnMarkerTopicResult {
    pub name: StrBytes,
    pub partitions: Vec<WritableTxnMarkerPartitionResult>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritableTxnMarkerPartitionResult {
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
}

impl RequestBody for WriteTxnMarkersRequest {
    const KEY: i16 = KEY;
    type Response = WriteTxnMarkersResponse;
}

impl Decode for WriteTxnMarkersRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let markers = reader.array(|reader| {
            let marker = WritableTxnMarker {
                producer_id: reader.i64()?,
                producer_epoch: reader.i16()?,
                is_commit: reader.bool()?,
                topics: reader.array(|reader| {
                    let (name, partitions) = (reader.string()?, reader.array(|reader| reader.i32())?);
                    reader.skip_tags()?;
                    Ok(WritableTxnMarkerTopic { name, partitions })
                })?,
                coordinator_epoch: reader.i32()?,
                transaction_version: if version >= TRANSACTION_VERSION_FROM { reader.i8()? } else { 0 },
            };
            reader.skip_tags()?;
            Ok(marker)
        })?;
        reader.skip_tags()?;
        Ok(Self { markers })
    }
}

impl Encode for WriteTxnMarkersRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        fields.array(&self.markers, |fields, marker| {
            fields.i64(marker.producer_id);
            fields.i16(marker.producer_epoch);
            fields.bool(marker.is_commit);
            fields.array(&marker.topics, |fields, topic| {
                fields.string(&topic.name)?;
                fields.array(&topic.partitions, |fields, partition| {
                    fields.i32(*partition);
                    Ok(())
                })?;
                fields.no_tags();
                Ok(())
            })?;
            fields.i32(marker.coordinator_epoch);
            if version >= TRANSACTION_VERSION_FROM {
                fields.i8(marker.transaction_version);
            }
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

impl Decode for WriteTxnMarkersResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(KEY), KEY, version, &body)?;
        let markers = reader.array(|reader| {
            let producer_id = reader.i64()?;
            let topics = reader.array(|reader| {
                let name = reader.string()?;
                let partitions = reader.array(|reader| {
                    let (index, error_code) = (reader.i32()?, reader.i16()?);
                    reader.skip_tags()?;
                    Ok(WritableTxnMarkerPartitionResult { index, error_code })
                })?;
                reader.skip_tags()?;
                Ok(WritableTxnMarkerTopicResult { name, partitions })
            })?;
            reader.skip_tags()?;
            Ok(WritableTxnMarkerResult { producer_id, topics })
        })?;
        reader.skip_tags()?;
        Ok(Self { markers })
    }
}

impl Encode for WriteTxnMarkersResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        fields.array(&self.markers, |fields, marker| {
            fields.i64(marker.producer_id);
            fields.array(&marker.topics, |fields, topic| {
                fields.string(&topic.name)?;
                fields.array(&topic.partitions, |fields, partition| {
                    fields.i32(partition.index);
                    fields.i16(partition.error_code);
                    fields.no_tags();
                    Ok(())
                })?;
                fields.no_tags();
                Ok(())
            })?;
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
        check_codec::<WriteTxnMarkersRequest, messages::WriteTxnMarkersRequest>(shape::request(KEY));
        check_codec::<WriteTxnMarkersResponse, messages::WriteTxnMarkersResponse>(shape::response(KEY));
    }

    #[test]
    fn version_2_comes_back() {
        check_codec_beyond_the_crate::<WriteTxnMarkersRequest>(shape::request(KEY), 2);
        check_codec_beyond_the_crate::<WriteTxnMarkersResponse>(shape::response(KEY), 2);
    }
}
