//! `millstream topic produce`: writes records and says where they went.

mod gather;
mod input;
mod send;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::InitProducerIdRequest;
use millstream_core::types::{ProducerEpoch, ProducerId, Timestamp};
use serde_json::{Value, json};

use self::gather::{Gatherer, Gathering, Producer};
use self::input::read_lines;
use self::send::{Acknowledged, Sender};
use crate::cli::args::{Acks, TopicProduce};
use crate::cli::client::{Client, ClientError};
use crate::cli::failure::{Doing, Failure, Stop};
use crate::cli::output::{Columns, Format, Progress, or_dash, show};
use crate::cli::settings::OwnerKind;

/// Largest batch before compression, in bytes, when the topic allows it.
const BATCH_SIZE_BYTES_MAX: usize = 512 << 10;
/// What Kafka's producer says; of no meaning without transactions.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;

pub async fn run(client: &Arc<Client>, format: Format, args: TopicProduce) -> Result<(), Stop> {
    let what = format!("cannot produce to topic {}", args.topic);
    let names = [args.topic.to_string()];
    let cluster = client.cluster(Some(&names)).await.doing(&what)?;
    let partitions = cluster.topic(args.topic.as_str()).doing(&what)?.partitions.len();
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    if let Some(partition) = args.partition.filter(|partition| *partition >= partitions) {
        let why = format!("it has no partition {partition}, only 0 to {}", partitions - 1);
        return Err(Failure::new(what, why).into());
    }
    let options = Gathering {
        compression: args.compression,
        headers: args.headers.clone(),
        batch_size_bytes_max: batch_size_bytes_max(client, args.topic.as_str()).await,
        partitions,
        partition: args.partition,
    };
    let producer = if args.acks == Acks::All { producer(client).await } else { None };
    let mut producing = Producing {
        gatherer: Gatherer::new(options, producer, rand::random()),
        sender: Sender::new(client, &args.topic, args.acks, cluster),
        what,
    };
    let done = producing.run(&args).await;
    let acknowledged = producing.sender.acknowledged;
    if done.is_ok() || !acknowledged.is_empty() {
        let rows: Vec<_> = acknowledged.into_iter().collect();
        show(format, &document(&args, &rows), || table(&rows))?;
    }
    done
}

/// What the topic takes, where the broker tells it.
async fn batch_size_bytes_max(client: &Client, topic: &str) -> usize {
    let names = [topic.to_owned()];
    let described = client.describe_settings(OwnerKind::Topic, &names).await.ok();
    let settings = described.and_then(|mut described| described.remove(topic)?.ok()).unwrap_or_default();
    let limit = settings.iter().find(|setting| setting.name == "max.message.bytes");
    let limit = limit.and_then(|setting| setting.value.as_ref()?.parse().ok());
    limit.unwrap_or(BATCH_SIZE_BYTES_MAX).min(BATCH_SIZE_BYTES_MAX)
}

/// An identity with which a repeated batch is recognised. Not every broker gives one, and not to everybody.
async fn producer(client: &Client) -> Option<Producer> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let mut retry = client.retry();
    loop {
        let response = client.any(|_| request.clone()).await.ok()?;
        match ClientError::of_code(response.error_code, None) {
            None => {
                let id = ProducerId(response.producer_id.0);
                return Some(Producer { id, epoch: ProducerEpoch(response.producer_epoch) });
            }
            Some(error) => retry.after(error).await.ok()?,
        }
    }
}

struct Producing {
    gatherer: Gatherer,
    sender: Sender,
    what: String,
}

impl Producing {
    async fn run(&mut self, args: &TopicProduce) -> Result<(), Stop> {
        let key = args.key.as_ref().map(String::as_bytes);
        if args.tombstone {
            self.push(key, None).await?;
        }
        for value in &args.values {
            let (key, value) = self.split(value.as_bytes(), key, args, "the value")?;
            self.push(key, Some(value)).await?;
        }
        if args.values.is_empty() && !args.tombstone {
            self.lines(args, key).await?;
        }
        self.flush().await
    }

    async fn lines(&mut self, args: &TopicProduce, key: Option<&[u8]>) -> Result<(), Stop> {
        let failed = |what: &str, error: std::io::Error| Failure::new(what, format!("the input: {error}"));
        let mut lines = read_lines(args.file.as_deref()).map_err(|error| failed(&self.what, error))?;
        let mut progress = Progress::counting("records produced:", lines.is_typed);
        let mut number = 0_usize;
        while let Some(chunk) = lines.chunks.recv().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.flush().await?;
                    return Err(failed(&self.what, error).into());
                }
            };
            for line in chunk {
                number += 1;
                let (key, value) = match self.split(&line, key, args, &format!("line {number}")) {
                    Ok(split) => split,
                    Err(stop) => {
                        self.flush().await?;
                        return Err(stop);
                    }
                };
                self.push(key, Some(value)).await?;
            }
            // Nothing more is there yet: what was gathered need not wait.
            if lines.chunks.is_empty() {
                self.flush().await?;
                progress.at(number);
            }
        }
        Ok(())
    }

    /// Key and value of a line.
    fn split<'a>(
        &self,
        line: &'a [u8],
        key: Option<&'a [u8]>,
        args: &TopicProduce,
        place: &str,
    ) -> Result<(Option<&'a [u8]>, &'a [u8]), Stop> {
        let Some(separator) = &args.key_separator else { return Ok((key, line)) };
        let separator = separator.0.as_slice();
        match line.windows(separator.len()).position(|window| window == separator) {
            Some(at) => Ok((Some(&line[..at]), &line[at + separator.len()..])),
            None => Err(Failure::new(&self.what, format!("{place} has no key separator")).into()),
        }
    }

    async fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), Stop> {
        while !self.gatherer.push(now(), key, value) {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        let batches = self.gatherer.take();
        self.sender.send(batches).await.map_err(|(partition, error)| {
            let acknowledged: u64 = self.sender.acknowledged.values().map(|row| row.records).sum();
            let what = format!("{} partition {partition} after {acknowledged} records", self.what);
            Failure::of(what, &error).into()
        })
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    Timestamp(i64::try_from(now).unwrap_or(i64::MAX))
}

fn document(args: &TopicProduce, rows: &[(i32, Acknowledged)]) -> Value {
    let row = |(partition, row): &(i32, Acknowledged)| {
        json!({
            "partition": partition,
            "records": row.records,
            "first_offset": row.first_offset,
            "last_offset": row.last_offset,
        })
    };
    json!({
        "topic": args.topic.as_str(),
        "records": rows.iter().map(|(_, row)| row.records).sum::<u64>(),
        "partitions": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn table(rows: &[(i32, Acknowledged)]) -> String {
    let mut columns = Columns::new(&["#PARTITION", "#RECORDS", "#FIRST OFFSET", "#LAST OFFSET"]);
    for (partition, row) in rows {
        let offsets = (or_dash(row.first_offset), or_dash(row.last_offset));
        columns.row([partition.to_string(), row.records.to_string(), offsets.0, offsets.1]);
    }
    columns.render()
}
