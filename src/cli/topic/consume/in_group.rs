//! Reading as a member of a consumer group: the partitions that the group hands us, each from where the group was.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use millstream_core::types::TopicPartition;
use tokio::signal::unix::{SignalKind, signal};

use super::assign::names as names_of;
use super::fetch::Cursor;
use super::member::Member;
use super::{Ended, Printer, Reader, consume, ends, note_where_it_begins, now};
use crate::cli::args::TopicConsume;
use crate::cli::client::Client;
use crate::cli::failure::{Doing, Stop};
use crate::cli::output::remark;
use crate::cli::resolve::resolve;

/// Joins, reads and commits until all is read, or SIGINT or SIGTERM; then leaves.
pub async fn run(
    client: &Arc<Client>,
    args: &TopicConsume,
    group: &str,
    reader: Reader<'_>,
    printer: &mut Printer,
) -> Result<(), Stop> {
    let mut member = Member::new(client, group, reader.names);
    let read = read(args, reader, printer, &mut member).await;
    // Also what was printed before a failure.
    let committed = match printer.flush() {
        Ok(()) => member.commit().await.doing(reader.what),
        Err(error) => Err(error.into()),
    };
    member.leave().await;
    read.and(committed)
}

async fn read(args: &TopicConsume, reader: Reader<'_>, printer: &mut Printer, member: &mut Member) -> Result<(), Stop> {
    let mut stop = pin!(asked_to_stop());
    let mut known_ends = BTreeMap::new();
    loop {
        let share = tokio::select! {
            share = member.join() => share.doing(reader.what)?,
            () = &mut stop => return Ok(()),
        };
        remark(&format!("millstream: the group hands out {}", names_of(&share)));
        let cursors = cursors(args, reader, member, &share, &mut known_ends).await?;
        match consume(reader, cursors, args.follow, printer, Some(&mut *member), stop.as_mut()).await? {
            Ended::Read => return Ok(()),
            Ended::Rebalance => {}
        }
    }
}

/// Where the group stands in each partition; where it never was, `--from`.
async fn cursors(
    args: &TopicConsume,
    reader: Reader<'_>,
    member: &Member,
    share: &[TopicPartition],
    known_ends: &mut BTreeMap<TopicPartition, i64>,
) -> Result<Vec<Cursor>, Stop> {
    let Reader { client, what, isolation, .. } = reader;
    let committed = member.committed().await.doing(what)?;
    let fresh: Vec<_> = share.iter().filter(|partition| !committed.contains_key(partition)).cloned().collect();
    let mut starts: BTreeMap<&TopicPartition, i64> = BTreeMap::new();
    let resolved = resolve(client, &fresh, args.from, isolation, now()).await.doing(what)?;
    for (partition, (at, place)) in fresh.iter().zip(resolved) {
        assert!(*partition == at, "shares are sorted: {partition} {at}");
        let place = place.doing(format!("{what}: partition {partition}"))?;
        note_where_it_begins(partition, place);
        starts.insert(partition, place.offset);
    }
    starts.extend(share.iter().filter_map(|partition| Some((partition, committed.get(partition)?.offset))));
    // The ends stay those of the first look: who reads to the end is not kept busy by writers.
    let new: Vec<_> = share.iter().filter(|partition| !known_ends.contains_key(partition)).cloned().collect();
    known_ends.extend(ends(client, args, &new, what).await?);
    let cursor = |(partition, start): (&TopicPartition, i64)| {
        Cursor::new(partition.clone(), start, known_ends.get(partition).copied())
    };
    Ok(starts.into_iter().map(cursor).collect())
}

/// SIGINT or SIGTERM.
async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // The system's own way is then to end us.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
