//! Partitions of share groups come to the share coordinators, and then to members.

use std::collections::BTreeSet;
use std::sync::Mutex;

use millstream_core::coordinator::group::consumer::{KnownTopic, Surroundings, Target, Topics};
use millstream_core::coordinator::group::share::{InitializeShares, ShareCommand, ShareHeartbeat, ShareReply};

use super::*;
use crate::coordinator::{Kept, KeptPartitions, ShareKeeping, ShareSummaries};

/// Kafka's COORDINATOR_NOT_AVAILABLE.
const NOT_AVAILABLE: i16 = 15;

/// Share coordinators that fail so many times.
struct Keepers {
    fail: Mutex<usize>,
    asked: Mutex<Vec<InitializeShares>>,
}

impl ShareKeeping for Keepers {
    fn initialize(&self, asked: InitializeShares) -> Kept<KeptPartitions> {
        let mut fail = self.fail.lock().unwrap();
        let code = if *fail > 0 { NOT_AVAILABLE } else { 0 };
        *fail = fail.saturating_sub(1);
        let of_topic = |of: &std::collections::BTreeMap<i32, _>| of.keys().map(|index| (*index, code)).collect();
        let results = asked.topics.iter().map(|(id, of)| (*id, of_topic(of))).collect();
        self.asked.lock().unwrap().push(asked);
        Box::pin(std::future::ready(results))
    }

    fn summaries(&self, _group: GroupId, _topics: Target) -> Kept<ShareSummaries> {
        Box::pin(std::future::ready(ShareSummaries::new()))
    }

    fn delete(&self, _group: GroupId, topics: Target) -> Kept<KeptPartitions> {
        let results = topics.into_iter().map(|(id, of)| (id, of.into_iter().map(|index| (index, 0)).collect()));
        Box::pin(std::future::ready(results.collect()))
    }
}

fn beat(epoch: i32) -> impl Fn(ReplyToken) -> Command + Clone {
    move |token| {
        Command::Share(ShareCommand::Heartbeat(ShareHeartbeat {
            token,
            group: group("readers"),
            member: MemberId::new("m").unwrap(),
            epoch,
            rack: None,
            client_id: ClientId::new("client").unwrap(),
            client_host: ClientHost::new("/127.0.0.1").unwrap(),
            topics: (epoch == 0).then(|| Arc::new(BTreeSet::from([Arc::from("orders")]))),
        }))
    }
}

/// Beats until the member has something, as clients do.
fn assigned(node: &Node) -> Target {
    let (mut epoch, started) = (0, std::time::Instant::now());
    loop {
        match node.ask("readers", beat(epoch)) {
            Reply::Share(ShareReply::Heartbeat(Ok(beaten))) => match beaten.assignment {
                Some(target) if !target.is_empty() => return target,
                _ => epoch = beaten.epoch,
            },
            // Topics may have been told after this: the next heartbeat finds them.
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is assigned");
        node.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }
}

#[test]
fn members_get_what_the_share_coordinators_have() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_unfollowed(dir.path(), true);
    let topic = KnownTopic::new(ORDERS, TopicName::new("orders").unwrap(), &[Vec::new(), Vec::new()]);
    let topics = Arc::new(Topics::new(1, [Arc::new(topic)], &Topics::default()));
    let told = || node.groups.set_surroundings(Surroundings { topics: topics.clone(), ..Surroundings::default() });
    told();
    let keepers = Arc::new(Keepers { fail: Mutex::new(2), asked: Mutex::default() });
    node.keepers.connect(keepers.clone());
    node.follow();
    let expected = Target::from([(ORDERS, BTreeSet::from([0, 1]))]);
    assert_eq!(assigned(&node), expected);
    let asked = keepers.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 3, "two failed: {asked:?}");
    assert!(asked.iter().all(|asked| asked.epoch == 2 && asked.topics[&ORDERS].len() == 2), "{asked:?}");
    node.stop();
    // What was stored is there again, and nobody is asked for it.
    let node = Node::start_unfollowed(dir.path(), false);
    node.groups.set_surroundings(Surroundings { topics, ..Surroundings::default() });
    node.follow();
    assert_eq!(assigned(&node), expected);
}
