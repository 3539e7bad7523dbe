//! The arguments of the command line. What they do is beside each command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use millstream_core::record::Compression;
use millstream_core::types::TopicName;

use super::client::Isolation;
use super::connect::Connect;
use super::position::{FORMS, Position};
use super::record_format::RecordFormat;
use super::values::{
    BrokerOwner, Separator, TopicSelection, broker_owner, compression, header, seconds, separator, setting, topic_name,
    topic_selection,
};

/// Create, list, describe, alter and delete topics; produce and consume records
#[derive(Debug, Args)]
pub struct TopicCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    pub action: TopicAction,
}

#[derive(Debug, Subcommand)]
pub enum TopicAction {
    /// Create topics
    Create(TopicCreate),
    /// List topics
    List(TopicList),
    /// Show partitions, replicas, offsets and settings of topics
    Describe(TopicDescribe),
    /// Change settings, add partitions
    Alter(TopicAlter),
    /// Delete topics and all their records
    Delete(TopicDelete),
    /// Write records: values given with -v, or the lines of a file or of standard input
    Produce(TopicProduce),
    /// Read records and print them
    Consume(TopicConsume),
}

#[derive(Debug, Args)]
pub struct TopicCreate {
    /// Names of the new topics
    #[arg(required = true, value_name = "NAME", value_parser = topic_name)]
    pub names: Vec<TopicName>,
    /// Number of partitions; -1: num.partitions of the brokers
    #[arg(short, long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub partitions: i32,
    /// Replicas of each partition; -1: default.replication.factor of the brokers
    #[arg(short, long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub replication: i16,
    /// A setting of the topics, may be repeated
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = setting)]
    pub configs: Vec<(String, String)>,
    /// A topic that exists is no error
    #[arg(long)]
    pub if_not_exists: bool,
    /// Only let the broker check the request
    #[arg(long)]
    pub validate_only: bool,
}

#[derive(Debug, Args)]
pub struct TopicList {
    /// Only these; `*` and `?` stand for any letters
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Kafka's internal topics too
    #[arg(short, long)]
    pub internal: bool,
}

#[derive(Debug, Args)]
pub struct TopicDescribe {
    /// Names; `*` and `?` stand for any letters
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Settings that have their default value too
    #[arg(long)]
    pub all_configs: bool,
}

#[derive(Debug, Args)]
pub struct TopicAlter {
    /// Names; `*` and `?` stand for any letters
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Sets a setting, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
    /// Takes a setting back to its default, may be repeated
    #[arg(long, value_name = "KEY")]
    pub delete: Vec<String>,
    /// New number of partitions, more than before
    #[arg(long, value_name = "N")]
    pub partitions: Option<i32>,
    /// Only let the broker check the request
    #[arg(long)]
    pub validate_only: bool,
}

#[derive(Debug, Args)]
pub struct TopicDelete {
    /// Names; `*` and `?` stand for any letters, and then --yes is needed
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Deletes what the patterns match
    #[arg(short, long)]
    pub yes: bool,
    /// A topic that does not exist is no error
    #[arg(long)]
    pub if_exists: bool,
}

#[derive(Debug, Args)]
pub struct TopicProduce {
    /// Name of the topic
    #[arg(value_parser = topic_name)]
    pub topic: TopicName,
    /// A value, may be repeated; without it every line of the input is a record
    #[arg(short, long = "value", value_name = "TEXT")]
    pub values: Vec<String>,
    /// Reads the lines of this file instead of standard input
    #[arg(long, value_name = "FILE", conflicts_with = "values")]
    pub file: Option<PathBuf>,
    /// The key of every record
    #[arg(short, long, value_name = "TEXT", conflicts_with = "key_separator")]
    pub key: Option<String>,
    /// Lines are KEY SEPARATOR VALUE; \t, \xHH and the like are understood
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = separator)]
    pub key_separator: Option<Separator>,
    /// One record with the key and no value, which deletes the key from a compacted topic
    #[arg(long, requires = "key", conflicts_with_all = ["values", "file"])]
    pub tombstone: bool,
    /// A header of every record, may be repeated; NAME alone has no value
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, Option<String>)>,
    /// Compression of the batches
    #[arg(short = 'z', long, value_name = "CODEC", value_parser = compression, default_value = "none")]
    pub compression: Compression,
    /// Who has to have a record before it counts: all replicas in sync, the leader (1), nobody (0)
    #[arg(short, long, value_enum, default_value_t)]
    pub acks: Acks,
    /// The partition; default: by the hash of the key, and without key from batch to batch another
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    #[default]
    All,
    #[value(name = "1", alias = "leader")]
    Leader,
    #[value(name = "0", alias = "none")]
    None,
}

