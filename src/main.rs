//! The binary: arguments in, exit code out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use millstream::config::Flags;
use millstream::{cli, startup, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A broker that speaks the Kafka wire protocol, and its command line
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker in the foreground; the log goes to stderr, SIGTERM ends it
    Start(Start),
    #[command(flatten)]
    Cli(cli::Command),
}

/// Flags win over the environment (MILLSTREAM_LOG_SEGMENT_BYTES and so on), which wins over the file.
#[derive(Args)]
struct Start {
    /// Configuration: a YAML file, or a Kafka server.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Number of this node in its cluster [default: 1]
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    node_id: Option<String>,
    /// Data directory; made when it is missing [default: ./millstream-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where Kafka clients are served: HOST:PORT, or NAME://HOST:PORT,... [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where metrics and health are served over HTTP [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Where this node listens for the other nodes; not opened without this and --seeds [default: 127.0.0.1:33145]
    #[arg(long, value_name = "HOST:PORT")]
    rpc: Option<String>,
    /// --rpc of the nodes that form the cluster, the same list on each; for one that comes later, of some of them
    #[arg(long, value_name = "HOST:PORT,...")]
    seeds: Option<String>,
    /// Any setting, by Kafka's name where Kafka has it; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl From<Start> for Flags {
    fn from(start: Start) -> Self {
        let Start { config, node_id, data, listen, admin, rpc, seeds, set } = start;
        Self { config, node_id, data, listen, admin, rpc, seeds, set }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Start(start) => startup::run(&start.into()),
        Command::Cli(command) => match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(cli::run(command)),
            Err(e) => {
                telemetry::tell(&e.to_string());
                ExitCode::FAILURE
            }
        },
    }
}
