use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use millstream_core::types::{DirectoryId, NodeId, PeerId};
use nix::errno::Errno;

use super::*;
use crate::config::FirstUsers;
use crate::log::faults::{Fault, set};
use crate::log::{DataDir, FlushConfig};
use crate::partition::{Identity, Partitions, PartitionsConfig};
use crate::store::Store;

mod cluster;

fn partitions_config() -> PartitionsConfig {
    PartitionsConfig { shards: 1, producer_id_expiration_ms: 86_400_000, replica_lag_max: Duration::from_secs(30) }
}

async fn controller(dir: &Path) -> (Arc<Controller>, Arc<Store>) {
    let store = Arc::new(Store::open(&dir.join("kv")).unwrap());
    let data = DataDir::open(dir, FlushConfig { ballast_bytes: 1 << 20, ..FlushConfig::default() }).unwrap();
    let identity = Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() };
    let partitions = Partitions::start(data, store.clone(), identity, None, partitions_config());
    let founder = Peer { id: PeerId(1), node: NodeId(1), directory: DirectoryId(Uuid::from_u128(1)) };
    let founding = Founding { cluster_id: "cluster".to_owned(), founders: vec![founder], users: FirstUsers::default() };
    let start =
        start(Start { partitions, store: store.clone(), settings: BrokerConfig::default(), founding, rpc: None });
    let started = start.await;
    (started.unwrap(), store)
}

async fn set_feature(controller: &Controller, name: &'static str) -> Result<(), ControllerError> {
    let command = Command::SetFeature { name: name.to_owned(), level: 1 };
    let change = controller.change(|_| Decision { commands: vec![command], reply: () });
    tokio::time::timeout(Duration::from_secs(10), change).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_store_did_not_take_goes_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (controller, store) = controller(dir.path()).await;
    set_feature(&controller, "one").await.unwrap();
    store.full.store(true, Ordering::Relaxed);
    set_feature(&controller, "two").await.unwrap();
    store.full.store(false, Ordering::Relaxed);
    set_feature(&controller, "three").await.unwrap();
    let (_, entities) = store.metadata().unwrap();
    let stored = Image::from_stored(entities).unwrap();
    assert_eq!(["one", "two", "three"].map(|name| stored.feature(name)), [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_refused_while_the_metadata_log_is_offline() {
    let dir = tempfile::tempdir().unwrap();
    let (controller, _) = controller(dir.path()).await;
    set_feature(&controller, "one").await.unwrap();
    {
        let _broken = set(dir.path(), Fault::Write(Errno::EIO));
        for _ in 0..3 {
            assert_eq!(set_feature(&controller, "two").await, Err(ControllerError::NotAvailable));
        }
    }
    let again = async {
        while set_feature(&controller, "three").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
    assert_eq!(["one", "two", "three"].map(|name| controller.published().image.feature(name)), [1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_leader_forms_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let (controller, _) = controller(dir.path()).await;
    set_feature(&controller, "one").await.unwrap();
    let image = controller.published().image.clone();
    assert_eq!(image.cluster_id(), Some("cluster"));
    assert_eq!(image.peers().map(|peer| (peer.id, peer.node)).collect::<Vec<_>>(), [(PeerId(1), NodeId(1))]);
    assert_eq!(controller.leader(), Some(NodeId(1)));
    assert!(controller.reach(image.version(), Duration::ZERO).await);
    assert!(!controller.reach(image.version() + 1, Duration::ZERO).await);
}
