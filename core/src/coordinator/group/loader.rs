//! A shard from what was stored of it.

use std::sync::Arc;

use super::config::GroupConfig;
use super::ids::GroupId;
use super::record::{CommittedOffset, DecodeError, GroupMetadata, KeyRef};
use super::shard::Shard;
use super::state::{ClassicGroup, Group};

/// Takes stored entries, the keys and values of records, in any order. Those of one group that come one after the
/// other, as a store gives them, cost one look-up: there may be millions.
#[derive(Debug)]
pub struct Loader {
    shard: Shard,
    /// The group that the last entry was of. It is not in the shard meanwhile.
    current: Option<(GroupId, Group)>,
}

impl Loader {
    pub fn new(config: Arc<GroupConfig>) -> Self {
        Self { shard: Shard::new(config), current: None }
    }

    /// Takes an entry in. Those of other kinds of group are passed over.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        match KeyRef::decode(key)? {
            KeyRef::Offset(key) => {
                let value = CommittedOffset::decode(value)?;
                self.group_mut(key.group)?.offsets.put(key.topic, key.partition, value)?;
            }
            KeyRef::Group(group) => {
                let value = GroupMetadata::decode(value)?;
                self.group_mut(group)?.classic = ClassicGroup::from_record(&value);
            }
            KeyRef::Consumer(key) => {
                if let Some(change) = key.change(Some(value))? {
                    self.group_mut(key.group)?.consumer.get_or_insert_default().replay(&change);
                }
            }
            KeyRef::Share(key) => {
                let change = key.change(Some(value))?;
                self.group_mut(key.group)?.share.get_or_insert_default().replay(&change);
            }
            KeyRef::Streams(key) => {
                let change = key.change(Some(value))?;
                self.group_mut(key.group)?.streams.get_or_insert_default().replay(&change);
            }
            KeyRef::Other => {}
        }
        Ok(())
    }

    /// `Command::Loaded` must follow.
    pub fn finish(mut self) -> Shard {
        self.put_back();
        self.shard
    }

    fn group_mut(&mut self, id: &str) -> Result<&mut Group, DecodeError> {
        if self.current.as_ref().is_none_or(|(current, _)| current.as_str() != id) {
            self.put_back();
            let known = self.shard.groups.remove_entry(id);
            self.current = match known {
                Some(known) => Some(known),
                None => Some((GroupId::new(id)?, Group::default())),
            };
        }
        let (_, group) = self.current.as_mut().expect("it was put there");
        Ok(group)
    }

    fn put_back(&mut self) {
        if let Some((id, group)) = self.current.take() {
            self.shard.groups.insert(id, group);
        }
    }
}
