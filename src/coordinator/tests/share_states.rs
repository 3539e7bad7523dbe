//! What share coordinators keep is there after a stop, after a kill, and out of the log alone.

use millstream_core::coordinator::share_state::{
    self, InitializeState, ReadState, ShareState, ShareStateKey, WriteState,
};
use millstream_core::share::{DeliveryState, StateBatch};
use millstream_core::types::LeaderEpoch;

use super::*;

/// Share coordinators on the partitions of a node.
struct Keeper {
    node: Node,
    coordinators: Arc<ShareStateCoordinators>,
}

impl Keeper {
    fn start(dir: &Path, newborn: bool) -> Self {
        let node = Node::start_unfollowed(dir, newborn);
        let config = ShareStateConfig { write_timeout: Duration::from_secs(5) };
        let coordinators =
            ShareStateCoordinators::new(node.partitions.clone(), Arc::clone(node.groups.store()), config);
        {
            let _entered = node.runtime.enter();
            coordinators.follow(TOPIC, COUNT);
        }
        Self { node, coordinators }
    }

    fn stop(self) {
        self.node.runtime.block_on(self.coordinators.stop());
        self.node.stop();
    }

    /// Asks again as long as the coordinator loads.
    fn ask(
        &self,
        key: &ShareStateKey,
        command: impl Fn(ReplyToken) -> share_state::Command + Clone + Send + 'static,
    ) -> share_state::Reply {
        let name = coordinator_key(key);
        self.node.runtime.block_on(async {
            for _ in 0..3_000 {
                let asked = async { self.coordinators.ask_for(&name, command.clone()).await?.reply().await };
                match asked.await {
                    Err(CoordinatorError::LoadInProgress | CoordinatorError::NotAvailable) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    other => return other.unwrap(),
                }
            }
            panic!("the coordinator does not load")
        })
    }

    fn initialize(&self, at: i32) {
        let command = move |token| {
            share_state::Command::Initialize(InitializeState {
                token,
                key: key(at),
                is_known: true,
                state_epoch: Some(1),
                start: Some(Offset(0)),
            })
        };
        assert_eq!(self.ask(&key(at), command), share_state::Reply::Initialize(Ok(())));
    }

    fn write(&self, at: i32, start: i64) {
        let batch = StateBatch {
            first: Offset(start + 5),
            last: Offset(start + 6),
            state: DeliveryState::Acknowledged,
            delivery_count: 1,
        };
        let command = move |token| {
            share_state::Command::Write(WriteState {
                token,
                key: key(at),
                is_known: true,
                state_epoch: Some(1),
                leader_epoch: Some(LeaderEpoch(1)),
                start: Some(Offset(start)),
                delivery_complete: 2,
                batches: vec![batch],
            })
        };
        assert_eq!(self.ask(&key(at), command), share_state::Reply::Write(Ok(())));
    }

    fn read(&self, at: i32) -> Result<ShareState, share_state::ShareStateError> {
        let command = move |token| {
            share_state::Command::Read(ReadState { token, key: key(at), is_known: true, leader_epoch: None })
        };
        match self.ask(&key(at), command) {
            share_state::Reply::Read(read) => read,
            other => panic!("{other:?}"),
        }
    }

    fn check(&self, at: i32, start: i64) {
        let state = self.read(at).unwrap();
        let ranges: Vec<_> = state.batches.iter().map(|batch| (batch.first.0, batch.last.0)).collect();
        assert_eq!(
            (state.start, state.delivery_complete, ranges),
            (Some(Offset(start)), 2, vec![(start + 5, start + 6)])
        );
    }
}

fn key(partition: i32) -> ShareStateKey {
    ShareStateKey { group: group("readers"), topic: ORDERS, partition }
}

#[test]
fn what_is_kept_of_share_partitions_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::start(dir.path(), true);
    for at in 0..10 {
        keeper.initialize(at);
        keeper.write(at, i64::from(at));
    }
    keeper.stop();
    let keeper = Keeper::start(dir.path(), false);
    for at in 0..10 {
        keeper.check(at, i64::from(at));
        keeper.write(at, 100 + i64::from(at));
    }
    // A crash.
    drop(keeper);
    forget_materialised(dir.path());
    let keeper = Keeper::start(dir.path(), false);
    (0..10).for_each(|at| keeper.check(at, 100 + i64::from(at)));
    assert_eq!(keeper.node.runtime.block_on(keeper.coordinators.counts()), 10);
    assert_eq!(keeper.read(10), Err(share_state::ShareStateError::ReadUninitialized));
    keeper.stop();
}

#[test]
fn what_is_kept_of_a_topic_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::start(dir.path(), true);
    keeper.initialize(0);
    let name = TopicName::new("orders").unwrap();
    let other = TopicId(Uuid::from_u128(8));
    keeper.node.runtime.block_on(keeper.coordinators.topics_deleted(Arc::from([(name.clone(), other)])));
    assert!(keeper.read(0).is_ok());
    keeper.node.runtime.block_on(keeper.coordinators.topics_deleted(Arc::from([(name, ORDERS)])));
    assert_eq!(keeper.read(0), Err(share_state::ShareStateError::ReadUninitialized));
    drop(keeper);
    let keeper = Keeper::start(dir.path(), false);
    assert_eq!(keeper.read(0), Err(share_state::ShareStateError::ReadUninitialized));
    keeper.stop();
}
