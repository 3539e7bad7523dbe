//! What a node does next on its way into a cluster.

use std::collections::HashSet;

use super::{FOUNDERS_MAX, Founder, Seed, Standing};
use crate::types::{DirectoryId, NodeId, PeerId};

/// This node.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    pub node: NodeId,
    pub directory: DirectoryId,
    pub address: &'a str,
    pub standing: &'a Standing,
}

/// What came of asking a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This node is that seed.
    Itself,
    Silent,
    Seed(Seed),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make up an id for the cluster, and store it as accepted from itself.
    Begin,
    /// Ask these seeds, by their place in the list, to accept the id.
    Propose { cluster_id: String, to: Vec<usize> },
    /// Decide: store itself as member with these founders.
    Found { cluster_id: String, founders: Vec<Founder> },
    /// Store itself as the founder that it is.
    Take { cluster_id: String, peer: PeerId, founders: Vec<Founder> },
    /// Ask the members to be taken in.
    Join { cluster_id: String },
    /// Ask again later. The words say what is odd, if anything is beside seeds that do not answer.
    Wait(Option<String>),
}

/// Decides on the answers of the seeds, which are in the order of the list. `is_late`: seeds that have not answered by
/// now need not be waited for, once there is a majority.
pub fn next_step(own: Own<'_>, answers: &[Answer], is_late: bool) -> Step {
    let mut clusters: Vec<(&str, &[Founder])> = seeds(answers).filter_map(|(_, seed)| seed.standing.formed()).collect();
    clusters.dedup_by_key(|(id, _)| *id);
    match clusters.as_slice() {
        [] => {}
        [(cluster_id, founders)] => return enter(own, cluster_id, founders),
        [(one, _), (other, _), ..] => {
            return odd(format!("the seeds are of different clusters, {one} and {other}"));
        }
    }
    if !matches!(answers.first(), Some(Answer::Itself)) {
        return Step::Wait(None);
    }
    match own.standing {
        Standing::Empty => Step::Begin,
        Standing::Accepted { cluster_id, former } if *former == own.node => form(own, cluster_id, answers, is_late),
        Standing::Accepted { cluster_id, former } => odd(format!(
            "this node is first in seeds, but it has accepted cluster {cluster_id} of node {former}, which was first \
             before: if that node is gone for good, empty the data directory of this one"
        )),
        Standing::Outside { .. } | Standing::Member { .. } => Step::Wait(None),
    }
}

/// A cluster was found.
fn enter(own: Own<'_>, cluster_id: &str, founders: &[Founder]) -> Step {
    match own.standing {
        Standing::Accepted { cluster_id: accepted, .. } if accepted == cluster_id => {
            match founders.iter().find(|f| f.node == own.node && f.directory == own.directory) {
                Some(place) => {
                    Step::Take { cluster_id: cluster_id.to_owned(), peer: place.peer, founders: founders.to_vec() }
                }
                None => Step::Join { cluster_id: cluster_id.to_owned() },
            }
        }
        Standing::Outside { cluster_id: known, .. } if known != cluster_id => {
            odd(format!("the seeds are of cluster {cluster_id}, this data directory is of cluster {known}"))
        }
        _ => Step::Join { cluster_id: cluster_id.to_owned() },
    }
}

