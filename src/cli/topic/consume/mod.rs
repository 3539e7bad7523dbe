//! `millstream topic consume`: reads partitions from a place to a place and prints the records.
//!
//! A task for every leader fetches and decodes; this one prints. A task whose leader is lost gives its partitions
//! back, to be asked of the next leader.

mod decode;
mod fetch;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::error::ResponseError;
use millstream_core::types::{Timestamp, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::fetch::{Chunk, Cursor, fetch_from};
use crate::cli::args::TopicConsume;
use crate::cli::client::{Client, ClientError, Isolation};
use crate::cli::failure::{Doing, Failure, Stop};
use crate::cli::output::{Format, remark};
use crate::cli::position::Position;
use crate::cli::record_format::{ConsumedRecord, RecordFormat, write_json};
use crate::cli::resolve::{Place, resolve};

/// Decoded chunks that wait to be printed, of at most a mebibyte or one batch each. Full: fetching pauses.
const CHUNKS_MAX: usize = 8;
/// Bytes gathered before a write.
const OUTPUT_BUFFER: usize = 256 << 10;

pub async fn run(client: &Arc<Client>, format: Format, args: TopicConsume) -> Result<(), Stop> {
    let names: Vec<_> = args.topics.iter().map(ToString::to_string).collect();
    let what = format!("cannot consume {}", names.join(", "));
    let partitions = partitions(client, &args, &names, &what).await?;
    let cursors = cursors(client, &args, &partitions, &what).await?;
    let mut printer = Printer {
        out: BufWriter::with_capacity(OUTPUT_BUFFER, io::stdout()),
        format: if format == Format::Json { None } else { Some(args.print) },
        left: args.count,
    };
    consume(client, cursors, &names, args.isolation.into(), &mut printer, &what).await?;
    printer.out.flush()?;
    Ok(())
}

async fn partitions(
    client: &Client,
    args: &TopicConsume,
    names: &[String],
    what: &str,
) -> Result<Vec<TopicPartition>, Stop> {
    let cluster = client.cluster(Some(names)).await.doing(what)?;
    let mut chosen = Vec::new();
    for topic in &args.topics {
        let state = cluster.topic(topic.as_str()).doing(format!("cannot consume topic {topic}"))?;
        let known: Vec<_> = state.partitions.iter().map(|partition| partition.partition).collect();
        if let Some(partition) = args.partitions.iter().find(|partition| !known.contains(partition)) {
            let why =
                format!("topic {topic} has no partition {partition}, only 0 to {}", known.len().saturating_sub(1));
            return Err(Failure::new(what, why).into());
        }
        let wanted = if args.partitions.is_empty() { &known } else { &args.partitions };
        chosen.extend(wanted.iter().map(|partition| TopicPartition { topic: topic.clone(), partition: *partition }));
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

/// Where each partition begins and ends.
async fn cursors(
    client: &Arc<Client>,
    args: &TopicConsume,
    partitions: &[TopicPartition],
    what: &str,
) -> Result<Vec<Cursor>, Stop> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let now = Timestamp(i64::try_from(now).unwrap_or(i64::MAX));
    let isolation: Isolation = args.isolation.into();
    let starts = resolve(client, partitions, args.from, isolation, now).await.doing(what)?;
    let mut ends = match (args.to, args.follow) {
        (_, true) => BTreeMap::new(),
        (Some(to), false) => resolve(client, partitions, to, isolation, now).await.doing(what)?,
        (None, false) => resolve(client, partitions, Position::End, isolation, now).await.doing(what)?,
    };
    let mut cursors = Vec::new();
    for (partition, start) in starts {
        let start = start.doing(format!("{what}: partition {partition}"))?;
        note_where_it_begins(&partition, start);
        let end = match ends.remove(&partition) {
            Some(end) => Some(end.doing(format!("{what}: partition {partition}"))?.offset),
            None => None,
        };
        cursors.push(Cursor::new(partition, start.offset, end));
    }
    Ok(cursors)
}

fn note_where_it_begins(partition: &TopicPartition, place: Place) {
    let Place { offset, asked, start, end } = place;
    // Zero is how many say "from the start".
    if asked != offset && asked != 0 {
        remark(&format!("millstream: {partition}: offset {asked} is outside of {start} to {end}, begins at {offset}"));
    }
}

async fn consume(
    client: &Arc<Client>,
    mut cursors: Vec<Cursor>,
    names: &[String],
    isolation: Isolation,
    printer: &mut Printer,
    what: &str,
) -> Result<(), Stop> {
    cursors.retain(|cursor| !cursor.is_done());
    let mut retry = client.retry();
    while !cursors.is_empty() && printer.left != Some(0) {
        let cluster = client.cluster(Some(names)).await.doing(what)?;
        let mut routes: BTreeMap<i32, Vec<Cursor>> = BTreeMap::new();
        let mut leaderless = Vec::new();
        for cursor in cursors {
            match cluster.leader(cursor.partition.topic.as_str(), cursor.partition.partition) {
                Ok(leader) => routes.entry(leader).or_default().push(cursor),
                Err(error) if error.is_retriable() => leaderless.push(cursor),
                Err(error) => return Err(Failure::of(format!("{what}: partition {}", cursor.partition), &error).into()),
            }
        }
        let (chunks, mut printed) = mpsc::channel(CHUNKS_MAX);
        let mut fetchers = JoinSet::new();
        for (leader, route) in routes {
            fetchers.spawn(fetch_from(Arc::clone(client), leader, route, isolation, chunks.clone()));
        }
        drop(chunks);
        while let Some(chunk) = printed.recv().await {
            if printer.chunk(&chunk)? {
                return Ok(());
            }
            if printed.is_empty() {
                printer.out.flush()?;
            }
            retry = client.retry();
        }
        cursors = leaderless;
        for left in fetchers.join_all().await {
            cursors.extend(left.map_err(|(partition, error)| match partition {
                Some(partition) => Failure::of(format!("{what}: partition {partition}"), &error),
                None => Failure::of(what, &error),
            })?);
        }
        if !cursors.is_empty() && !retry.pause().await {
            let gone = ClientError::Response { error: ResponseError::LeaderNotAvailable, message: None };
            return Err(Failure::of(what, &gone).into());
        }
    }
    Ok(())
}

struct Printer {
    out: BufWriter<Stdout>,
    /// None: JSON.
    format: Option<RecordFormat>,
    /// Records still wanted; None: all.
    left: Option<u64>,
}

impl Printer {
    /// Prints a chunk; true when no more records are wanted.
    fn chunk(&mut self, chunk: &Chunk) -> io::Result<bool> {
        for record in &chunk.records {
            if self.left == Some(0) {
                break;
            }
            self.record(&chunk.partition, record)?;
            self.left = self.left.map(|left| left - 1);
        }
        if self.left == Some(0) {
            self.out.flush()?;
        }
        Ok(self.left == Some(0))
    }

    fn record(&mut self, from: &TopicPartition, record: &ConsumedRecord) -> io::Result<()> {
        match &self.format {
            Some(format) => format.write(&mut self.out, from, record),
            None => write_json(&mut self.out, from, record),
        }
    }
}