#[derive(Debug, Args)]
pub struct TopicConsume {
    /// Names of topics
    #[arg(required = true, value_name = "TOPIC", value_parser = topic_name)]
    pub topics: Vec<TopicName>,
    /// %t topic, %p partition, %o offset, %k key, %v or %s value, %h headers, %T timestamp, %K %S lengths, \n \t \xHH
    #[arg(short = 'f', long = "print", value_name = "FORMAT", default_value = "%v\\n")]
    pub print: RecordFormat,
    #[arg(long, value_name = "POSITION", default_value = "start", allow_hyphen_values = true, help = from_help())]
    pub from: Position,
    /// Where to stop, before the record there; the same forms [default: the end at this moment]
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, conflicts_with = "follow")]
    pub to: Option<Position>,
    /// Stops after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Only these partitions
    #[arg(short, long = "partition", value_name = "N,..", value_delimiter = ',')]
    pub partitions: Vec<i32>,
    /// Joins this consumer group: reads what the group hands out, from where it was, and commits what is printed; --from
    /// is for partitions without a committed offset
    #[arg(short, long, value_name = "GROUP", conflicts_with = "partitions")]
    pub group: Option<String>,
    /// Waits for more records at the end
    #[arg(long)]
    pub follow: bool,
    /// Whether records of open and aborted transactions are shown
    #[arg(long, value_enum, default_value_t)]
    pub isolation: IsolationArg,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IsolationArg {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

impl From<IsolationArg> for Isolation {
    fn from(arg: IsolationArg) -> Self {
        match arg {
            IsolationArg::ReadUncommitted => Self::ReadUncommitted,
            IsolationArg::ReadCommitted => Self::ReadCommitted,
        }
    }
}

/// List, describe, reset and delete consumer groups
#[derive(Debug, Args)]
pub struct GroupCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    pub action: GroupAction,
}

#[derive(Debug, Subcommand)]
pub enum GroupAction {
    /// List groups
    List(GroupList),
    /// Show members, assignment, offsets and lag of groups
    Describe(GroupDescribe),
    /// Move the committed offsets of a group that has no members
    Reset(GroupReset),
    /// Delete groups that have no members, with their offsets
    Delete(GroupDelete),
}

#[derive(Debug, Args)]
pub struct GroupList {
    /// Only groups in these states: stable, empty, preparing_rebalance, completing_rebalance, ...
    #[arg(long = "state", value_name = "STATE,..", value_delimiter = ',')]
    pub states: Vec<String>,
}

#[derive(Debug, Args)]
pub struct GroupDescribe {
    /// Names of groups
    #[arg(required = true, value_name = "GROUP")]
    pub groups: Vec<String>,
}

#[derive(Debug, Args)]
pub struct GroupReset {
    /// Name of the group; one that does not exist yet is made
    pub group: String,
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, help = format!("Where the group goes on: {FORMS}"))]
    pub to: Position,
    /// A topic, or some of its partitions; may be repeated
    #[arg(long = "topic", value_name = "TOPIC[:P,..]", value_parser = topic_selection, required_unless_present = "all_topics")]
    pub topics: Vec<TopicSelection>,
    /// All topics for which the group has committed offsets
    #[arg(long, conflicts_with = "topics")]
    pub all_topics: bool,
    /// Only shows what would change (the default)
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
    /// Commits the new offsets
    #[arg(long)]
    pub execute: bool,
}

#[derive(Debug, Args)]
pub struct GroupDelete {
    /// Names of groups
    #[arg(required = true, value_name = "GROUP")]
    pub groups: Vec<String>,
}

/// List and describe transactions, find those that hang and abort them
#[derive(Debug, Args)]
pub struct TxnCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    pub action: TxnAction,
}

#[derive(Debug, Subcommand)]
pub enum TxnAction {
    /// List transactional ids
    List(TxnList),
    /// Show producers, states and partitions of transactional ids
    Describe(TxnDescribe),
    /// Abort the transaction of a partition that its coordinator does not know of
    Abort(TxnAbort),
    /// Find transactions that go on in partitions and that no coordinator knows of
    FindHanging(TxnFindHanging),
}

#[derive(Debug, Args)]
pub struct TxnList {
    /// Only ids in these states: Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort, Empty
    #[arg(long = "state", value_name = "STATE,..", value_delimiter = ',')]
    pub states: Vec<String>,
    /// Only ids of these producers
    #[arg(long = "producer-id", value_name = "ID,..", value_delimiter = ',')]
    pub producer_ids: Vec<i64>,
    /// Only transactions that have gone on for more than so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub longer_than: Option<Duration>,
    /// Only ids that this pattern matches as a whole
    #[arg(long, value_name = "REGEX")]
    pub pattern: Option<String>,
}

