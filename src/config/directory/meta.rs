//! `meta.properties`: whose directory this is, and where its node stands.
//!
//! `version`, `millstream.format`, `node.id`, `directory.id`: always. `cluster.id`: once it is known. With
//! `cluster.former` (a node id) it is only accepted; with `peer.id` this disk is that peer of the cluster; with neither
//! the cluster has yet to take the disk in. `founders`: `PEER@NODE@DIRECTORY@HOST:PORT`, with commas between.
//! `cluster.contacts`: where other nodes of the cluster were seen last.
//!
//! Before nodes could be of one cluster, `cluster.id` stood alone: such a node is its cluster's first peer and only
//! founder.

use millstream_core::forming::{Founder, Standing};
use millstream_core::types::{DirectoryId, NodeId, PeerId};

use super::id::{base64, from_base64};
use crate::config::properties::{self, Property};

/// What marks the file as ours: Kafka's own has the same keys otherwise.
const FORMAT_KEY: &str = "millstream.format";
/// The one layout of the directory so far.
const FORMAT: &str = "1";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub node: NodeId,
    pub directory: DirectoryId,
    pub standing: Standing,
    /// `HOST:PORT` of other nodes.
    pub contacts: Vec<String>,
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MetaError {
    Foreign(String),
    Damaged(String),
    OtherNode(String),
}

impl Meta {
    pub fn to_text(&self) -> String {
        let mut lines = vec!["version=1".to_owned(), format!("{FORMAT_KEY}={FORMAT}")];
        let mut put = |key: &str, value: &str| lines.push(format!("{key}={value}"));
        put("node.id", &self.node.to_string());
        put("directory.id", &base64(self.directory.0));
        match &self.standing {
            Standing::Empty => {}
            Standing::Accepted { cluster_id, former } => {
                put("cluster.id", cluster_id);
                put("cluster.former", &former.to_string());
            }
            Standing::Outside { cluster_id, founders } => {
                put("cluster.id", cluster_id);
                put("founders", &founders_to_text(founders));
            }
            Standing::Member { cluster_id, peer, founders } => {
                put("cluster.id", cluster_id);
                put("peer.id", &peer.to_string());
                put("founders", &founders_to_text(founders));
            }
        }
        if !self.contacts.is_empty() {
            put("cluster.contacts", &self.contacts.join(","));
        }
        lines.join("\n") + "\n"
    }

    /// `None`: it is not such a text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::read(text).ok()
    }

    /// The file of `node`.
    pub(super) fn of_node(text: &str, node: NodeId) -> Result<Self, MetaError> {
        let meta = Self::read(text)?;
        match meta.node == node {
            true => Ok(meta),
            false => Err(MetaError::OtherNode(meta.node.to_string())),
        }
    }

    fn read(text: &str) -> Result<Self, MetaError> {
        let properties = properties::parse(text).map_err(|e| MetaError::Damaged(e.to_string()))?;
        let value = |key: &str| find(&properties, key);
        match value(FORMAT_KEY) {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(MetaError::Foreign(format!("has {FORMAT_KEY}={other}; this version reads {FORMAT}")));
            }
            None => return Err(MetaError::Foreign(format!("has no {FORMAT_KEY}"))),
        }
        let node = number::<i32>(&properties, "node.id")?.ok_or_else(|| missing("node.id"))?;
        let directory = value("directory.id").ok_or_else(|| missing("directory.id"))?;
        let directory = DirectoryId(from_base64(directory).ok_or_else(|| bad("directory.id", directory))?);
        let contacts = value("cluster.contacts").map(list).unwrap_or_default();
        let node = NodeId(node);
        Ok(Self { node, directory, standing: standing(&properties, node, directory)?, contacts })
    }
}

fn standing(properties: &[Property], node: NodeId, directory: DirectoryId) -> Result<Standing, MetaError> {
    let Some(cluster_id) = find(properties, "cluster.id").map(str::to_owned) else { return Ok(Standing::Empty) };
    if let Some(former) = number(properties, "cluster.former")? {
        return Ok(Standing::Accepted { cluster_id, former: NodeId(former) });
    }
    let Some(text) = find(properties, "founders") else {
        let peer = PeerId(1);
        let founders = vec![Founder { peer, node, directory, address: String::new() }];
        return Ok(Standing::Member { cluster_id, peer, founders });
    };
    let founders: Option<Vec<Founder>> = list(text).iter().map(|founder| founder_of_text(founder)).collect();
    let founders = founders.ok_or_else(|| bad("founders", text))?;
    Ok(match number(properties, "peer.id")? {
        Some(peer) => Standing::Member { cluster_id, peer: PeerId(peer), founders },
        None => Standing::Outside { cluster_id, founders },
    })
}

