//! `millstream topic`: one file for each action.

mod alter;
mod consume;
mod create;
mod delete;
mod describe;
mod list;
mod produce;
mod select;

use super::args::{TopicAction, TopicCommand};
use super::failure::Stop;

/// Topics in one request to create or delete: few enough for the broker to answer in time, many enough to be fast.
const TOPICS_PER_REQUEST: usize = 100;

pub async fn run(command: TopicCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    let format = command.connect.format;
    match command.action {
        TopicAction::Create(args) => create::run(&client, format, &args).await,
        TopicAction::List(args) => list::run(&client, format, &args).await,
        TopicAction::Describe(args) => describe::run(&client, format, &args).await,
        TopicAction::Alter(args) => alter::run(&client, format, &args).await,
        TopicAction::Delete(args) => delete::run(&client, format, &args).await,
        TopicAction::Produce(args) => produce::run(&client, format, args).await,
        TopicAction::Consume(args) => consume::run(&client, format, args).await,
    }
}