#[derive(Debug, Args)]
pub struct TxnDescribe {
    /// Transactional ids
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TxnAbort {
    /// The partition
    #[arg(value_name = "TOPIC:P", value_parser = topic_selection)]
    pub partition: TopicSelection,
    /// Where the transaction begins in it
    #[arg(long, value_name = "OFFSET", required_unless_present = "producer_id", conflicts_with_all = ["producer_id", "producer_epoch", "coordinator_epoch"])]
    pub start_offset: Option<i64>,
    /// Its producer
    #[arg(long, value_name = "ID", requires = "producer_epoch")]
    pub producer_id: Option<i64>,
    /// The epoch of its producer
    #[arg(long, value_name = "EPOCH", requires = "producer_id")]
    pub producer_epoch: Option<i16>,
    /// The epoch of its coordinator, as the partition knows it
    #[arg(long, value_name = "EPOCH", requires = "producer_id", default_value_t = 0)]
    pub coordinator_epoch: i32,
}

#[derive(Debug, Args)]
pub struct TxnFindHanging {
    /// A topic, or some of its partitions; may be repeated. All topics without it
    #[arg(long = "topic", value_name = "TOPIC[:P,..]", value_parser = topic_selection)]
    pub topics: Vec<TopicSelection>,
    /// Only partitions that this broker leads
    #[arg(long, value_name = "ID")]
    pub broker: Option<i32>,
    /// How long a transaction may take; as long as transaction.max.timeout.ms allows
    #[arg(long, value_name = "SECONDS", default_value = "900", value_parser = seconds)]
    pub max_timeout: Duration,
}

/// Describe the cluster, and take brokers out of it
#[derive(Debug, Args)]
pub struct ClusterCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    pub action: ClusterAction,
}

#[derive(Debug, Subcommand)]
pub enum ClusterAction {
    /// Show brokers, controller and features
    Describe(ClusterDescribe),
    /// Move everything off a broker and take it out of the cluster; can be interrupted and run again
    Decommission(ClusterDecommission),
    /// Move leaderships off a broker, and keep them off until --undo
    Drain(ClusterDrain),
}

#[derive(Debug, Args)]
pub struct ClusterDecommission {
    /// Its node.id
    #[arg(value_name = "BROKER")]
    pub broker: i32,
    /// Partitions that move at a time
    #[arg(long, value_name = "COUNT", default_value = "50", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub at_once: u16,
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ClusterDrain {
    /// Its node.id
    #[arg(value_name = "BROKER")]
    pub broker: i32,
    /// Let it lead again, also one that was to be decommissioned
    #[arg(long)]
    pub undo: bool,
}

#[derive(Debug, Args)]
pub struct ClusterDescribe {
    /// The APIs of the broker asked and their versions too
    #[arg(long)]
    pub apis: bool,
}

/// Describe and alter settings of topics, brokers and groups
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    pub action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Show settings
    Describe(ConfigDescribe),
    /// Change settings
    Alter(ConfigAlter),
}

/// Whose settings.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ConfigOwner {
    /// Of a topic
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// Of a broker by its id; `default`: of all brokers
    #[arg(long, value_name = "ID", value_parser = broker_owner)]
    pub broker: Option<BrokerOwner>,
    /// Of a group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

#[derive(Debug, Args)]
pub struct ConfigDescribe {
    #[command(flatten)]
    pub owner: ConfigOwner,
    /// Settings that have their default value too
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct ConfigAlter {
    #[command(flatten)]
    pub owner: ConfigOwner,
    /// Sets a setting, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
    /// Takes a setting back to its default, may be repeated
    #[arg(long, value_name = "KEY")]
    pub delete: Vec<String>,
    /// Adds to a setting that is a list, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub append: Vec<(String, String)>,
    /// Takes out of a setting that is a list, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub subtract: Vec<(String, String)>,
    /// Only let the broker check the request
    #[arg(long)]
    pub validate_only: bool,
}

/// Look into the files of a broker
#[derive(Debug, Args)]
pub struct DebugCommand {
    #[command(subcommand)]
    pub action: DebugAction,
}

#[derive(Debug, Subcommand)]
pub enum DebugAction {
    /// Print the batches of a segment file
    Log(DebugLog),
}

#[derive(Debug, Args)]
pub struct DebugLog {
    /// A `.log` file
    pub file: PathBuf,
}

fn from_help() -> String {
    format!("Where to begin: {FORMS}")
}
