//! Reads: which bytes a fetch may see, and look-ups by time and epoch. None of it passes through the owner.

use std::sync::Arc;

use millstream_core::partition::AbortedTransaction;
use millstream_core::types::{LeaderEpoch, Offset, Timestamp};

use super::handle::{Leadership, Partition};
use crate::log::{LogView, ReadError, Slice};

/// Which records a reader wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    /// Kafka's `IsolationLevel`: 1 is read_committed.
    pub fn from_wire(level: i8) -> Self {
        if level == 1 { Self::ReadCommitted } else { Self::ReadUncommitted }
    }
}

/// A read of one partition.
#[derive(Clone, Copy, Debug)]
pub struct ReadAsk {
    pub from: Offset,
    pub max_bytes: usize,
    /// Give the first batch even if it is larger than `max_bytes` (KIP-74).
    pub at_least_one: bool,
    /// The epoch in which the client believes the leader is (KIP-320).
    pub current_epoch: Option<LeaderEpoch>,
    /// The epoch of the client's last fetched record.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Wait for the disk if need be; else `ReadRefused::Cold`.
    pub may_block: bool,
    /// A follower may answer (KIP-392).
    pub from_follower: bool,
    pub isolation: Isolation,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Read {
    pub high_watermark: Offset,
    pub last_stable: Offset,
    pub log_start: Offset,
    /// For a reader of committed records: the transactions whose records among those that are read count for nothing, by
    /// first offset.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// None: nothing to read yet.
    pub slice: Option<Slice>,
    /// The client's log is of another history: its last epoch ends here.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// Why a read is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefused {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the partition's log is offline")]
    Storage,
    #[error("the epoch is older than the leader's, {current}")]
    FencedEpoch { current: LeaderEpoch },
    #[error("the epoch is newer than the leader's, {current}")]
    UnknownEpoch { current: LeaderEpoch },
    #[error("the offset is outside of {log_start}..={log_end}")]
    OutOfRange { log_start: Offset, log_end: Offset, high_watermark: Offset },
    /// The bytes are not in memory: ask again where waiting is allowed.
    #[error("not in memory")]
    Cold,
}

/// What ListOffsets may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListSpec {
    Latest,
    Earliest,
    MaxTimestamp,
    At(Timestamp),
}

/// An offset found, with its timestamp and epoch where it is a record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub epoch: Option<LeaderEpoch>,
}

/// Why offsets could not be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Refused(#[from] ReadRefused),
    /// Elected, and not yet sure of its high watermark.
    #[error("the offset is not available yet")]
    NotAvailable,
}

impl Partition {
    /// Checks the client's idea of the leader's epoch (KIP-320).
    pub fn check_epoch(&self, current_epoch: Option<LeaderEpoch>) -> Result<(), ReadRefused> {
        let current = self.leader_epoch();
        match current_epoch {
            Some(epoch) if epoch < current => Err(ReadRefused::FencedEpoch { current }),
            Some(epoch) if epoch > current => Err(ReadRefused::UnknownEpoch { current }),
            _ => Ok(()),
        }
    }

    fn leading_view(&self) -> Result<Arc<LogView>, ReadRefused> {
        match self.leadership() {
            Leadership::Leading => self.view().ok_or(ReadRefused::NotLeader),
            Leadership::Starting | Leadership::Following => Err(ReadRefused::NotLeader),
            Leadership::Offline => Err(ReadRefused::Storage),
        }
    }

    /// As `leading_view`; where `from_follower`, also of a replica that hears of its leader.
    fn fed_view(&self, from_follower: bool) -> Result<Arc<LogView>, ReadRefused> {
        match from_follower && self.feeds_consumers() {
            true => self.view().ok_or(ReadRefused::NotLeader),
            false => self.leading_view(),
        }
    }

    /// Where the log stands, without records: for a client that is to read elsewhere.
    pub fn look(&self, current_epoch: Option<LeaderEpoch>) -> Result<Read, ReadRefused> {
        self.leading_view()?;
        self.check_epoch(current_epoch)?;
        Ok(self.read_nothing(Isolation::ReadUncommitted))
    }

    fn read_nothing(&self, isolation: Isolation) -> Read {
        // First what never passes the other.
        let (log_start, last_stable) = (self.log_start(), self.last_stable());
        let aborted = (isolation == Isolation::ReadCommitted).then(Vec::new);
        Read { high_watermark: self.high_watermark(), last_stable, log_start, aborted, slice: None, diverging: None }
    }

