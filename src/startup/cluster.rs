//! This node's place among others: the port between nodes, forming a cluster or joining one, and being known in it.
//!
//! What is decided, and why nothing is formed twice whatever crashes, is `millstream_core::forming`'s; here the seeds
//! are asked, and what was decided is stored in `meta.properties`.

mod follow;
mod form;
mod register;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use millstream_core::controller::{Endpoint, FEATURES, FeatureRange, Node, Peer};
use millstream_core::forming::{Answer, Own, Standing, Step, has_majority, next_step};
use millstream_core::types::{NodeId, PeerId};
use tracing::{info, warn};
use uuid::Uuid;

use self::form::Asked;
use crate::config::{Config, DataDirectory, FirstUsers, HostPort, Listener, Meta, RpcSettings, base64};
use crate::controller::{Controller, Founding};
use crate::rpc::{self, Local, Rpc, RpcConfig};

/// Between rounds of questions.
const ROUND_EVERY: Duration = Duration::from_millis(100);
/// Between questions to the seeds of a node that has its place, but reaches nobody.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(1);
/// How long seeds that do not answer are waited for once a majority has accepted.
const LATE_AFTER: Duration = Duration::from_secs(3);
/// How long another node with this one's number must be there: one that was just killed is forgotten sooner.
const TWIN_AFTER: Duration = Duration::from_secs(3);
/// A start that waits says so after this, then at this interval.
const FIRST_WARNING: Duration = Duration::from_secs(3);
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Why a node finds no place. One line on stderr.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("rpc.listener: cannot listen on {address}: {error}")]
    Bind { address: HostPort, error: io::Error },
    #[error("node.id={node}: {words}")]
    SameNode { node: NodeId, words: String },
    #[error("data directory: {0}")]
    Directory(#[source] io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The node among the others.
#[derive(Clone)]
pub(super) struct Cluster {
    directory: Arc<DataDirectory>,
    links: Option<Links>,
}

/// The way to the others.
#[derive(Clone)]
struct Links {
    rpc: Arc<Rpc>,
    seeds: Vec<HostPort>,
    /// Where the others reach this node, and where it listens.
    own: [HostPort; 2],
}

impl Cluster {
    /// Takes the port between nodes, where there is to be one, and answers there who this node is.
    pub fn open(settings: Option<&RpcSettings>, directory: Arc<DataDirectory>) -> Result<Self, ClusterError> {
        let Some(settings) = settings else { return Ok(Self { directory, links: None }) };
        let address = &settings.listener;
        let bound = rpc::bind(address).map_err(|error| ClusterError::Bind { address: address.clone(), error })?;
        let port = bound.address.port();
        let [advertised, listener] = [&settings.advertised, address].map(|own| match own.port {
            0 => HostPort { port, ..own.clone() },
            _ => own.clone(),
        });
        let local = Local { node: directory.node_id(), directory: directory.directory_id(), boot: Uuid::new_v4() };
        let rpc = Rpc::start(bound, local, RpcConfig::default())?;
        let own = [advertised, listener];
        let is_first = settings.seeds.first().is_none_or(|first| own.contains(first));
        form::answer_others(&rpc, &directory, own[0].clone(), is_first);
        let links = Links { rpc, seeds: settings.seeds.clone(), own };
        Ok(Self { directory, links: Some(links) })
    }

    pub fn rpc(&self) -> Option<&Arc<Rpc>> {
        self.links.as_ref().map(|links| &links.rpc)
    }

    /// Which nodes live, as far as this one can tell.
    pub fn alive(&self) -> Arc<dyn Fn(NodeId) -> bool + Send + Sync> {
        let own = self.directory.node_id();
        match self.rpc().cloned() {
            Some(rpc) => Arc::new(move |node| rpc.is_alive(node)),
            None => Arc::new(move |node| node == own),
        }
    }

    /// For how long a node has not been heard of, where it ever was.
    pub fn silent_for(&self) -> Arc<dyn Fn(NodeId) -> Option<Duration> + Send + Sync> {
        let rpc = self.rpc().cloned();
        Arc::new(move |node| rpc.as_ref().and_then(|rpc| rpc.boot_id(node).map(|_| rpc.silent_for(node))))
    }

    /// What this node tells the cluster of itself.
    pub fn registration(&self, config: &Config, listeners: &[Arc<Listener>]) -> Node {
        let endpoint = |listener: &Arc<Listener>| Endpoint {
            listener: listener.name.clone(),
            host: listener.advertised.host.clone(),
            port: listener.advertised.port,
            protocol: listener.protocol.number(),
        };
        let features =
            FEATURES.iter().map(|f| FeatureRange { name: f.name.to_owned(), min: f.min, max: f.max }).collect();
        Node {
            id: config.broker.node_id(),
            directory: self.directory.directory_id(),
            rack: config.broker.text("broker.rack").map(str::to_owned),
            endpoints: listeners.iter().map(endpoint).collect(),
            rpc_address: self.own_address(),
            features,
        }
    }

    fn own_address(&self) -> String {
        self.links.as_ref().map(|links| links.own[0].to_string()).unwrap_or_default()
    }

    /// Returns when the disk is a peer of a cluster: formed, joined, or known from before. Then tells the others of
    /// the cluster from strangers, and connects to those that it began with.
    pub async fn find_place(&self, registration: &Node) -> Result<(PeerId, Founding), ClusterError> {
        let mut search = Search::new();
        loop {
            if let Standing::Member { cluster_id, peer, founders } = self.directory.standing() {
                if let Some(links) = &self.links {
                    links.rpc.set_cluster(&cluster_id);
                    let address = |address: &str| HostPort::parse(address);
                    let nodes = founders.iter().filter_map(|f| Some((f.node, address(&f.address)?)));
                    links.rpc.set_nodes(nodes.collect::<HashMap<_, _>>());
                }
                let founders =
                    founders.iter().map(|f| Peer { id: f.peer, node: f.node, directory: f.directory }).collect();
                return Ok((peer, Founding { cluster_id, founders, users: FirstUsers::default() }));
            }
            if !self.round(&mut search, registration).await? {
                tokio::time::sleep(ROUND_EVERY).await;
            }
        }
    }

    /// Asks everybody and does what follows. True: something changed, the next round may follow at once.
    async fn round(&self, search: &mut Search, registration: &Node) -> Result<bool, ClusterError> {
        let asked = self.ask_seeds().await;
        search.look_for_twins(self.directory.node_id(), &asked)?;
        let answers: Vec<Answer> = asked.iter().map(|asked| asked.answer.clone()).collect();
        let meta = self.directory.meta();
        let address = self.own_address();
        let own = Own { node: meta.node, directory: meta.directory, address: &address, standing: &meta.standing };
        let is_late = search.is_late(has_majority(own, &answers));
        let changed = match next_step(own, &answers, is_late) {
            Step::Begin => {
                let cluster_id = base64(Uuid::new_v4());
                let former = meta.node;
                self.store(Standing::Empty, Standing::Accepted { cluster_id, former }).await?
            }
            Step::Propose { cluster_id, to } => self.propose(&cluster_id, &to, &asked).await,
            Step::Found { cluster_id, founders } => {
                let peer = founders[0].peer;
                info!(cluster_id, founders = founders.len(), "forming a cluster");
                self.store(meta.standing, Standing::Member { cluster_id, peer, founders }).await?
            }
            Step::Take { cluster_id, peer, founders } => {
                info!(cluster_id, %peer, "a founder of the cluster");
                self.store(meta.standing, Standing::Member { cluster_id, peer, founders }).await?
            }
            Step::Join { cluster_id } => self.join(search, &cluster_id, &asked, registration).await?,
            Step::Wait(words) => {
                search.odd = words;
                false
            }
        };
        search.warn_if_due(&asked);
        Ok(changed)
    }

    /// What every seed says, in the order of the list. Where this disk is new, others that were seen before are asked,
    /// too.
    async fn ask_seeds(&self) -> Vec<Asked> {
        let Some(links) = &self.links else { return vec![Asked::itself(HostPort::default())] };
        let meta = self.directory.meta();
        let mut addresses = links.seeds.clone();
        if let Standing::Outside { founders, .. } = &meta.standing {
            let more = founders.iter().map(|f| &f.address).chain(&meta.contacts);
            let more: Vec<HostPort> = more.filter_map(|address| HostPort::parse(address)).collect();
            for address in more {
                if !addresses.contains(&address) && !links.own.contains(&address) {
                    addresses.push(address);
                }
            }
        } else if addresses.is_empty() {
            return vec![Asked::itself(links.own[0].clone())];
        }
        let asking = addresses.into_iter().map(|address| {
            let (rpc, is_own) = (Arc::clone(&links.rpc), links.own.contains(&address));
            tokio::spawn(async move {
                match is_own {
                    true => Asked::itself(address),
                    false => form::ask(&rpc, address, meta.directory).await,
                }
            })
        });
        let mut asked = Vec::new();
        for answer in asking.collect::<Vec<_>>() {
            asked.push(answer.await.expect("asking does not panic"));
        }
        asked
    }

    async fn propose(&self, cluster_id: &str, to: &[usize], asked: &[Asked]) -> bool {
        let Some(links) = &self.links else { return false };
        let mut is_accepted = false;
        for asked in to.iter().filter_map(|at| asked.get(*at)) {
            let proposed = form::propose(&links.rpc, &asked.address, cluster_id, self.directory.node_id()).await;
            match proposed {
                Ok(()) => is_accepted = true,
                Err(e) => warn!(seed = %asked.address, error = %e, "a seed did not accept the new cluster"),
            }
        }
        is_accepted
    }

    async fn join(
        &self,
        search: &mut Search,
        cluster_id: &str,
        asked: &[Asked],
        registration: &Node,
    ) -> Result<bool, ClusterError> {
        let Some(links) = &self.links else { return Ok(false) };
        let members = asked.iter().filter(|asked| asked.is_formed()).map(|asked| asked.address.clone()).collect();
        match register::ask_in(&links.rpc, members, cluster_id, registration).await {
            Ok(taken) => {
                let before = self.directory.standing();
                info!(cluster_id, peer = %taken.peer, "joined a cluster");
                let (cluster_id, peer, founders) = (cluster_id.to_owned(), taken.peer, taken.founders);
                self.store(before, Standing::Member { cluster_id, peer, founders }).await
            }
            Err(e) => {
                search.look_for_twin(registration.id, &e)?;
                search.odd = Some(format!("cluster {cluster_id} has not taken this node in yet: {e}"));
                Ok(false)
            }
        }
    }

    /// Stores where the node stands now, unless it stands elsewhere than was thought. Says whether it did.
    async fn store(&self, before: Standing, now: Standing) -> Result<bool, ClusterError> {
        let directory = Arc::clone(&self.directory);
        let stored = tokio::task::spawn_blocking(move || {
            directory.change(|meta| (meta.standing == before).then(|| Meta { standing: now, ..meta.clone() }))
        });
        stored.await.expect("writing does not panic").map_err(ClusterError::Directory)
    }

    /// Serves those who want to join, makes this node known, and keeps up connections to all nodes. Returns when the
    /// cluster knows this node as it is now, and this node knows that.
    pub async fn settle(&self, controller: &Arc<Controller>, registration: Node) {
        if let Some(links) = &self.links {
            register::answer_others(&links.rpc, &self.directory, controller);
            follow::start(&links.rpc, &self.directory, controller);
        }
        tokio::spawn(self.clone().look_around(Arc::downgrade(controller)));
        register::make_known(self.rpc(), controller, registration).await;
    }

    /// While a node is not reached where the metadata of this disk has it: the seeds may know where it is now. That goes on
    /// when this node is known: others may move later, and without a way to them nobody would ever tell it where.
    async fn look_around(self, controller: Weak<Controller>) {
        let Some(links) = self.links.as_ref().filter(|links| !links.seeds.is_empty()) else { return };
        loop {
            tokio::time::sleep(LOOK_AROUND_EVERY).await;
            let Some(controller) = controller.upgrade() else { return };
            let mut nodes = follow::nodes(&controller, &self.directory);
            if nodes.keys().all(|node| links.rpc.is_connected(*node)) {
                continue;
            }
            let cluster_id = links.rpc.cluster_id();
            for asked in self.ask_seeds().await {
                let Answer::Seed(seed) = asked.answer else { continue };
                let is_ours = seed.standing.formed().map(|(id, _)| id) == cluster_id.as_deref();
                if is_ours && let Some(address) = HostPort::parse(&seed.address) {
                    nodes.insert(seed.node, address);
                }
            }
            links.rpc.set_nodes(nodes);
        }
    }

    pub fn stop(&self) {
        if let Some(links) = &self.links {
            links.rpc.stop();
        }
    }
}

/// What is remembered from round to round.
struct Search {
    started: Instant,
    majority_since: Option<Instant>,
    twin_since: Option<Instant>,
    warned: Option<Instant>,
    odd: Option<String>,
}

impl Search {
    fn new() -> Self {
        Self { started: Instant::now(), majority_since: None, twin_since: None, warned: None, odd: None }
    }

    fn is_late(&mut self, has_majority: bool) -> bool {
        match has_majority {
            true => self.majority_since.get_or_insert_with(Instant::now).elapsed() >= LATE_AFTER,
            false => {
                self.majority_since = None;
                false
            }
        }
    }

    /// An error when another live node has had this one's number for a while.
    fn look_for_twins(&mut self, node: NodeId, asked: &[Asked]) -> Result<(), ClusterError> {
        self.odd = None;
        let refused = asked.iter().filter_map(|asked| asked.error.as_ref()).find(|e| register::is_twin(e));
        match refused {
            Some(e) => self.look_for_twin(node, e),
            None => {
                self.twin_since = None;
                Ok(())
            }
        }
    }

    fn look_for_twin(&mut self, node: NodeId, error: &rpc::CallError) -> Result<(), ClusterError> {
        if register::is_twin(error) && self.twin_since.get_or_insert_with(Instant::now).elapsed() >= TWIN_AFTER {
            return Err(ClusterError::SameNode { node, words: error.to_string() });
        }
        Ok(())
    }

    fn warn_if_due(&mut self, asked: &[Asked]) {
        let is_due = match self.warned {
            None => self.started.elapsed() >= FIRST_WARNING,
            Some(last) => last.elapsed() >= WARN_EVERY,
        };
        if !is_due {
            return;
        }
        self.warned = Some(Instant::now());
        let silent: Vec<String> =
            asked.iter().filter_map(|asked| asked.error.as_ref().map(|e| format!("{} ({e})", asked.address))).collect();
        let silent = if silent.is_empty() { "none".to_owned() } else { silent.join(", ") };
        let odd = self.odd.as_deref().unwrap_or("start the other nodes, or correct seeds");
        warn!(seeds_without_answer = silent, hint = odd, "waiting for the cluster");
    }
}
