//! The image as keys and values for the store, an entity a key, so that a start does not read the metadata log.
//!
//! Keys: a byte for the kind, then what tells entities apart. Values: a byte for the version, then the body.
//!
//! | kind | key | value |
//! |---|---|---|
//! | 1 | | version u64, cluster id, next producer id i64 |
//! | 2 | node id i32 | node |
//! | 3 | peer id u64 | node id, directory id |
//! | 4 | topic id | topic: name, replicas, first peers, moves of each partition, settings |
//! | 5 | owner of settings | settings |
//! | 6 | feature name | level i16 |
//! | 7 | user, mechanism | SCRAM credential |
//! | 8 | | login secret |
//! | 9 | access control list | nothing more |

use std::sync::Arc;

use super::acls::{read_acl, write_acl};
use super::parts::{read_configs, write_configs};
use super::scram::{read_credential, read_scram_key, write_credential, write_scram_key};
use super::wire::{Reader, WireError, Writer};
use super::{Command, ConfigOwner, Image, Node, Peer, Topic};
use crate::security::{Acl, ScramCredential, ScramMechanism};
use crate::types::PartitionId;

const CLUSTER: u8 = 1;
const NODE: u8 = 2;
const PEER: u8 = 3;
const TOPIC: u8 = 4;
const CONFIGS: u8 = 5;
const FEATURE: u8 = 6;
const SCRAM: u8 = 7;
const LOGIN_SECRET: u8 = 8;
const ACL: u8 = 9;

/// The version in which a value is written. Of topics version 1 holds the peers of each partition, version 2 its moves.
fn newest_version(kind: u8) -> u8 {
    if kind == TOPIC { 2 } else { 0 }
}

/// A key and its new value; `None`: it is gone.
pub type StoredChange = (Vec<u8>, Option<Vec<u8>>);

/// Why stored metadata cannot be read. The node does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    #[error(
        "stored metadata holds kind {kind} in version {version}: this node is too old, run the version that wrote it"
    )]
    TooNew { kind: u8, version: u8 },
    #[error("stored metadata is damaged: {0}")]
    Damaged(#[from] WireError),
}

fn key(kind: u8, rest: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut to = Writer::default();
    to.u8(kind);
    rest(&mut to);
    to.0
}

fn value(kind: u8, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    key(newest_version(kind), body)
}

fn put<T: ?Sized>(kind: u8, entity: Option<&T>, write: impl FnOnce(&T, &mut Writer)) -> Option<Vec<u8>> {
    entity.map(|entity| value(kind, |to| write(entity, to)))
}

impl Image {
    /// What the store must change to hold this image, which `command` just led to.
    pub fn stored_changes(&self, command: &Command) -> Vec<StoredChange> {
        let mut changes = vec![self.stored_cluster()];
        changes.extend(match command {
            Command::FormCluster { .. } | Command::AllocateProducerIds { .. } => None,
            Command::RegisterNode(Node { id, .. }) | Command::RemoveNode { node: id } => {
                let entity = self.nodes.get(id).map(|node| &**node);
                Some((
                    key(NODE, |to| {
                        to.i32(id.0);
                    }),
                    put(NODE, entity, Node::write),
                ))
            }
            Command::AssignPeer(peer) => Some(stored_peer(peer)),
            Command::CreateTopic(Topic { id, .. })
            | Command::DeleteTopic { id }
            | Command::AddPartitions { id, .. }
            | Command::SetReplicas { id, .. }
            | Command::MoveReplicas { id: PartitionId { topic: id, .. }, .. }
            | Command::ChangeConfigs { owner: ConfigOwner::Topic(id), .. } => {
                let entity = self.topic(*id).map(|topic| &**topic);
                Some((
                    key(TOPIC, |to| {
                        to.uuid(id.0);
                    }),
                    put(TOPIC, entity, Topic::write),
                ))
            }
            Command::ChangeConfigs { owner, .. } => {
                let entity = self.configs.get(owner).map(|configs| &**configs);
                Some((key(CONFIGS, |to| owner.write(to)), put(CONFIGS, entity, write_configs)))
            }
            Command::SetFeature { name, .. } => Some(stored_feature(name, self.features.get(name))),
            Command::SetScram { user, mechanism, .. } => {
                Some(stored_scram(user, *mechanism, self.scram(user, *mechanism)))
            }
            Command::AddAcl(acl) | Command::RemoveAcl(acl) => Some(stored_acl(acl, self.acls.has(acl))),
            Command::SetLoginSecret { .. } => self.login_secret().map(stored_login_secret),
        });
        changes
    }

