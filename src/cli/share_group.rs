//! `millstream share-group`: what is different of groups whose members work on the records of a partition together.

mod args;
mod describe;
mod offsets;

pub use args::ShareGroupCommand;

use self::args::ShareGroupAction;
use super::failure::Stop;
use super::group;

pub async fn run(command: ShareGroupCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    let format = command.connect.format;
    match command.action {
        ShareGroupAction::List(args) => group::list(&client, format, &args, Some("share")).await,
        ShareGroupAction::Describe(args) => describe::run(&client, format, &args).await,
        ShareGroupAction::Reset(args) => offsets::reset(&client, format, &args).await,
        ShareGroupAction::DeleteOffsets(args) => offsets::delete(&client, format, &args).await,
        ShareGroupAction::Delete(args) => group::delete(&client, format, &args).await,
    }
}
