//! The first frame on a connection, and its answer: who is there, and whether the two may talk.
//!
//! Hello: lowest and highest protocol version u8, lane u8, node i32, directory id, boot id, the node that is meant i32
//! (-1: whoever is there), cluster id (length u8, bytes; none: not in a cluster yet).
//! Answer: code u8, version u8, node i32, directory id, boot id, words.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::types::{DirectoryId, NodeId};
use uuid::Uuid;

use super::Local;

/// The versions of the protocol that this node speaks.
pub(super) const VERSIONS: (u8, u8) = (1, 1);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Lane(super::Lane),
    /// Calls to an address, also between nodes that are not of one cluster yet.
    Visit,
}

impl Purpose {
    fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Lane(super::Lane::Heartbeat)),
            1 => Some(Self::Lane(super::Lane::Append)),
            2 => Some(Self::Lane(super::Lane::Bulk)),
            3 => Some(Self::Visit),
            _ => None,
        }
    }

    fn to_wire(self) -> u8 {
        match self {
            Self::Lane(super::Lane::Heartbeat) => 0,
            Self::Lane(super::Lane::Append) => 1,
            Self::Lane(super::Lane::Bulk) => 2,
            Self::Visit => 3,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub versions: (u8, u8),
    pub purpose: Purpose,
    pub from: Local,
    /// Who is thought to be at the address.
    pub to: Option<NodeId>,
    pub cluster_id: Option<String>,
}

impl Hello {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&[self.versions.0, self.versions.1, self.purpose.to_wire()]);
        self.from.encode(&mut out);
        out.put_i32(self.to.map_or(-1, |to| to.0));
        let cluster_id = self.cluster_id.as_deref().unwrap_or_default().as_bytes();
        let length = u8::try_from(cluster_id.len()).expect("cluster ids are short");
        out.put_u8(length);
        out.put_slice(cluster_id);
        out.freeze()
    }

    /// `None`: it is no hello. What comes after is a newer version's.
    pub fn decode(body: &mut Bytes) -> Option<Self> {
        let versions = (body.try_get_u8().ok()?, body.try_get_u8().ok()?);
        let purpose = Purpose::from_wire(body.try_get_u8().ok()?)?;
        let from = Local::decode(body)?;
        let to = body.try_get_i32().ok()?;
        let length = usize::from(body.try_get_u8().ok()?);
        let cluster_id = (body.len() >= length).then(|| body.split_to(length))?;
        let cluster_id = std::str::from_utf8(&cluster_id).ok()?;
        let cluster_id = (!cluster_id.is_empty()).then(|| cluster_id.to_owned());
        Some(Self { versions, purpose, from, to: (to >= 0).then_some(NodeId(to)), cluster_id })
    }
}

/// Why a node does not talk to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    OtherCluster,
    /// Two live nodes have the same number.
    SameNode,
    /// No protocol version is spoken by both.
    Version,
    /// One of the two is not in the cluster yet.
    NotFormed,
    /// At the address is another node than the one that is looked for.
    OtherNode,
    /// From a newer version.
    Unknown,
}

impl RefusalCode {
    fn from_wire(code: u8) -> Self {
        match code {
            1 => Self::OtherCluster,
            2 => Self::SameNode,
            3 => Self::Version,
            4 => Self::NotFormed,
            5 => Self::OtherNode,
            _ => Self::Unknown,
        }
    }

    fn to_wire(self) -> u8 {
        match self {
            Self::OtherCluster => 1,
            Self::SameNode => 2,
            Self::Version => 3,
            Self::NotFormed => 4,
            Self::OtherNode => 5,
            Self::Unknown => 255,
        }
    }
}

/// A hello that was refused, in the words of who refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    pub code: RefusalCode,
    pub words: String,
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HelloReply {
    pub refusal: Option<Refusal>,
    pub version: u8,
    pub from: Local,
}

impl HelloReply {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(self.refusal.as_ref().map_or(0, |refusal| refusal.code.to_wire()));
        out.put_u8(self.version);
        self.from.encode(&mut out);
        out.put_slice(self.refusal.as_ref().map_or(&[], |refusal| refusal.words.as_bytes()));
        out.freeze()
    }

    pub fn decode(body: &mut Bytes) -> Option<Self> {
        let (code, version) = (body.try_get_u8().ok()?, body.try_get_u8().ok()?);
        let from = Local::decode(body)?;
        let words = String::from_utf8_lossy(body).into_owned();
        let refusal = (code != 0).then(|| Refusal { code: RefusalCode::from_wire(code), words });
        Some(Self { refusal, version, from })
    }
}

impl Local {
    fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.node.0);
        out.put_slice(self.directory.0.as_bytes());
        out.put_slice(self.boot.as_bytes());
    }

    fn decode(body: &mut Bytes) -> Option<Self> {
        let node = NodeId(body.try_get_i32().ok().filter(|node| *node >= 0)?);
        let directory = DirectoryId(Uuid::from_u128(body.try_get_u128().ok()?));
        Some(Self { node, directory, boot: Uuid::from_u128(body.try_get_u128().ok()?) })
    }
}

/// What was agreed with a node that may talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub version: u8,
    /// Both are of one cluster: everything may be said.
    pub is_member: bool,
}

