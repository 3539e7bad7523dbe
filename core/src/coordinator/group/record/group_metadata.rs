//! A classic group as of its latest generation: `GroupMetadataKey` and `GroupMetadataValue`.
//!
//! Key, type 2: group string.
//! Value: version i16, then protocol type string, generation i32, protocol string?, leader string?, time of the
//! present state i64 (2+), array of members: member id string, instance id string? (3+), client id string, client
//! host string, rebalance timeout i32 (1+), session timeout i32, subscription bytes, assignment bytes. Version 4 is
//! the same with compact lengths and tagged fields; Kafka writes 3.

use bytes::Bytes;

use super::super::ids::{ClientHost, ClientId, Generation, InstanceId, MemberId, ProtocolName, ProtocolType};
use crate::coordinator::wire::{DecodeError, Reader, Writer};
use crate::types::Timestamp;

const WRITTEN: i16 = 3;
const LATEST: i16 = 4;

/// A generation of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `None`: no member ever joined; the group only keeps offsets.
    pub protocol_type: Option<ProtocolType>,
    pub generation: Generation,
    /// The protocol that the members chose. `None` in a group without members.
    pub protocol: Option<ProtocolName>,
    pub leader: Option<MemberId>,
    /// Since when the group is in its state. `None` in records of old.
    pub state_since: Option<Timestamp>,
    pub members: Vec<StoredMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    pub id: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata for the chosen protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl GroupMetadata {
    pub fn encode(&self) -> Bytes {
        let mut value = Writer::default();
        value.i16(WRITTEN);
        value.str(self.protocol_type.as_ref().map_or("", ProtocolType::as_str));
        value.i32(self.generation.0);
        value.nullable_str(self.protocol.as_ref().map(ProtocolName::as_str));
        value.nullable_str(self.leader.as_ref().map(MemberId::as_str));
        value.i64(self.state_since.unwrap_or(Timestamp::NONE).0);
        value.count(self.members.len());
        for member in &self.members {
            member.encode(&mut value);
        }
        value.finish()
    }

    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let version = reader.i16()?;
        if !(0..=LATEST).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let flexible = version >= 4;
        let protocol_type = reader.str(flexible)?;
        let generation = Generation(reader.i32()?);
        let protocol = reader.nullable_str(flexible)?;
        let leader = reader.nullable_str(flexible)?;
        let state_since = if version >= 2 { Timestamp(reader.i64()?) } else { Timestamp::NONE };
        let count = reader.count(flexible)?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(StoredMember::decode(&mut reader, version)?);
        }
        if flexible {
            reader.tagged_fields(|_, _| Ok(()))?;
        }
        Ok(Self {
            protocol_type: if protocol_type.is_empty() { None } else { Some(ProtocolType::new(protocol_type)?) },
            generation,
            protocol: protocol.map(ProtocolName::new).transpose()?,
            leader: leader.map(MemberId::new).transpose()?,
            state_since: (state_since != Timestamp::NONE).then_some(state_since),
            members,
        })
    }
}

impl StoredMember {
    fn encode(&self, value: &mut Writer) {
        value.str(self.id.as_str());
        value.nullable_str(self.instance.as_ref().map(InstanceId::as_str));
        value.str(self.client_id.as_str());
        value.str(self.client_host.as_str());
        value.i32(self.rebalance_timeout_ms);
        value.i32(self.session_timeout_ms);
        value.bytes(&self.subscription);
        value.bytes(&self.assignment);
    }

    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let id = MemberId::new(reader.str(flexible)?)?;
        let instance = if version >= 3 { reader.nullable_str(flexible)? } else { None };
        let client_id = ClientId::new(reader.str(flexible)?)?;
        let client_host = ClientHost::new(reader.str(flexible)?)?;
        let rebalance_timeout_ms = if version >= 1 { reader.i32()? } else { -1 };
        let session_timeout_ms = reader.i32()?;
        let subscription = reader.bytes(flexible)?;
        let assignment = reader.bytes(flexible)?;
        if flexible {
            reader.tagged_fields(|_, _| Ok(()))?;
        }
        Ok(Self {
            id,
            instance: instance.map(InstanceId::new).transpose()?,
            client_id,
            client_host,
            // Before the rebalance timeout there was one timeout for both.
            rebalance_timeout_ms: if rebalance_timeout_ms == -1 { session_timeout_ms } else { rebalance_timeout_ms },
            session_timeout_ms,
            subscription,
            assignment,
        })
    }
}