/// The former's part. Nobody who answers knows of a cluster.
fn form(own: Own<'_>, cluster_id: &str, answers: &[Answer], is_late: bool) -> Step {
    if let Some(words) = same_number(own.node, answers) {
        return odd(words);
    }
    let has_accepted = |seed: &Seed| is_accepted(&seed.standing, cluster_id);
    let may_accept = |seed: &Seed| accept(&seed.standing, seed.node, false, cluster_id, own.node).is_some();
    let to: Vec<usize> =
        seeds(answers).filter(|(_, seed)| !has_accepted(seed) && may_accept(seed)).map(|(at, _)| at).collect();
    if !to.is_empty() {
        return Step::Propose { cluster_id: cluster_id.to_owned(), to };
    }
    let others: Vec<&Seed> = seeds(answers).map(|(_, seed)| seed).filter(|seed| has_accepted(seed)).collect();
    let count = 1 + others.len();
    let size = size(answers);
    if count * 2 <= size || count < size && !is_late {
        let refuses = seeds(answers).find(|(_, seed)| !has_accepted(seed)).map(|(_, seed)| {
            format!(
                "node {} at {} waits for another cluster to be formed: seeds must be the same list on every node",
                seed.node, seed.address
            )
        });
        return Step::Wait(refuses);
    }
    let itself = Seed {
        node: own.node,
        directory: own.directory,
        address: own.address.to_owned(),
        standing: own.standing.clone(),
    };
    let founders = std::iter::once(&itself).chain(others).take(founder_count(count)).zip(1..);
    let founders = founders.map(|(seed, peer)| Founder {
        peer: PeerId(peer),
        node: seed.node,
        directory: seed.directory,
        address: seed.address.clone(),
    });
    Step::Found { cluster_id: cluster_id.to_owned(), founders: founders.collect() }
}

/// Whether enough seeds have accepted the id that this node proposes: from then on the others are not waited for long.
pub fn has_majority(own: Own<'_>, answers: &[Answer]) -> bool {
    let Standing::Accepted { cluster_id, .. } = own.standing else { return false };
    let accepted = seeds(answers).filter(|(_, seed)| is_accepted(&seed.standing, cluster_id)).count();
    (1 + accepted) * 2 > size(answers)
}

/// Whether a node takes a proposal: what it stores then. `is_first`: it is the first of its own seeds.
pub fn accept(own: &Standing, node: NodeId, is_first: bool, cluster_id: &str, former: NodeId) -> Option<Standing> {
    let accepted = || Some(Standing::Accepted { cluster_id: cluster_id.to_owned(), former });
    match own {
        Standing::Empty => accepted(),
        // The same node on a new disk has forgotten what it proposed before.
        Standing::Accepted { former: known, .. } if *known == former => accepted(),
        // Its own proposal, which it has not decided on, and which is no longer its to decide.
        Standing::Accepted { former: known, .. } if *known == node && !is_first => accepted(),
        _ => None,
    }
}

fn is_accepted(standing: &Standing, id: &str) -> bool {
    matches!(standing, Standing::Accepted { cluster_id, .. } if cluster_id == id)
}

/// Few and odd: an even number of voters survives no more failures than one less.
fn founder_count(accepted: usize) -> usize {
    match accepted.min(FOUNDERS_MAX) {
        even if even > 2 && even.is_multiple_of(2) => even - 1,
        count => count,
    }
}

/// Those that answered with their places, each disk once.
fn seeds(answers: &[Answer]) -> impl Iterator<Item = (usize, &Seed)> {
    let mut met = HashSet::new();
    answers.iter().enumerate().filter_map(move |(at, answer)| match answer {
        Answer::Seed(seed) if met.insert(seed.directory) => Some((at, seed)),
        _ => None,
    })
}

/// How many seeds there are: places in the list that are known to lead to the same node count once.
fn size(answers: &[Answer]) -> usize {
    let silent = answers.iter().filter(|answer| matches!(answer, Answer::Silent)).count();
    let itself = usize::from(answers.contains(&Answer::Itself));
    itself + silent + seeds(answers).count()
}

fn same_number(own: NodeId, answers: &[Answer]) -> Option<String> {
    let mut met = HashSet::from([own]);
    let twice = seeds(answers).find(|(_, seed)| !met.insert(seed.node))?.1;
    Some(format!(
        "there are two nodes {}, one of them at {}: every node needs a node.id of its own",
        twice.node, twice.address
    ))
}

fn odd(words: String) -> Step {
    Step::Wait(Some(words))
}
