//! How a cluster comes into being, once, and how a node finds its place in one.
//!
//! Each node has a list of seeds, the same on all of them. The node that is first in the list, the *former*, forms the
//! cluster: it makes up an id, asks the other seeds to accept it, and when a majority of the list has (itself counted),
//! it decides who the founders are: the voters that the log of the metadata is born with. Everybody else asks the seeds
//! until one of them knows of a cluster, and then takes its place as a founder or asks to be taken in.
//!
//! What is stored, always before it is said (`Standing`), and what follows after a crash at any point:
//!
//! - The former stores its id as accepted by itself before it proposes it, and goes on with the same id after a restart.
//! - A seed stores what it accepts before it answers. From then on it accepts another id from the same former only: a
//!   former whose disk was wiped has forgotten the id and makes up another. The first id can then have no life without
//!   the seed: it is not among the voters that act, for it became no member.
//! - The decision is the one write with which the former becomes a member: before it there is no cluster, and after it
//!   there is, with these founders and no others. Nobody has to be told: the seeds keep asking. One that was counted and
//!   is among the founders takes its place; one that accepted too late finds itself missing and asks to be taken in.
//! - Who finds a cluster among the seeds never forms one, whatever it has accepted: a former with a new disk joins the
//!   cluster that it formed. Hence a majority: any two of them have a seed in common.
//! - A node with data is a member and asks nobody. One whose disk is new but which knows its cluster (`Outside`) waits
//!   until it is taken in, and never forms.

mod step;

#[cfg(test)]
mod tests;

pub use step::{Answer, Own, Step, accept, has_majority, next_step};

use crate::types::{DirectoryId, NodeId, PeerId};

/// Voters of the metadata at the birth of a cluster, at most.
pub const FOUNDERS_MAX: usize = 5;

/// A node that the cluster began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    pub peer: PeerId,
    pub node: NodeId,
    pub directory: DirectoryId,
    /// Where the other nodes reached it then; empty in a cluster of one that nobody can reach.
    pub address: String,
}

/// Where a node stands, as its disk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It knows of no cluster.
    Empty,
    /// It takes this for the id of the cluster to come, at the word of this node, which may be itself.
    Accepted { cluster_id: String, former: NodeId },
    /// Of this cluster, but on a disk that the cluster has not seen.
    Outside { cluster_id: String, founders: Vec<Founder> },
    /// Its disk is this peer of the cluster.
    Member { cluster_id: String, peer: PeerId, founders: Vec<Founder> },
}

impl Standing {
    /// Of a cluster that exists.
    pub fn formed(&self) -> Option<(&str, &[Founder])> {
        match self {
            Self::Empty | Self::Accepted { .. } => None,
            Self::Outside { cluster_id, founders } | Self::Member { cluster_id, founders, .. } => {
                Some((cluster_id, founders))
            }
        }
    }

    pub fn is_member(&self) -> bool {
        matches!(self, Self::Member { .. })
    }
}

/// What a seed says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    pub node: NodeId,
    pub directory: DirectoryId,
    /// Where the other nodes reach it.
    pub address: String,
    pub standing: Standing,
}
