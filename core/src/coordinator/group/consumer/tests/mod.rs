//! Lives of consumer groups: as stories, at random, and large ones.

mod large;
mod property;
mod records;
mod script;

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::coordinator::group::consumer::{KnownTopic, Surroundings, Target, Topics};
use crate::coordinator::group::{ClientHost, ClientId, ConsumerHeartbeat, GroupId, MemberId, ReplyToken};
use crate::types::{TopicId, TopicName};

pub(in super::super) use script::show_target;

/// Topics by name and number of partitions; a name always has the same id.
pub(in super::super::super) fn topics(version: i64, named: &[(&str, usize)], before: &Topics) -> Topics {
    let topic = |(name, count): &(&str, usize)| {
        Arc::new(KnownTopic::new(topic_id(name), TopicName::new(name).unwrap(), &vec![Vec::new(); *count]))
    };
    Topics::new(version, named.iter().map(topic), before)
}

pub(in super::super::super) fn topic_id(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    TopicId(Uuid::from_bytes(bytes))
}

pub(in super::super::super) fn surroundings(topics: Topics) -> Surroundings {
    Surroundings { topics: Arc::new(topics), ..Surroundings::default() }
}

fn names(names: &[&str]) -> Arc<BTreeSet<Arc<str>>> {
    Arc::new(names.iter().map(|name| Arc::from(*name)).collect())
}

/// A first heartbeat.
pub(in super::super::super) fn join(
    token: ReplyToken,
    group: &str,
    member: &str,
    topics: &[&str],
) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        epoch: 0,
        rebalance_timeout_ms: Some(600_000),
        topics: Some(names(topics)),
        owned: Some(Target::new()),
        ..beat(token, group, member, 0)
    }
}

/// One that says nothing but that the member lives.
fn beat(token: ReplyToken, group: &str, member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        token,
        group: GroupId::new(group).unwrap(),
        member: Some(MemberId::new(member).unwrap()),
        fresh_member: MemberId::new("fresh").unwrap(),
        epoch,
        instance: None,
        rack: None,
        client_id: ClientId::new("c").unwrap(),
        client_host: ClientHost::new("/127.0.0.1").unwrap(),
        rebalance_timeout_ms: None,
        topics: None,
        pattern: None,
        assignor: None,
        owned: None,
    }
}
