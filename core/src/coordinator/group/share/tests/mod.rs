//! Lives of share groups: as stories, and at random.

mod property;
mod records;
mod script;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ids::{ClientHost, ClientId, GroupId, MemberId, ReplyToken};
use super::ShareHeartbeat;

fn names(names: &[&str]) -> Arc<BTreeSet<Arc<str>>> {
    Arc::new(names.iter().map(|name| Arc::from(*name)).collect())
}

fn beat(token: ReplyToken, member: &str, epoch: i32, topics: Option<&[&str]>) -> ShareHeartbeat {
    ShareHeartbeat {
        token,
        group: GroupId::new("g").unwrap(),
        member: MemberId::new(member).unwrap(),
        epoch,
        rack: None,
        client_id: ClientId::new("c").unwrap(),
        client_host: ClientHost::new("/127.0.0.1").unwrap(),
        topics: topics.map(names),
    }
}
