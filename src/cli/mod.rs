//! The command line over the Kafka protocol, to any broker: `millstream topic|group|share-group|txn|cluster|user|config|debug`.
//!
//! Every command gives its result on standard output (a table or one JSON document) and, when it fails, one line on
//! standard error. Exit codes: 0 done, 1 the request failed, 2 wrong use.

mod args;
mod base64;
mod client;
mod cluster;
mod config;
mod debug;
mod failure;
mod group;
mod output;
mod partitioner;
mod position;
mod record_format;
mod resolve;
mod security;
mod settings;
mod share_group;
mod topic;
mod txn;
mod user;
mod values;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;

use args::{ClusterCommand, ConfigCommand, Connect, DebugCommand, GroupCommand, TopicCommand, TxnCommand};
use client::Client;
use failure::{Doing, Stop};
use share_group::ShareGroupCommand;
use user::UserCommand;

/// Asked when neither `--brokers` nor `MILLSTREAM_BROKERS` says otherwise.
const BROKERS_DEFAULT: &str = "127.0.0.1:9092";
const PORT_DEFAULT: u16 = 9092;

/// The subcommands that need no broker of their own. To be mounted beside `start` with `#[command(flatten)]`.
#[derive(Debug, Subcommand)]
pub enum Command {
    Topic(TopicCommand),
    Group(GroupCommand),
    ShareGroup(ShareGroupCommand),
    Txn(TxnCommand),
    Cluster(ClusterCommand),
    User(UserCommand),
    Config(ConfigCommand),
    Debug(DebugCommand),
}

/// Carries out a command and says how it ended.
pub async fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Topic(command) => topic::run(command).await,
        Command::Group(command) => group::run(command).await,
        Command::ShareGroup(command) => share_group::run(command).await,
        Command::Txn(command) => txn::run(command).await,
        Command::Cluster(command) => cluster::run(command).await,
        Command::User(command) => user::run(command).await,
        Command::Config(command) => config::run(command).await,
        Command::Debug(command) => debug::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            for line in stop.lines() {
                output::remark(&format!("millstream: {line}"));
            }
            ExitCode::from(stop.exit_code())
        }
    }
}

/// Reaches the cluster that the arguments name.
async fn connect(connect: &Connect) -> Result<Arc<Client>, Stop> {
    let from_environment = std::env::var("MILLSTREAM_BROKERS").ok().filter(|list| !list.is_empty());
    let list = connect.brokers.clone().or(from_environment).unwrap_or_else(|| BROKERS_DEFAULT.to_owned());
    let (addresses, security) = (addresses(&list)?, security::of(connect)?);
    Client::connect(addresses, connect.timeout, security).await.doing("cannot connect to the cluster")
}

/// `host`, `host:port`, `[v6]:port`, separated by commas.
fn addresses(list: &str) -> Result<Vec<String>, Stop> {
    let addresses: Vec<_> = list.split(',').map(str::trim).filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        return Err(Stop::Usage("no broker is named: HOST:PORT is needed".to_owned()));
    }
    let full = |address: &str| {
        let host_end = address.rfind(']').map_or(0, |at| at + 1);
        match address.get(host_end..).unwrap_or_default().rsplit_once(':') {
            None => Ok(format!("{address}:{PORT_DEFAULT}")),
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(address.to_owned()),
            Some(_) => Err(Stop::Usage(format!("`{address}` is no broker address: HOST:PORT is needed"))),
        }
    };
    addresses.into_iter().map(full).collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
        let consume = ["millstream", "topic", "consume", "a", "--from", "-1h", "--to", "-5", "-b", "h:1", "-p", "0,2"];
        let parsed = Arguments::try_parse_from(consume).expect("good use");
        let Command::Topic(topic) = parsed.command else { panic!("a topic command") };
        assert_eq!(topic.connect.brokers.as_deref(), Some("h:1"), "global options may stand last");
        let args::TopicAction::Consume(args) = topic.action else { panic!("consume") };
        assert_eq!((args.from, args.partitions), (position::Position::Ago(3_600_000), vec![0, 2]));
        for wrong in [
            &["topic", "produce", "a", "-k", "x", "-K", ","][..],
            &["topic", "consume", "a", "--to", "5", "--follow"],
            &["group", "reset", "g", "--to", "5", "--topic", "a", "--all-topics"],
            &["group", "reset", "g", "--to", "5", "--topic", "a", "--dry-run", "--execute"],
            &["config", "describe", "--topic", "a", "--broker", "1"],
            &["share-group", "reset", "g", "--to", "start"],
            &["share-group", "delete-offsets", "g", "--topic", "a:0"],
            &["txn", "abort", "a:0"],
            &["txn", "abort", "a:0", "--start-offset", "5", "--producer-id", "1"],
        ] {
            let words = ["millstream"].iter().chain(wrong);
            assert_eq!(Arguments::try_parse_from(words).err().map(|e| e.exit_code()), Some(2), "{wrong:?}");
        }
    }

    #[test]
    fn a_port_may_be_left_out() {
        let read = |list| addresses(list).map_err(|stop| stop.exit_code());
        assert_eq!(read("a:1, b"), Ok(vec!["a:1".to_owned(), "b:9092".to_owned()]));
        assert_eq!(read("[::1]"), Ok(vec!["[::1]:9092".to_owned()]));
        assert_eq!(read("[::1]:7"), Ok(vec!["[::1]:7".to_owned()]));
        assert_eq!(read("a:x"), Err(2));
        assert_eq!(read("a:0"), Err(2));
        assert_eq!(read(" , "), Err(2));
    }
}
