//! The command line over the Kafka protocol, to any broker: `millstream topic|group|share-group|txn|cluster|user|acl|config|debug`.
//!
//! Every command gives its result on standard output (a table or one JSON document) and, when it fails, one line on
//! standard error. Exit codes: 0 done, 1 the request failed, 2 wrong use.

mod acl;
mod args;
mod base64;
mod client;
mod cluster;
mod config;
mod connect;
mod debug;
mod failure;
mod group;
mod output;
mod partitioner;
mod position;
mod record_format;
mod resolve;
mod settings;
mod share_group;
mod topic;
mod txn;
mod user;
mod values;

use std::process::ExitCode;

use clap::Subcommand;

use acl::AclCommand;
use args::{ClusterCommand, ConfigCommand, DebugCommand, GroupCommand, TopicCommand, TxnCommand};
use share_group::ShareGroupCommand;
use user::UserCommand;

/// The subcommands that need no broker of their own. To be mounted beside `start` with `#[command(flatten)]`.
#[derive(Debug, Subcommand)]
pub enum Command {
    Topic(TopicCommand),
    Group(GroupCommand),
    ShareGroup(ShareGroupCommand),
    Txn(TxnCommand),
    Cluster(ClusterCommand),
    User(UserCommand),
    Acl(AclCommand),
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
        Command::Acl(command) => acl::run(command).await,
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
}
