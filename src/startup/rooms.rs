//! The rooms behind the APIs: store, partitions, coordinators, controller, each built on those before it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use millstream_core::coordinator::group::GroupConfig;
use millstream_core::coordinator::txn::TransactionConfig;
use millstream_core::types::PeerId;
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use super::coordinators::AllCoordinators;
use super::{chores, coordinators, links, shares};
use crate::config::{Config, DataDirectory, DirectoryError};
use crate::controller::{self, Controller, Founding, LoadError, METADATA_PARTITION};
use crate::coordinator::{Groups, ShareKeepers, ShareStateConfig, ShareStateCoordinators, Transactions};
use crate::log::{DataDir, FlushConfig, FlushMethod, give_up_ballast};
use crate::partition::{CleanerConfig, Identity, Partitions, PartitionsConfig};
use crate::rpc::Rpc;
use crate::share::Shares;
use crate::store::{Store, StoreError};

/// Why the rooms cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum RoomsError {
    #[error("data directory {path}: kv/ belongs to another directory: put back the one that goes with meta.properties")]
    OtherStore { path: String },
    #[error("data directory: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("data directory: {0}")]
    Store(#[from] StoreError),
    #[error("data directory: {0}")]
    Load(#[from] LoadError),
}

pub(super) struct Rooms {
    pub partitions: Arc<Partitions>,
    pub groups: Arc<Groups>,
    pub transactions: Arc<Transactions>,
    pub share_states: Arc<ShareStateCoordinators>,
    /// The way from the group coordinators to the share coordinators.
    pub share_keepers: Arc<ShareKeepers>,
    pub shares: Arc<Shares>,
    pub controller: Arc<Controller>,
    /// How the cleaner works.
    pub cleaner: watch::Sender<CleanerConfig>,
}

impl Rooms {
    /// Opens what the data directory holds, as the peer that it is. A partition with no other replica leads when this
    /// returns, or is offline.
    pub async fn open(
        config: &Config,
        directory: &DataDirectory,
        store: Store,
        (peer, founding): (PeerId, Founding),
        rpc: Option<&Arc<Rpc>>,
    ) -> Result<Self, RoomsError> {
        let broker = &config.broker;
        let store = Arc::new(store);
        let dir = DataDir::open(directory.path(), flush_config(broker))?;
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let partitions_config = PartitionsConfig {
            shards,
            producer_id_expiration_ms: broker.integer("producer.id.expiration.ms"),
            replica_lag_max: Duration::from_millis(
                u64::try_from(broker.integer("replica.lag.time.max.ms")).unwrap_or(0),
            ),
        };
        let node = broker.node_id();
        let boot = rpc.and_then(|rpc| rpc.boot_id(node)).unwrap_or_default();
        let identity = Identity { peer, node, boot };
        let links = rpc.map(links::links);
        let partitions = Partitions::start(dir, store.clone(), identity, links, partitions_config);
        if let Some(rpc) = rpc {
            links::connect(rpc, &partitions);
        }
        let share_keepers = Arc::<ShareKeepers>::default();
        let groups =
            Groups::new(partitions.clone(), store.clone(), GroupConfig::of(broker), Arc::clone(&share_keepers));
        let transactions = Transactions::new(partitions.clone(), store.clone(), TransactionConfig::of(broker));
        let share_states = ShareStateCoordinators::new(partitions.clone(), store.clone(), ShareStateConfig::of(broker));
        let controller = controller::start(controller::Start {
            partitions: partitions.clone(),
            store,
            settings: broker.clone(),
            founding,
            rpc: rpc.cloned(),
        })
        .await?;
        let all = AllCoordinators {
            groups: Arc::clone(&groups),
            transactions: Arc::clone(&transactions),
            share_states: Arc::clone(&share_states),
        };
        coordinators::follow(&controller, all);
        let shares = shares::start(&controller, &partitions, broker);
        chores::start(&partitions, broker);
        let (cleaner, _) = watch::channel(CleanerConfig::of(&controller.published().settings));
        if broker.boolean("log.cleaner.enable") {
            partitions.start_cleaner(cleaner.subscribe());
        }
        Ok(Self { partitions, groups, transactions, share_states, share_keepers, shares, controller, cleaner })
    }

    /// Ends the coordinators, then the partitions that they write to, once what is in flight is committed and saved.
    pub async fn stop(&self) {
        self.groups.stop().await;
        self.transactions.stop().await;
        self.share_states.stop().await;
        self.partitions.stop().await;
    }
}

/// Opens `kv/`, which belongs to this directory, or makes it. It tells whether `log/` is missing.
pub(super) fn open_store(directory: &DataDirectory) -> Result<Store, RoomsError> {
    let path: &Path = directory.path();
    let kv = path.join("kv");
    let mut store = match Store::open(&kv) {
        // What the ballast is for: RocksDB writes a file when it is opened after a crash.
        Err(StoreError::NoSpace(_)) if give_up_ballast(path)? => Store::open(&kv)?,
        opened => opened?,
    };
    if !path.join("log").exists() && store.hard_state(METADATA_PARTITION)?.is_some() {
        drop(store);
        if directory.renew(Uuid::new_v4())? {
            warn!("log/ is missing: this disk counts as new, and its data comes from other nodes");
        }
        store = Store::open(&kv)?;
    }
    match store.directory_id()? {
        Some(id) if id == directory.directory_id().0 => {}
        None => store.set_directory_id(directory.directory_id().0)?,
        Some(_) => return Err(RoomsError::OtherStore { path: path.display().to_string() }),
    }
    Ok(store)
}

fn flush_config(broker: &BrokerConfig) -> FlushConfig {
    let method = match broker.text("flush.method") {
        Some("file") => FlushMethod::File,
        Some("filesystem") => FlushMethod::Filesystem,
        _ => FlushMethod::Auto,
    };
    FlushConfig { method, ..FlushConfig::default() }
}