fn founders_to_text(founders: &[Founder]) -> String {
    let text = |f: &Founder| format!("{}@{}@{}@{}", f.peer, f.node, base64(f.directory.0), f.address);
    founders.iter().map(text).collect::<Vec<_>>().join(",")
}

fn founder_of_text(text: &str) -> Option<Founder> {
    let mut parts = text.splitn(4, '@');
    let peer = PeerId(parts.next()?.parse().ok().filter(|peer| *peer > 0)?);
    let node = NodeId(parts.next()?.parse().ok()?);
    let directory = DirectoryId(from_base64(parts.next()?)?);
    Some(Founder { peer, node, directory, address: parts.next()?.to_owned() })
}

fn find<'a>(properties: &'a [Property], key: &str) -> Option<&'a str> {
    properties.iter().rev().find(|p| p.key == key).map(|p| p.value.as_str())
}

fn number<T: std::str::FromStr>(properties: &[Property], key: &str) -> Result<Option<T>, MetaError> {
    find(properties, key).map(|text| text.parse().map_err(|_| bad(key, text))).transpose()
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn missing(key: &str) -> MetaError {
    MetaError::Damaged(format!("has no {key}"))
}

fn bad(key: &str, value: &str) -> MetaError {
    MetaError::Damaged(format!("has {key}={value}, which it cannot be"))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let founder = |peer: u64, address: &str| Founder {
            peer: PeerId(peer),
            node: NodeId(i32::try_from(peer).unwrap() - 1),
            directory: DirectoryId(Uuid::from_u128(u128::from(peer) << 77)),
            address: address.to_owned(),
        };
        let founders = vec![founder(1, "a.example.com:1"), founder(2, "[::1]:2"), founder(3, "")];
        let cluster_id = "AAAAAAAAAAAAAAAAAAAAAQ".to_owned();
        for standing in [
            Standing::Empty,
            Standing::Accepted { cluster_id: cluster_id.clone(), former: NodeId(0) },
            Standing::Outside { cluster_id: cluster_id.clone(), founders: founders.clone() },
            Standing::Member { cluster_id: cluster_id.clone(), peer: PeerId(9), founders },
        ] {
            for contacts in [vec![], vec!["b:1".to_owned(), "[::1]:2".to_owned()]] {
                let directory = DirectoryId(Uuid::from_u128(5));
                let meta = Meta { node: NodeId(3), directory, standing: standing.clone(), contacts };
                assert_eq!(Meta::of_node(&meta.to_text(), NodeId(3)), Ok(meta.clone()), "{}", meta.to_text());
                assert_eq!(Meta::of_node(&meta.to_text(), NodeId(4)), Err(MetaError::OtherNode("3".into())));
            }
        }
    }

    #[test]
    fn a_file_from_before_clusters_is_that_of_a_cluster_of_one() {
        let text = "version=1\nmillstream.format=1\ncluster.id=c\nnode.id=7\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
        let directory = DirectoryId(Uuid::from_u128(1));
        let founders = vec![Founder { peer: PeerId(1), node: NodeId(7), directory, address: String::new() }];
        let standing = Standing::Member { cluster_id: "c".into(), peer: PeerId(1), founders };
        let meta = Meta::of_node(text, NodeId(7)).unwrap();
        assert_eq!(meta, Meta { node: NodeId(7), directory, standing, contacts: vec![] });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let text = "version=1\nmillstream.format=1\nnode.id=7\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
        assert!(Meta::from_text(text).is_some());
        for (from, to) in [("format=1", "format=2"), ("node.id=7", "node.id=x"), ("directory.id=A", "directory.id=")] {
            assert_eq!(Meta::from_text(&text.replace(from, to)), None, "{to}");
        }
        for more in ["founders=1@2", "founders=0@2@AAAAAAAAAAAAAAAAAAAAAQ@a:1", "cluster.former=x"] {
            assert_eq!(Meta::from_text(&format!("{text}cluster.id=c\n{more}\n")), None, "{more}");
        }
    }
}