    /// All entities.
    pub fn stored(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let nodes = self.nodes.values().map(|node| {
            (
                key(NODE, |to| {
                    to.i32(node.id.0);
                }),
                put(NODE, Some(&**node), Node::write),
            )
        });
        let topics = self.topics().map(|topic| {
            (
                key(TOPIC, |to| {
                    to.uuid(topic.id.0);
                }),
                put(TOPIC, Some(&**topic), Topic::write),
            )
        });
        let configs = self.configs.iter().map(|(owner, configs)| {
            (key(CONFIGS, |to| owner.write(to)), put(CONFIGS, Some(&**configs), write_configs))
        });
        let features = self.features.iter().map(|(name, level)| stored_feature(name, Some(level)));
        let scram = self.scram.iter().flat_map(|(user, of_user)| {
            of_user.iter().map(|(mechanism, credential)| stored_scram(user, *mechanism, Some(credential)))
        });
        let acls = self.acls.patterns().flat_map(|(pattern, entries)| {
            entries.iter().map(move |entry| stored_acl(&Acl { pattern: pattern.clone(), entry: entry.clone() }, true))
        });
        let all = std::iter::once(self.stored_cluster())
            .chain(nodes)
            .chain(self.peers.values().map(stored_peer))
            .chain(topics)
            .chain(configs)
            .chain(features)
            .chain(scram)
            .chain(acls)
            .chain(self.login_secret().map(stored_login_secret));
        all.filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn stored_cluster(&self) -> StoredChange {
        let body = |to: &mut Writer| {
            to.u64(self.version).optional_text(self.cluster_id.as_deref()).i64(self.next_producer_id);
        };
        (key(CLUSTER, |_| ()), Some(value(CLUSTER, body)))
    }

    /// The image that was stored under these keys, in any order; the empty one when there are none.
    pub fn from_stored<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, StoredError> {
        let mut image = Self::default();
        for (key, value) in pairs {
            image.put_stored(key.as_ref(), value.as_ref())?;
        }
        Ok(image)
    }

    fn put_stored(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoredError> {
        let (mut key, mut body) = (Reader::new(key), Reader::new(value));
        let (kind, version) = (key.u8("kind")?, body.u8("version")?);
        if version > newest_version(kind) {
            return Err(StoredError::TooNew { kind, version });
        }
        let from = &mut body;
        match kind {
            CLUSTER => {
                self.version = from.u64("version")?;
                self.cluster_id = from.optional_text("cluster id")?.map(Into::into);
                self.next_producer_id = from.i64("producer id")?;
            }
            NODE => {
                let node = Node::read(from)?;
                Arc::make_mut(&mut self.nodes).insert(node.id, Arc::new(node));
            }
            PEER => {
                let peer = Peer::read(from)?;
                Arc::make_mut(&mut self.peers).insert(peer.id, peer);
            }
            TOPIC => self.put_topic(Topic::read(from, version)?),
            CONFIGS => {
                let configs = read_configs(from)?;
                Arc::make_mut(&mut self.configs).insert(ConfigOwner::read(&mut key)?, Arc::new(configs));
            }
            FEATURE => {
                let level = from.i16("level")?;
                Arc::make_mut(&mut self.features).insert(key.text("feature")?, level);
            }
            SCRAM => {
                let (user, mechanism) = read_scram_key(&mut key)?;
                let credential = read_credential(from)?;
                self.set_scram(&user, mechanism, Some(credential));
            }
            ACL => self.acls.insert(&read_acl(&mut key)?),
            LOGIN_SECRET => self.login_secret = Some(from.bytes("secret")?.into()),
            kind => return Err(StoredError::TooNew { kind, version }),
        }
        Ok(body.end()?)
    }
}

fn stored_peer(peer: &Peer) -> StoredChange {
    (
        key(PEER, |to| {
            to.u64(peer.id.0);
        }),
        put(PEER, Some(peer), Peer::write),
    )
}

fn stored_feature(name: &str, level: Option<&i16>) -> StoredChange {
    let body = |level: &i16, to: &mut Writer| {
        to.i16(*level);
    };
    (
        key(FEATURE, |to| {
            to.text(name);
        }),
        put(FEATURE, level, body),
    )
}

fn stored_scram(user: &str, mechanism: ScramMechanism, credential: Option<&ScramCredential>) -> StoredChange {
    (key(SCRAM, |to| write_scram_key(user, mechanism, to)), put(SCRAM, credential, write_credential))
}

fn stored_acl(acl: &Acl, is_there: bool) -> StoredChange {
    (key(ACL, |to| write_acl(acl, to)), is_there.then(|| value(ACL, |_| ())))
}

fn stored_login_secret(secret: &[u8]) -> StoredChange {
    let body = |to: &mut Writer| {
        to.bytes(secret);
    };
    (key(LOGIN_SECRET, |_| ()), Some(value(LOGIN_SECRET, body)))
}
