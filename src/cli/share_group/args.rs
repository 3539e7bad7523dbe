//! The arguments of `millstream share-group`.

use clap::{Args, Subcommand};

use crate::cli::args::{GroupDelete, GroupDescribe, GroupList};
use crate::cli::connect::Connect;
use crate::cli::position::{FORMS, Position};
use crate::cli::values::{TopicSelection, topic_name, topic_selection};

/// List, describe, reset and delete share groups
#[derive(Debug, Args)]
pub struct ShareGroupCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    pub action: ShareGroupAction,
}

#[derive(Debug, Subcommand)]
pub enum ShareGroupAction {
    /// List share groups
    List(GroupList),
    /// Show members, assignment and start offsets of share groups
    Describe(GroupDescribe),
    /// Move the start offsets of a share group that has no members
    Reset(ShareGroupReset),
    /// Delete what a share group without members knows of topics
    DeleteOffsets(ShareGroupDeleteOffsets),
    /// Delete share groups that have no members, with their offsets
    Delete(GroupDelete),
}

#[derive(Debug, Args)]
pub struct ShareGroupReset {
    /// Name of the share group; one that does not exist yet is made
    pub group: String,
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, help = format!("Where the group goes on: {FORMS}"))]
    pub to: Position,
    /// A topic, or some of its partitions; may be repeated
    #[arg(long = "topic", value_name = "TOPIC[:P,..]", value_parser = topic_selection, required = true)]
    pub topics: Vec<TopicSelection>,
    /// Only shows what would change (the default)
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,
    /// Sets the new offsets
    #[arg(long)]
    pub execute: bool,
}

#[derive(Debug, Args)]
pub struct ShareGroupDeleteOffsets {
    /// Name of the share group
    pub group: String,
    /// A topic, may be repeated
    #[arg(long = "topic", value_name = "TOPIC", value_parser = topic_name, required = true)]
    pub topics: Vec<millstream_core::types::TopicName>,
}