/// Whether a node may talk to us. `rival`: another process that lives and has its number.
pub(super) fn judge(hello: &Hello, us: &Local, cluster_id: Option<&str>, rival: bool) -> Result<Agreed, Refusal> {
    let refuse = |code, words: String| Err(Refusal { code, words });
    let (node, ours) = (hello.from.node, us.node);
    let version = hello.versions.1.min(VERSIONS.1);
    if version < hello.versions.0.max(VERSIONS.0) {
        let (theirs, own) = (hello.versions, VERSIONS);
        let words = format!(
            "node {ours} speaks versions {} to {} of the protocol between nodes, node {node} {} to {}",
            own.0, own.1, theirs.0, theirs.1
        );
        return refuse(RefusalCode::Version, words);
    }
    if hello.from.boot == us.boot {
        // A node that finds itself among the seeds.
        return Ok(Agreed { version, is_member: true });
    }
    let is_member = match (hello.cluster_id.as_deref(), cluster_id) {
        (Some(theirs), Some(own)) if theirs != own => {
            let words = format!("node {ours} is of cluster {own}, not of {theirs}");
            return refuse(RefusalCode::OtherCluster, words);
        }
        (Some(_), Some(_)) => true,
        _ => false,
    };
    if rival || node == ours {
        let words = format!("there is another node {node}, and it is running: every node needs a node.id of its own");
        return refuse(RefusalCode::SameNode, words);
    }
    if !is_member && hello.purpose != Purpose::Visit {
        let who = if cluster_id.is_none() { ours } else { node };
        return refuse(RefusalCode::NotFormed, format!("node {who} is not in a cluster yet"));
    }
    if let Some(meant) = hello.to.filter(|meant| *meant != ours) {
        return refuse(RefusalCode::OtherNode, format!("this is node {ours}, not node {meant}"));
    }
    Ok(Agreed { version, is_member })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::Lane;

    fn local(node: i32) -> Local {
        let id = Uuid::from_u128(u128::from(node.unsigned_abs()) + 100);
        Local { node: NodeId(node), directory: DirectoryId(id), boot: id }
    }

    fn hello(purpose: Purpose, cluster_id: Option<&str>) -> Hello {
        let cluster_id = cluster_id.map(str::to_owned);
        Hello { versions: VERSIONS, purpose, from: local(2), to: Some(NodeId(1)), cluster_id }
    }

    #[test]
    fn hellos_and_answers_come_out_as_they_went_in() {
        for purpose in [Purpose::Visit, Purpose::Lane(Lane::Heartbeat), Purpose::Lane(Lane::Append)] {
            let hello = hello(purpose, (purpose != Purpose::Visit).then_some("abc"));
            let wire = hello.encode();
            assert_eq!(Hello::decode(&mut wire.clone()), Some(hello));
            for cut in 0..wire.len() {
                assert_eq!(Hello::decode(&mut wire.slice(..cut)), None, "{cut}");
            }
        }
        let words = "no".to_owned();
        for refusal in [None, Some(Refusal { code: RefusalCode::SameNode, words })] {
            let reply = HelloReply { refusal, version: 1, from: local(7) };
            assert_eq!(HelloReply::decode(&mut reply.encode()), Some(reply));
        }
    }

    #[test]
    fn who_may_talk() {
        let code = |hello: &Hello, cluster: Option<&str>, rival| {
            judge(hello, &local(1), cluster, rival).map(|agreed| agreed.is_member).map_err(|refusal| refusal.code)
        };
        let lane = Purpose::Lane(Lane::Append);
        assert_eq!(code(&hello(lane, Some("a")), Some("a"), false), Ok(true));
        assert_eq!(code(&hello(lane, Some("a")), Some("b"), false), Err(RefusalCode::OtherCluster));
        assert_eq!(code(&hello(lane, Some("a")), None, false), Err(RefusalCode::NotFormed));
        assert_eq!(code(&hello(lane, None), Some("a"), false), Err(RefusalCode::NotFormed));
        assert_eq!(code(&hello(lane, Some("a")), Some("a"), true), Err(RefusalCode::SameNode));
        assert_eq!(code(&hello(Purpose::Visit, None), Some("a"), false), Ok(false));
        assert_eq!(code(&hello(Purpose::Visit, None), None, false), Ok(false));
        assert_eq!(code(&hello(Purpose::Visit, Some("a")), Some("b"), false), Err(RefusalCode::OtherCluster));

        let other = Hello { to: Some(NodeId(9)), ..hello(lane, Some("a")) };
        assert_eq!(code(&other, Some("a"), false), Err(RefusalCode::OtherNode));
        let twin = Hello { from: Local { boot: Uuid::nil(), ..local(1) }, ..hello(lane, Some("a")) };
        assert_eq!(code(&twin, Some("a"), false), Err(RefusalCode::SameNode));
        let own = Hello { from: local(1), ..hello(Purpose::Visit, None) };
        assert_eq!(code(&own, Some("a"), false), Ok(true));
        let newer = Hello { versions: (2, 3), ..hello(lane, Some("a")) };
        assert_eq!(code(&newer, Some("a"), false), Err(RefusalCode::Version));
    }
}
