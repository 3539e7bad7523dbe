//! The metadata as this node's disk has it at the start: the entities that are stored, then the commands of the log
//! that are known to be committed.

use std::sync::Arc;

use millstream_core::config::TopicConfig;
use millstream_core::controller::{Image, StoredError};
use millstream_core::types::{LogMark, Offset, PeerId, TopicName, TopicPartition};

use super::fold::{FoldError, fold, put_changes};
use super::{Founding, METADATA_PARTITION, METADATA_TOPIC};
use crate::partition::{Partition, Partitions, ToOpen};
use crate::store::{Batch, Durability, Store, StoreError};

/// Why the metadata could not be loaded: the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("metadata log: {0}")]
    Offline(String),
    #[error("{0}")]
    Fold(#[from] FoldError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Stored(#[from] StoredError),
}

/// An image, and the offset of the first command that is not in it.
pub(super) struct Loaded {
    pub partition: Arc<Partition>,
    pub image: Image,
    pub next: Offset,
}

/// Opens the metadata partition and loads the image. A node that is alone leads then, and the image is the newest.
pub(super) async fn load(
    partitions: &Arc<Partitions>,
    store: &Arc<Store>,
    founding: &Founding,
) -> Result<Loaded, LoadError> {
    let partition = open(partitions, founding).await?;
    let store = Arc::clone(store);
    let loading = tokio::task::spawn_blocking(move || {
        let (next, entities) = store.metadata()?;
        let mut loaded = Loaded { partition, image: Image::from_stored(entities)?, next };
        while loaded.next < loaded.partition.high_watermark() {
            let step = fold(&loaded.partition, loaded.image, loaded.next)?;
            (loaded.image, loaded.next) = (step.image, step.next);
            let mut batch = Batch::default();
            put_changes(&mut batch, &loaded.image, &step.commands);
            batch.put_metadata_applied(loaded.next);
            store.write(batch, Durability::Buffered)?;
        }
        Ok(loaded)
    });
    loading.await.expect("loading does not panic")
}

async fn open(partitions: &Partitions, founding: &Founding) -> Result<Arc<Partition>, LoadError> {
    let topic = TopicName::new(METADATA_TOPIC).expect("a legal name");
    let name = TopicPartition { topic, partition: 0 };
    // Retention never touches it: a node that joins reads it from its first entry on, and all of it is small.
    let config = Arc::new(TopicConfig { retention_ms: None, ..TopicConfig::default() });
    let voters: Vec<PeerId> = founding.founders.iter().map(|peer| peer.id).collect();
    let preferred = voters.first() == Some(&partitions.identity().peer);
    tell_peers(partitions, founding, &Image::default());
    let to_open = ToOpen {
        id: METADATA_PARTITION,
        name,
        config,
        newborn: false,
        voters,
        since: LogMark::default(),
        members: None,
        preferred,
    };
    if let Some(failed) = partitions.open(vec![to_open]).await.into_iter().find_map(|o| o.failed) {
        return Err(LoadError::Offline(failed.to_string()));
    }
    Ok(partitions.get(METADATA_PARTITION).expect("it was opened"))
}

/// Tells the node of every disk, and the disk of every node. The founders are known before the first command says so.
pub(super) fn tell_peers(partitions: &Partitions, founding: &Founding, image: &Image) {
    let nodes = founding.founders.iter().chain(image.peers()).map(|peer| (peer.id, peer.node)).collect();
    let founders = founding.founders.iter().map(|peer| (peer.node, peer.id));
    partitions.set_peers(nodes, founders.chain(image.peers_by_node()));
}
