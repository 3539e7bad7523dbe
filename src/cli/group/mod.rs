//! `millstream group`: one file for each action.

mod assignment;
mod delete;
mod describe;
mod list;
mod members;
mod reset;
mod streams;

pub use assignment::read_assignment;
pub use delete::run as delete;
pub use list::run as list;

use super::args::{GroupAction, GroupCommand};
use super::failure::Stop;

pub async fn run(command: GroupCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    let format = command.connect.format;
    match command.action {
        GroupAction::List(args) => list::run(&client, format, &args, None).await,
        GroupAction::Describe(args) => describe::run(&client, format, &args).await,
        GroupAction::Reset(args) => reset::run(&client, format, &args).await,
        GroupAction::Delete(args) => delete::run(&client, format, &args).await,
    }
}
