//! The rooms behind the APIs: store, partitions, coordinators, controller, each built on those before it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use millstream_core::controller::{Endpoint, FEATURES, FeatureRange, Node, register_node};
use millstream_core::coordinator::group::GroupConfig;
use millstream_core::types::{DirectoryId, PeerId};
use tokio::sync::watch;

use super::{chores, group_topic};
use crate::config::{Config, DataDirectory, Listener};
use crate::controller::{self, Controller, ControllerError, Founding, LoadError};
use crate::coordinator::Groups;
use crate::log::{DataDir, FlushConfig, FlushMethod, give_up_ballast};
use crate::partition::{CleanerConfig, Identity, Partitions, PartitionsConfig};
use crate::store::{Store, StoreError};

/// The peer id of the node that forms a cluster alone.
const FIRST_PEER: PeerId = PeerId(1);

/// Why the rooms cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum RoomsError {
    #[error("data directory {path}: kv/ belongs to another directory: put back the one that goes with meta.properties")]
    OtherStore { path: String },
    #[error("data directory: {0}")]
    Io(#[from] io::Error),
    #[error("data directory: {0}")]
    Store(#[from] StoreError),
    #[error("data directory: {0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Controller(#[from] ControllerError),
}

pub(super) struct Rooms {
    pub partitions: Arc<Partitions>,
    pub groups: Arc<Groups>,
    pub controller: Arc<Controller>,
    /// How the cleaner works.
    pub cleaner: watch::Sender<CleanerConfig>,
}

impl Rooms {
    /// Opens what the data directory holds; at its first start forms the cluster. Every partition leads when this
    /// returns, or is offline.
    pub async fn open(
        config: &Config,
        directory: &DataDirectory,
        listeners: &[Arc<Listener>],
    ) -> Result<Self, RoomsError> {
        let broker = &config.broker;
        let store = Arc::new(open_store(directory)?);
        let dir = DataDir::open(directory.path(), flush_config(broker))?;
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let partitions_config = PartitionsConfig {
            shards,
            producer_id_expiration_ms: broker.integer("producer.id.expiration.ms"),
            replica_lag_max: Duration::from_millis(
                u64::try_from(broker.integer("replica.lag.time.max.ms")).unwrap_or(0),
            ),
        };
        let identity = Identity { peer: FIRST_PEER, node: broker.node_id() };
        let partitions = Partitions::start(dir, store.clone(), identity, None, partitions_config);
        let groups = Groups::new(partitions.clone(), store.clone(), GroupConfig::of(broker));
        let founder = millstream_core::controller::Peer {
            id: FIRST_PEER,
            node: broker.node_id(),
            directory: DirectoryId(directory.directory_id()),
        };
        let founding = Founding { cluster_id: directory.cluster_id().to_owned(), founders: vec![founder] };
        let controller = controller::start(controller::Start {
            partitions: partitions.clone(),
            store,
            settings: broker.clone(),
            founding,
            rpc: None,
        })
        .await?;
        register(&controller, config, directory, listeners).await?;
        group_topic::follow(&controller, &groups);
        chores::start(&partitions, broker);
        let (cleaner, _) = watch::channel(CleanerConfig::of(&controller.published().settings));
        if broker.boolean("log.cleaner.enable") {
            partitions.start_cleaner(cleaner.subscribe());
        }
        Ok(Self { partitions, groups, controller, cleaner })
    }

    /// Ends the coordinators, then the partitions that they write to, once what is in flight is committed and saved.
    pub async fn stop(&self) {
        self.groups.stop().await;
        self.partitions.stop().await;
    }
}

fn open_store(directory: &DataDirectory) -> Result<Store, RoomsError> {
    let path: &Path = directory.path();
    let kv = path.join("kv");
    let store = match Store::open(&kv) {
        // What the ballast is for: RocksDB writes a file when it is opened after a crash.
        Err(StoreError::NoSpace(_)) if give_up_ballast(path)? => Store::open(&kv)?,
        opened => opened?,
    };
    match store.directory_id()? {
        Some(id) if id == directory.directory_id() => {}
        None => store.set_directory_id(directory.directory_id())?,
        Some(_) => return Err(RoomsError::OtherStore { path: path.display().to_string() }),
    }
    Ok(store)
}

async fn register(
    controller: &Controller,
    config: &Config,
    directory: &DataDirectory,
    listeners: &[Arc<Listener>],
) -> Result<(), ControllerError> {
    let (node_id, directory_id) = (config.broker.node_id(), DirectoryId(directory.directory_id()));
    let endpoint = |listener: &Arc<Listener>| Endpoint {
        listener: listener.name.clone(),
        host: listener.advertised.host.clone(),
        port: listener.advertised.port,
        protocol: 0,
    };
    let feature =
        |f: &millstream_core::controller::Feature| FeatureRange { name: f.name.to_owned(), min: f.min, max: f.max };
    let node = Node {
        id: node_id,
        directory: directory_id,
        rack: config.broker.text("broker.rack").map(str::to_owned),
        endpoints: listeners.iter().map(endpoint).collect(),
        rpc_address: String::new(),
        features: FEATURES.iter().map(feature).collect(),
    };
    controller.change(move |image| register_node(image, node)).await?;
    Ok(())
}

fn flush_config(broker: &BrokerConfig) -> FlushConfig {
    let method = match broker.text("flush.method") {
        Some("file") => FlushMethod::File,
        Some("filesystem") => FlushMethod::Filesystem,
        _ => FlushMethod::Auto,
    };
    FlushConfig { method, ..FlushConfig::default() }
}
