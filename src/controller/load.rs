//! The image from what is stored: the entities, then the commands of the log that came after.

use std::sync::Arc;

use millstream_core::config::TopicConfig;
use millstream_core::controller::{Command, CommandError, Image, StoredError};
use millstream_core::record::{BatchHeader, RecordIter, batch_body};
use millstream_core::types::{Offset, TopicName, TopicPartition};

use super::{METADATA_PARTITION, METADATA_TOPIC};
use crate::partition::{Partition, Partitions, ReadRefused, ToOpen};
use crate::store::{Batch, Durability, Store, StoreError};

/// Bytes read from the log at a time.
const READ_BYTES: usize = 1 << 20;

/// Why the metadata could not be loaded: the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("metadata log: {0}")]
    Offline(String),
    #[error("metadata log: {0}")]
    Read(#[from] ReadRefused),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Stored(#[from] StoredError),
    #[error("{0}")]
    Command(#[from] CommandError),
    #[error("metadata log: a batch at offset {offset} does not decode: {reason}")]
    Batch { offset: Offset, reason: String },
}

/// Opens the metadata partition and loads the image.
pub(super) async fn load(
    partitions: &Arc<Partitions>,
    store: &Arc<Store>,
) -> Result<(Arc<Partition>, Image), LoadError> {
    let topic = TopicName::new(METADATA_TOPIC).expect("a legal name");
    let name = TopicPartition { topic, partition: 0 };
    // Retention never touches it: nothing that is applied is read again, and all of it is small.
    let config = TopicConfig { retention_ms: None, ..TopicConfig::default() };
    let voters = vec![partitions.identity().peer];
    let to_open =
        ToOpen { id: METADATA_PARTITION, name, config: Arc::new(config), newborn: false, voters, preferred: true };
    if let Some(failed) = partitions.open(vec![to_open]).await.into_iter().find_map(|o| o.failed) {
        return Err(LoadError::Offline(failed.to_string()));
    }
    let partition = partitions.get(METADATA_PARTITION).expect("it was opened");
    let image = replay(&partition, store).await?;
    Ok((partition, image))
}

/// The image at the high watermark, and the stored entities brought there.
pub(super) async fn replay(partition: &Arc<Partition>, store: &Arc<Store>) -> Result<Image, LoadError> {
    let (partition, store) = (partition.clone(), store.clone());
    let replayed = tokio::task::spawn_blocking(move || replay_blocking(&partition, &store));
    replayed.await.expect("replay does not panic")
}

fn replay_blocking(partition: &Partition, store: &Store) -> Result<Image, LoadError> {
    let (mut next, entities) = store.metadata()?;
    let mut image = Image::from_stored(entities)?;
    let mut scratch = Vec::new();
    while next < partition.high_watermark() {
        let bytes = partition.read_bytes(next, READ_BYTES)?;
        let mut batch = Batch::default();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let damaged = |reason: String| LoadError::Batch { offset: next, reason };
            let header = BatchHeader::parse_checked(rest).map_err(|e| damaged(e.to_string()))?;
            let (whole, after) = rest.split_at(header.size_bytes());
            rest = after;
            let body = batch_body(&header, whole, usize::MAX, &mut scratch).map_err(|e| damaged(e.to_string()))?;
            for record in RecordIter::new(&header, body) {
                let record = record.map_err(|e| damaged(e.to_string()))?;
                if record.offset < next {
                    continue;
                }
                let command = Command::decode(record.value.unwrap_or_default())?;
                image.apply(&command);
                put_changes(&mut batch, &image, &[command]);
            }
            next = header.next_offset();
        }
        batch.put_metadata_applied(next);
        store.write(batch, Durability::Buffered)?;
    }
    Ok(image)
}

/// Adds what commands changed, as it stands in the image after them.
pub(super) fn put_changes(batch: &mut Batch, after: &Image, commands: &[Command]) {
    for command in commands {
        for (key, value) in after.stored_changes(command) {
            match value {
                Some(value) => batch.put_metadata(&key, &value),
                None => batch.delete_metadata(&key),
            }
        }
    }
}
