//! `millstream topic consume`: reads partitions from a place to a place and prints the records.
//!
//! A task for every leader fetches and decodes; this one prints. A task whose leader is lost gives its partitions
//! back, to be asked of the next leader.

mod assign;
mod decode;
mod fetch;
mod in_group;
mod member;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, BufWriter, Stdout, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_protocol::error::ResponseError;
use millstream_core::types::{Timestamp, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::fetch::{Chunk, Cursor, FetchFailure, Left, fetch_from};
use self::member::{Member, Standing};
use crate::cli::args::TopicConsume;
use crate::cli::client::{Client, ClientError, Isolation, Retry};
use crate::cli::failure::{Doing, Failure, Stop};
use crate::cli::output::{Format, remark};
use crate::cli::position::Position;
use crate::cli::record_format::{ConsumedRecord, RecordFormat, write_json};
use crate::cli::resolve::{Place, resolve};

/// Decoded chunks that wait to be printed, of at most a mebibyte or one batch each. Full: fetching pauses.
const CHUNKS_MAX: usize = 8;
/// Bytes gathered before a write.
const OUTPUT_BUFFER: usize = 256 << 10;
/// How often a member tells its group that it is there, and what it has printed.
const KEEP_UP_EVERY: Duration = Duration::from_secs(1);

/// What is read, and what the command is called when it fails.
#[derive(Clone, Copy)]
struct Reader<'a> {
    client: &'a Arc<Client>,
    names: &'a [String],
    isolation: Isolation,
    what: &'a str,
}

/// Why reading came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All is read, or as much as was asked for, or a signal came.
    Read,
    /// The group deals anew.
    Rebalance,
}

/// Ends reading early.
type Stopped<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

pub async fn run(client: &Arc<Client>, format: Format, args: TopicConsume) -> Result<(), Stop> {
    let names: Vec<_> = args.topics.iter().map(ToString::to_string).collect();
    let what = format!("cannot consume {}", names.join(", "));
    let partitions = partitions(client, &args, &names, &what).await?;
    let mut printer = Printer {
        out: BufWriter::with_capacity(OUTPUT_BUFFER, io::stdout()),
        format: if format == Format::Json { None } else { Some(args.print.clone()) },
        left: args.count,
    };
    let reader = Reader { client, names: &names, isolation: args.isolation.into(), what: &what };
    match &args.group {
        Some(group) => in_group::run(client, &args, group, reader, &mut printer).await?,
        None => {
            let cursors = cursors(client, &args, &partitions, &what).await?;
            consume(reader, cursors, false, &mut printer, None, pin!(std::future::pending())).await?;
        }
    }
    printer.flush()?;
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
    let starts = resolve(client, partitions, args.from, args.isolation.into(), now()).await.doing(what)?;
    let ends = ends(client, args, partitions, what).await?;
    let mut cursors = Vec::new();
    for (partition, start) in starts {
        let start = start.doing(format!("{what}: partition {partition}"))?;
        note_where_it_begins(&partition, start);
        let end = ends.get(&partition).copied();
        cursors.push(Cursor::new(partition, start.offset, end));
    }
    Ok(cursors)
}

/// Where reading stops; nowhere with `--follow`.
async fn ends(
    client: &Arc<Client>,
    args: &TopicConsume,
    partitions: &[TopicPartition],
    what: &str,
) -> Result<BTreeMap<TopicPartition, i64>, Stop> {
    if args.follow {
        return Ok(BTreeMap::new());
    }
    let to = args.to.unwrap_or(Position::End);
    let mut ends = BTreeMap::new();
    for (partition, end) in resolve(client, partitions, to, args.isolation.into(), now()).await.doing(what)? {
        let end = end.doing(format!("{what}: partition {partition}"))?;
        ends.insert(partition, end.offset);
    }
    Ok(ends)
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    Timestamp(i64::try_from(now).unwrap_or(i64::MAX))
}

fn note_where_it_begins(partition: &TopicPartition, place: Place) {
    let Place { offset, asked, start, end } = place;
    // Zero is how many say "from the start".
    if asked != offset && asked != 0 {
        remark(&format!("millstream: {partition}: offset {asked} is outside of {start} to {end}, begins at {offset}"));
    }
}

