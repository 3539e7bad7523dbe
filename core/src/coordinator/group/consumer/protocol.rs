//! What members of the classic protocol say and hear: `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`.
//!
//! Subscription: version i16, topics [string], user data bytes?; 1+: owned partitions [topic, [i32]]; 2+: generation
//! i32; 3+: rack string?. Assignment, of every version: version i16, [topic, partitions [i32]], user data bytes?.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::member::Target;
use super::topics::Topics;
use crate::coordinator::wire::{DecodeError, Reader, Writer};

/// The latest version of either.
const LATEST: i16 = 3;

pub(super) struct ClassicSubscription {
    pub topics: BTreeSet<Arc<str>>,
    /// What it says that it has; topics that there are not left out.
    pub owned: Target,
    pub rack: Option<Arc<str>>,
}

pub(super) fn read_subscription(bytes: &[u8], topics: &Topics) -> Result<ClassicSubscription, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = read_version(&mut reader)?;
    let named = (0..reader.count(false)?).map(|_| Ok(reader.str(false)?.into())).collect::<Result<_, DecodeError>>()?;
    reader.nullable_bytes(false)?;
    let owned = if version >= 1 { read_partitions(&mut reader, topics)? } else { Target::new() };
    if version >= 2 {
        reader.i32()?;
    }
    let rack = if version >= 3 { reader.nullable_str(false)?.map(Arc::from) } else { None };
    Ok(ClassicSubscription { topics: named, owned, rack })
}

fn read_version(reader: &mut Reader<'_>) -> Result<i16, DecodeError> {
    match reader.i16()? {
        version if version < 0 => Err(DecodeError::Version(version)),
        version => Ok(version.min(LATEST)),
    }
}

/// The version of the messages that a member speaks.
pub(super) fn version_of(bytes: &[u8]) -> Result<i16, DecodeError> {
    read_version(&mut Reader::new(bytes))
}

fn read_partitions(reader: &mut Reader<'_>, topics: &Topics) -> Result<Target, DecodeError> {
    let mut all = Target::new();
    for _ in 0..reader.count(false)? {
        let name = reader.str(false)?;
        let count = reader.count(false)?;
        let partitions = (0..count).map(|_| reader.i32()).collect::<Result<BTreeSet<_>, _>>()?;
        if let Some(topic) = topics.by_name(name).filter(|_| !partitions.is_empty()) {
            all.entry(topic.id).or_default().extend(partitions);
        }
    }
    Ok(all)
}

/// Why a classic member's assignment cannot be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    Malformed,
    /// An assignor of its own has put something there, which would be lost.
    UserData,
}

/// Partitions of topics that there are not are left out.
pub(super) fn read_assignment(bytes: &[u8], topics: &Topics) -> Result<Target, NotTaken> {
    if bytes.is_empty() {
        return Ok(Target::new());
    }
    let mut reader = Reader::new(bytes);
    let mut read = || {
        read_version(&mut reader)?;
        let target = read_partitions(&mut reader, topics)?;
        let user_data = reader.nullable_bytes(false)?;
        Ok::<_, DecodeError>((target, user_data.is_some_and(|data| !data.is_empty())))
    };
    match read() {
        Ok((target, false)) => Ok(target),
        Ok((_, true)) => Err(NotTaken::UserData),
        Err(_) => Err(NotTaken::Malformed),
    }
}

pub(super) fn write_assignment(target: &Target, version: i16, topics: &Topics) -> Bytes {
    let named: Vec<_> = target.iter().filter_map(|(id, partitions)| Some((topics.by_id(*id)?, partitions))).collect();
    let mut bytes = Writer::default();
    bytes.i16(version);
    bytes.count(named.len());
    for (topic, partitions) in named {
        bytes.str(topic.name.as_str());
        bytes.count(partitions.len());
        partitions.iter().for_each(|partition| bytes.i32(*partition));
    }
    // No user data.
    bytes.i32(-1);
    bytes.finish()
}
