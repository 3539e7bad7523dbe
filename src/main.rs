//! The binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millstream::cli;

/// A broker that speaks the Kafka wire protocol, and its command line
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Cli(cli::Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Cli(command) = Arguments::parse().command;
    cli::run(command).await
}