/// Reads until all is done; if it `waits`, there may be more to come for a group though there is nothing to read.
async fn consume(
    reader: Reader<'_>,
    mut cursors: Vec<Cursor>,
    waits: bool,
    printer: &mut Printer,
    mut member: Option<&mut Member>,
    mut stopped: Stopped<'_>,
) -> Result<Ended, Stop> {
    let Reader { client, what, .. } = reader;
    cursors.retain(|cursor| !cursor.is_done());
    let (chunks, mut printed) = mpsc::channel(CHUNKS_MAX);
    let fetchers = JoinSet::new();
    let mut reading = Reading { reader, chunks, fetchers, waiting: cursors, lost: None, retry: client.retry() };
    let mut wake = Some(Instant::now());
    let mut keep_up = interval(KEEP_UP_EVERY);
    keep_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while printer.left != Some(0) && (waits || !(reading.is_done() && printed.is_empty())) {
        tokio::select! {
            Some(chunk) = printed.recv() => {
                let next = printer.chunk(&chunk)?;
                if let (Some(member), Some(next)) = (&mut member, next) {
                    member.printed(&chunk.partition, next);
                }
                if printed.is_empty() {
                    printer.flush()?;
                }
                reading.retry = client.retry();
            }
            Some(done) = reading.fetchers.join_next() => reading.take_back(done)?,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                wake = None;
                reading.route().await?;
            }
            _ = keep_up.tick(), if member.is_some() => {
                printer.flush()?;
                if let Some(member) = &mut member
                    && member.keep_up().await.doing(what)? == Standing::Rejoin
                {
                    return Ok(Ended::Rebalance);
                }
            }
            () = &mut stopped => break,
        }
        if wake.is_none() && !reading.waiting.is_empty() {
            wake = Some(reading.next_try()?);
        }
    }
    Ok(Ended::Read)
}

/// Who fetches what.
struct Reading<'a> {
    reader: Reader<'a>,
    chunks: mpsc::Sender<Chunk>,
    fetchers: JoinSet<Result<Left, FetchFailure>>,
    /// Not fetched at the moment: their leader is not known, or was lost.
    waiting: Vec<Cursor>,
    /// Why the last of them waits.
    lost: Option<ClientError>,
    retry: Retry,
}

impl Reading<'_> {
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.fetchers.is_empty()
    }

    /// Looks up the leaders of what waits, and starts a fetcher for each.
    async fn route(&mut self) -> Result<(), Stop> {
        let Reader { client, names, isolation, what } = self.reader;
        let cluster = client.cluster(Some(names)).await.doing(what)?;
        let mut routes: BTreeMap<i32, Vec<Cursor>> = BTreeMap::new();
        for cursor in std::mem::take(&mut self.waiting) {
            match cluster.leader(cursor.partition.topic.as_str(), cursor.partition.partition) {
                Ok(leader) => routes.entry(leader).or_default().push(cursor),
                Err(error) if error.is_retriable() => {
                    self.waiting.push(cursor);
                    self.lost = Some(error);
                }
                Err(error) => return Err(self.failure(Some(&cursor.partition), &error)),
            }
        }
        for (leader, cursors) in routes {
            let fetching = fetch_from(Arc::clone(client), leader, cursors, isolation, self.chunks.clone());
            self.fetchers.spawn(fetching);
        }
        Ok(())
    }

    fn take_back(&mut self, done: Result<Result<Left, FetchFailure>, JoinError>) -> Result<(), Stop> {
        match done {
            Ok(Ok(left)) => {
                self.waiting.extend(left.cursors);
                self.lost = left.error.or(self.lost.take());
            }
            Ok(Err((partition, error))) => return Err(self.failure(partition.as_ref(), &error)),
            Err(ended) => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        Ok(())
    }

    /// When to look for the leaders again. Every record that arrives gives more time.
    fn next_try(&mut self) -> Result<Instant, Stop> {
        let now = Instant::now();
        match self.retry.next_pause(now) {
            Some(pause) => Ok(now + pause),
            None => {
                let unknown = ClientError::Response { error: ResponseError::LeaderNotAvailable, message: None };
                let gone = self.lost.take().unwrap_or(unknown);
                Err(self.failure(self.waiting.first().map(|cursor| &cursor.partition), &gone))
            }
        }
    }

    fn failure(&self, partition: Option<&TopicPartition>, error: &ClientError) -> Stop {
        let what = match partition {
            Some(partition) => format!("{}: partition {partition}", self.reader.what),
            None => self.reader.what.to_owned(),
        };
        Failure::of(what, error).into()
    }
}

struct Printer {
    out: BufWriter<Stdout>,
    /// None: JSON.
    format: Option<RecordFormat>,
    /// Records still wanted; None: all.
    left: Option<u64>,
}

impl Printer {
    /// Gives the offset after the last record that was printed.
    fn chunk(&mut self, chunk: &Chunk) -> io::Result<Option<i64>> {
        let mut next = None;
        for record in &chunk.records {
            if self.left == Some(0) {
                break;
            }
            self.record(&chunk.partition, record)?;
            self.left = self.left.map(|left| left - 1);
            next = Some(record.offset + 1);
        }
        Ok(next)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn record(&mut self, from: &TopicPartition, record: &ConsumedRecord) -> io::Result<()> {
        match &self.format {
            Some(format) => format.write(&mut self.out, from, record),
            None => write_json(&mut self.out, from, record),
        }
    }
}
