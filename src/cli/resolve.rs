//! From a position as people write it to an offset in each partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::types::{Timestamp, TopicPartition};

use super::client::{Client, ClientError, Isolation, OffsetQuery};
use super::position::Position;

/// A position in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Within the bounds.
    pub offset: i64,
    /// What was asked for; differs from `offset` when that is outside of the bounds.
    pub asked: i64,
    pub start: i64,
    pub end: i64,
}

/// What is known of each partition.
pub type Places = BTreeMap<TopicPartition, Result<Place, ClientError>>;

/// Finds the position in every partition. A time later than the last record is the end.
pub async fn resolve(
    client: &Arc<Client>,
    partitions: &[TopicPartition],
    position: Position,
    isolation: Isolation,
    now: Timestamp,
) -> Result<Places, ClientError> {
    // The start may not be behind the end: ask for it first.
    let starts = client.list_offsets(partitions, OffsetQuery::Start, isolation).await?;
    let ends = client.list_offsets(partitions, OffsetQuery::End, isolation).await?;
    let by_time = match position.time(now) {
        Some(time) => client.list_offsets(partitions, OffsetQuery::At(time), isolation).await?,
        None => BTreeMap::new(),
    };
    let resolved = |partition: &TopicPartition| {
        let known = |answers: &BTreeMap<_, Result<Option<i64>, ClientError>>| match answers.get(partition) {
            Some(answer) => answer.clone(),
            None => Ok(None),
        };
        let (start, end) = (known(&starts)?.unwrap_or(0), known(&ends)?.unwrap_or(0));
        Ok(place(position, start, end, known(&by_time)?))
    };
    Ok(partitions.iter().map(|partition| (partition.clone(), resolved(partition))).collect())
}

fn place(position: Position, start: i64, end: i64, by_time: Option<i64>) -> Place {
    let end = end.max(start);
    let asked = match position {
        Position::Start => start,
        Position::End => end,
        Position::Offset(offset) => offset,
        // Asking for more than there is means all of it.
        Position::BeforeEnd(count) => end.saturating_sub(count).max(start),
        Position::Ago(_) | Position::At(_) => by_time.unwrap_or(end),
    };
    Place { offset: asked.clamp(start, end), asked, start, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay_within_the_log() {
        let at = |position, by_time| {
            let place = place(position, 10, 20, by_time);
            (place.offset, place.asked)
        };
        assert_eq!(at(Position::Start, None), (10, 10));
        assert_eq!(at(Position::End, None), (20, 20));
        assert_eq!(at(Position::Offset(15), None), (15, 15));
        assert_eq!(at(Position::Offset(5), None), (10, 5));
        assert_eq!(at(Position::Offset(25), None), (20, 25));
        assert_eq!(at(Position::BeforeEnd(3), None), (17, 17));
        assert_eq!(at(Position::BeforeEnd(30), None), (10, 10));
        assert_eq!(at(Position::Ago(1), Some(12)), (12, 12));
        assert_eq!(at(Position::At(Timestamp(1)), None), (20, 20));
    }
}
