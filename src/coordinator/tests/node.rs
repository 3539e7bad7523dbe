//! A node's group coordinators, and what clients ask of them.

use super::*;

/// A node's coordinators over a directory, in a runtime of their own: dropping it is a crash.
pub(super) struct Node {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) partitions: Arc<Partitions>,
    pub(super) groups: Arc<Groups>,
    pub(super) keepers: Arc<ShareKeepers>,
}

impl Node {
    pub(super) fn start(dir: &Path, newborn: bool) -> Self {
        let node = Self::start_unfollowed(dir, newborn);
        node.follow();
        node
    }

    pub(super) fn start_unfollowed(dir: &Path, newborn: bool) -> Self {
        Self::start_with(dir, newborn, &[PeerId(1)])
    }

    /// As one of the replicas of each partition, of which it is the first.
    pub(super) fn start_with(dir: &Path, newborn: bool, voters: &[PeerId]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let keepers = Arc::<ShareKeepers>::default();
        let (partitions, groups) = runtime.block_on(async {
            let store = Arc::new(Store::open(&dir.join("kv")).unwrap());
            let data = DataDir::open(dir, FlushConfig::default()).unwrap();
            let config = PartitionsConfig {
                shards: 2,
                producer_id_expiration_ms: 86_400_000,
                replica_lag_max: Duration::from_secs(30),
            };
            let partitions = Partitions::start(
                data,
                store.clone(),
                Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() },
                None,
                config,
            );
            let to_open = |partition| ToOpen {
                id: id(partition),
                name: TopicPartition { topic: TopicName::new("__consumer_offsets").unwrap(), partition },
                config: Arc::new(TopicConfig::default()),
                newborn,
                voters: voters.to_vec(),
                since: LogMark::default(),
                members: None,
                preferred: true,
            };
            let outcomes = partitions.open((0..COUNT).map(to_open).collect()).await;
            assert!(outcomes.iter().all(|o| o.failed.is_none()), "{outcomes:?}");
            let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
            (partitions.clone(), Groups::new(partitions, store, config, keepers.clone()))
        });
        Self { runtime, partitions, groups, keepers }
    }

    pub(super) fn follow(&self) {
        let _entered = self.runtime.enter();
        self.groups.follow(TOPIC, COUNT);
    }

    pub(super) fn stop(self) {
        self.runtime.block_on(async {
            self.groups.stop().await;
            self.partitions.stop().await;
        });
    }

    /// What a group's coordinator answers once it has loaded.
    pub(super) fn ask(&self, of: &str, command: impl Fn(ReplyToken) -> Command + Clone + Send + 'static) -> Reply {
        self.runtime.block_on(ask(&self.groups, of, command)).unwrap()
    }

    pub(super) fn commit(&self, of: &str, partition: i32, offset: i64) {
        let reply = self.ask(of, commit(of, partition, offset, "note"));
        assert!(matches!(reply, Reply::OffsetCommit(Ok(_))), "{reply:?}");
    }

    pub(super) fn committed(&self, of: &str, partition: i32) -> Option<(i64, String)> {
        let Reply::OffsetFetch(Ok(topics)) = self.ask(of, fetch(of, partition)) else { panic!("a fetch") };
        match &topics[0].partitions[0].1 {
            Fetched::Offset(found) => Some((found.offset.0, found.metadata.to_string())),
            Fetched::Nothing | Fetched::Unstable => None,
        }
    }

    pub(super) fn listed(&self) -> Vec<String> {
        let mut names = Vec::new();
        for partition in self.groups.coordinated() {
            let list = |token| Command::ListGroups(ListGroups { token, states: Vec::new(), types: Vec::new() });
            let reply =
                self.runtime.block_on(loaded(|| async { self.groups.ask(partition, list).await?.reply().await }));
            let Ok(Reply::ListGroups(listed)) = reply else { panic!("{reply:?}") };
            names.extend(listed.iter().map(|group| group.group.to_string()));
        }
        names
    }
}

/// Asks again as long as the coordinator loads, as clients do.
pub(super) async fn loaded<F: Future<Output = Result<Reply, CoordinatorError>>>(
    mut ask: impl FnMut() -> F,
) -> Result<Reply, CoordinatorError> {
    for _ in 0..3_000 {
        match ask().await {
            Err(CoordinatorError::LoadInProgress | CoordinatorError::NotAvailable) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
    panic!("the coordinator does not load")
}

pub(super) async fn ask(
    groups: &Groups,
    of: &str,
    command: impl Fn(ReplyToken) -> Command + Clone + Send + 'static,
) -> Result<Reply, CoordinatorError> {
    loaded(|| async { groups.ask_for(of, command.clone()).await?.reply().await }).await
}

pub(super) fn commit(
    of: &str,
    partition: i32,
    offset: i64,
    metadata: &str,
) -> impl Fn(ReplyToken) -> Command + Clone + use<> {
    let (of, metadata) = (group(of), metadata.to_owned());
    move |token| {
        let metadata = metadata.as_str().into();
        let partitions = vec![CommitPartition { partition, offset: Offset(offset), leader_epoch: None, metadata }];
        let topics = vec![CommitTopic { name: TopicName::new("orders").unwrap(), id: ORDERS, partitions }];
        Command::OffsetCommit(OffsetCommit {
            token,
            group: of.clone(),
            member: None,
            instance: None,
            generation: Generation(-1),
            retention_ms: None,
            knows_epochs: true,
            topics,
        })
    }
}

pub(super) fn fetch(of: &str, partition: i32) -> impl Fn(ReplyToken) -> Command + Clone + use<> {
    let of = group(of);
    move |token| {
        let topics =
            vec![FetchTopic { name: TopicName::new("orders").unwrap(), id: ORDERS, partitions: vec![partition] }];
        Command::OffsetFetch(OffsetFetch {
            token,
            group: of.clone(),
            topics: Some(topics),
            require_stable: false,
            member: None,
            epoch: -1,
        })
    }
}

pub(super) fn join(
    of: &str,
    member: Option<&str>,
    fresh: &str,
    metadata_len: usize,
) -> impl Fn(ReplyToken) -> Command + Clone + use<> {
    let join = JoinGroup {
        token: ReplyToken(0),
        group: group(of),
        member: member.map(|member| MemberId::new(member).unwrap()),
        fresh_member: MemberId::new(fresh).unwrap(),
        instance: None,
        client_id: ClientId::new("client").unwrap(),
        client_host: ClientHost::new("/127.0.0.1").unwrap(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 100,
        protocol_type: ProtocolType::new("connect").unwrap(),
        protocols: Arc::new([Protocol {
            name: ProtocolName::new("range").unwrap(),
            metadata: Bytes::from(vec![0; metadata_len]),
        }]),
        known_member_required: false,
        skips_assignment: false,
    };
    move |token| Command::JoinGroup(JoinGroup { token, ..join.clone() })
}

pub(super) fn sync(of: &str, joined: &Joined, share: usize) -> impl Fn(ReplyToken) -> Command + Clone + use<> {
    let sync = SyncGroup {
        token: ReplyToken(0),
        group: group(of),
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member.clone(), Bytes::from(vec![1; share]))],
    };
    move |token| Command::SyncGroup(SyncGroup { token, ..sync.clone() })
}