    /// Reads whole batches from an offset on.
    pub fn read(&self, ask: &ReadAsk) -> Result<Read, ReadRefused> {
        let view = self.fed_view(ask.from_follower)?;
        self.check_epoch(ask.current_epoch)?;
        let mut read = self.read_nothing(ask.isolation);
        let Read { high_watermark, last_stable, log_start, .. } = read;
        let log_end = self.log_end();
        let out_of_range = Err(ReadRefused::OutOfRange { log_start, log_end, high_watermark });
        if let Some(epoch) = ask.last_fetched_epoch {
            match self.with_epochs(|e| e.end_offset_for(epoch, log_end)) {
                // An epoch that is yet to come; and what is gone is gone, of whatever epoch it was.
                None => return out_of_range,
                Some(_) if ask.from < log_start => return out_of_range,
                Some((found, ends)) if found < epoch || ends < ask.from => {
                    read.diverging = Some((found, ends));
                    return Ok(read);
                }
                Some(_) => {}
            }
        }
        if ask.from < log_start || ask.from > log_end {
            return out_of_range;
        }
        // A follower that lost its log learns it anew: it knows of more than it has again.
        let end = match ask.isolation {
            Isolation::ReadUncommitted => high_watermark.min(log_end),
            Isolation::ReadCommitted => last_stable.min(log_end),
        };
        if ask.from >= end {
            return Ok(read);
        }
        let found = if ask.may_block {
            view.read(ask.from, end, ask.max_bytes, ask.at_least_one)
        } else {
            view.try_read(ask.from, end, ask.max_bytes, ask.at_least_one)
        };
        match found {
            Ok(slice) => read.slice = Some(slice).filter(|s| s.len > 0),
            Err(e) => return Err(self.refuse(e, log_end)),
        }
        if let (Some(aborted), Some(slice)) = (&mut read.aborted, &read.slice) {
            *aborted = self.aborted().overlapping(ask.from, slice.next_offset);
        }
        Ok(read)
    }

    fn refuse(&self, error: ReadError, log_end: Offset) -> ReadRefused {
        match error {
            ReadError::Cold => ReadRefused::Cold,
            // Retention was faster.
            ReadError::Gone { .. } => {
                ReadRefused::OutOfRange { log_start: self.log_start(), log_end, high_watermark: self.high_watermark() }
            }
            ReadError::NoEntry { .. } | ReadError::Corrupt { .. } | ReadError::Io { .. } => {
                tracing::error!(partition = %self.name, error = %error, "read failed");
                ReadRefused::Storage
            }
        }
    }

    /// Finds an offset. May wait for the disk.
    pub fn list_offset(
        &self,
        spec: ListSpec,
        isolation: Isolation,
        current_epoch: Option<LeaderEpoch>,
    ) -> Result<Option<Listed>, ListError> {
        if self.leadership() == Leadership::Starting && !matches!(spec, ListSpec::Earliest) {
            return Err(ListError::NotAvailable);
        }
        let view = self.leading_view()?;
        self.check_epoch(current_epoch)?;
        let (start, end) = (self.log_start(), self.read_end(isolation));
        let found = match spec {
            ListSpec::Latest => {
                let epoch = Some(self.leader_epoch());
                return Ok(Some(Listed { offset: end, timestamp: Timestamp::NONE, epoch }));
            }
            ListSpec::Earliest => {
                let epoch = self.with_epochs(|e| e.epoch_of(start));
                return Ok(Some(Listed { offset: start, timestamp: Timestamp::NONE, epoch }));
            }
            ListSpec::MaxTimestamp => view.max_timestamp(start, end),
            ListSpec::At(timestamp) => view.offset_for_timestamp(timestamp, start, end),
        };
        match found {
            Ok(found) => Ok(found.map(|f| Listed { offset: f.offset, timestamp: f.timestamp, epoch: Some(f.epoch) })),
            Err(e) => Err(ListError::Refused(self.refuse(e, end))),
        }
    }

    /// The largest epoch at or below `epoch`, and where it ends (OffsetForLeaderEpoch).
    pub fn end_offset_for_epoch(
        &self,
        epoch: LeaderEpoch,
        current_epoch: Option<LeaderEpoch>,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadRefused> {
        self.leading_view()?;
        self.check_epoch(current_epoch)?;
        // The end of the present epoch is as far as readers may go.
        let end = self.high_watermark();
        Ok(self.with_epochs(|e| e.end_offset_for(epoch, end)))
    }

    /// Reads committed batches as bytes, checked by the caller, on whatever replica: for what is folded from the log.
    /// May wait for the disk.
    pub fn read_bytes(&self, from: Offset, max_bytes: usize) -> Result<bytes::Bytes, ReadRefused> {
        let view = match self.leadership() {
            Leadership::Offline => return Err(ReadRefused::Storage),
            _ => self.view().ok_or(ReadRefused::NotLeader)?,
        };
        let (log_start, end) = (self.log_start(), self.read_end(Isolation::ReadUncommitted));
        if from < log_start || from > end {
            return Err(ReadRefused::OutOfRange { log_start, log_end: self.log_end(), high_watermark: end });
        }
        if from == end {
            return Ok(bytes::Bytes::new());
        }
        let slice = view.read(from, end, max_bytes, true).map_err(|e| self.refuse(e, end))?;
        let mut bytes = vec![0; slice.len];
        let read = std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.position);
        read.map_err(|e| {
            tracing::error!(partition = %self.name, error = %e, "read failed");
            ReadRefused::Storage
        })?;
        Ok(bytes.into())
    }
}
