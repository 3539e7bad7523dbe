//! InitializeShareGroupState (83), ReadShareGroupState (84), WriteShareGroupState (85), DeleteShareGroupState (86) and
//! ReadShareGroupStateSummary (87): what the leaders of partitions and the coordinators of share groups ask the share
//! coordinators (KIP-932).
//!
//! All five name share-partitions of one group and are answered for each; each has its own coordinator.

mod nodes;
mod requests;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::GroupId;
use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::coordinator::share_state::{Command, Reply, ShareStateKey};
use millstream_core::security::Operation;
use millstream_core::types::TopicId;
use uuid::Uuid;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::{Asked, coordinator_key};
use crate::protocol::{Decode, Encode, RequestBody, StrBytes};

pub use nodes::ShareStateNodes;

/// Whether a request is carried out, or what is said instead.
type Allowed = Result<(), ResponseError>;

/// A request that share coordinators carry out.
pub trait StateRequest: RequestBody<Response: Encode + Send> + Encode + Decode + Send + Sync + 'static {
    /// The version that nodes speak.
    const VERSION: i16;

    /// By the coordinators of this node. `allowed`: not to a client that may not act as a node; it is told so of every
    /// share-partition.
    fn carry_out(self, context: &Context, allowed: Allowed) -> impl Future<Output = Self::Response> + Send;
}

pub fn handle<'a, Q: StateRequest>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        match request.decode::<Q>() {
            Ok(asked) => {
                let allowed = request.access.check(Operation::ClusterAction, Resource::Cluster);
                Outcome::reply(&request.header, &asked.carry_out(context, allowed).await)
            }
            Err(close) => close,
        }
    })
}

/// Why a share-partition has no answer.
type Refused = (ResponseError, String);

/// An answer for a share-partition, or the way to one.
enum Asking {
    Asked(Asked<Reply>),
    Refused(Refused),
}

/// Puts a command for each share-partition to its coordinator, then waits for all: their commits share a flush. An empty
/// group has no answers, as with Kafka.
async fn ask_each<P>(
    context: &Context,
    allowed: Allowed,
    group: &str,
    topics: Vec<(Uuid, Vec<P>)>,
    partition_of: impl Fn(&P) -> i32,
    command: impl Fn(About, P) -> Result<Command, Refused>,
) -> Vec<(Uuid, Vec<(i32, Result<Reply, Refused>)>)> {
    let Some(group) = GroupId::new(group).ok().filter(|group| !group.is_empty()) else { return Vec::new() };
    let mut asked = Vec::with_capacity(topics.len());
    for (topic, partitions) in topics {
        let partition_count = context.find_by_id(topic).map_or(0, |topic| topic.partition_count);
        let mut rows = Vec::with_capacity(partitions.len());
        for one in partitions {
            let partition = partition_of(&one);
            if let Err(error) = allowed {
                rows.push((partition, Asking::Refused((error, error.to_string()))));
                continue;
            }
            let key = ShareStateKey { group: group.clone(), topic: TopicId(topic), partition };
            let name = coordinator_key(&key);
            let about = About { key, is_known: (0..partition_count).contains(&partition) };
            rows.push((partition, ask(context, &name, command(about, one)).await));
        }
        asked.push((topic, rows));
    }
    let mut answered = Vec::with_capacity(asked.len());
    for (topic, rows) in asked {
        let mut answers = Vec::with_capacity(rows.len());
        for (partition, asking) in rows {
            answers.push((partition, answer(context, asking).await));
        }
        answered.push((topic, answers));
    }
    answered
}

/// Which share-partition a command is about.
struct About {
    key: ShareStateKey,
    is_known: bool,
}

async fn ask(context: &Context, name: &str, command: Result<Command, Refused>) -> Asking {
    let command = match command {
        Ok(command) => command,
        Err(refused) => return Asking::Refused(refused),
    };
    match context.share_states.ask_for(name, |token| with_token(command, token)).await {
        Ok(asked) => Asking::Asked(asked),
        Err(error) => Asking::Refused(errors::of_share_coordinator(error)),
    }
}

async fn answer(context: &Context, asking: Asking) -> Result<Reply, Refused> {
    let within = context.share_states.config().write_timeout;
    match asking {
        Asking::Asked(asked) => asked.reply_within(within).await.map_err(errors::of_share_coordinator),
        Asking::Refused(refused) => Err(refused),
    }
}

/// Commands are made before there is a token for who waits.
const NO_TOKEN: ReplyToken = ReplyToken(0);

fn with_token(mut command: Command, to: ReplyToken) -> Command {
    match &mut command {
        Command::Initialize(of) => of.token = to,
        Command::Read(of) => of.token = to,
        Command::Write(of) => of.token = to,
        Command::Delete(of) => of.token = to,
        Command::ReadSummary(of) => of.token = to,
        Command::Loaded | Command::TopicsDeleted { .. } => {}
    }
    command
}

/// The code and the text of an answer's row.
fn code_of<T>(outcome: &Result<T, Refused>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(_) => (0, None),
        Err((error, message)) => (error.code(), Some(StrBytes::from_string(message.clone()))),
    }
}
