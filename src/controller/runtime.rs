//! The task that owns the image: it follows what is committed, and where it leads, decides what will be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use millstream_core::config::BrokerConfig;
use millstream_core::controller::{Command, ConfigOwner, Image, LOGIN_SECRET_BYTES, first_user, form_cluster};
use millstream_core::record::{BatchBuilder, BatchHeader};
use millstream_core::security::SALT_BYTES;
use millstream_core::types::{LeaderEpoch, Offset, Timestamp};
use rand::RngExt;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

use super::deleted::Deleted;
use super::fold::{FoldError, fold, put_changes};
use super::load::{self, LoadError, Loaded, tell_peers};
use super::reconcile::Reconciler;
use super::{
    ASKS_MAX, Ask, Controller, ControllerError, Finish, Founding, Job, Published, balance, drain, leader, moves, raise,
};
use crate::config::FirstUsers;
use crate::partition::{AppendError, FetchWait, Leadership, Partition, Partitions};
use crate::rpc::Rpc;
use crate::store::{Batch, Durability, Store};
use crate::telemetry::spawn_essential;

/// Appends that wait for their commit. Beyond: jobs wait.
const IN_FLIGHT_MAX: usize = 64;
/// How soon a log that could not be read is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the controller works with.
pub struct Start {
    pub partitions: Arc<Partitions>,
    pub store: Arc<Store>,
    /// Settings as the broker was started with them.
    pub settings: BrokerConfig,
    pub founding: Founding,
    /// The way to other nodes, if there are any.
    pub rpc: Option<Arc<Rpc>>,
}

/// Loads the image, opens every partition of this node, and starts the task. Does not wait for a leader where there
/// are other voters.
pub async fn start(start: Start) -> Result<Arc<Controller>, LoadError> {
    let Start { partitions, store, settings, founding, rpc } = start;
    let Loaded { partition, image, next } = load::load(&partitions, &store, &founding).await?;
    let settings = Arc::new(settings);
    let published = Arc::new(ArcSwap::from_pointee(Published {
        settings: Arc::new(image.broker_config(&settings)),
        image: image.clone(),
    }));
    let (asks, mailbox) = mpsc::channel(ASKS_MAX);
    let (changed, changes) = watch::channel(());
    let mut runtime = Runtime {
        partition,
        reconciler: Reconciler::new(partitions.clone(), founding.founders.clone()),
        partitions: partitions.clone(),
        store,
        settings,
        founding,
        image,
        next,
        leading: None,
        lost: None,
        published: published.clone(),
        changed,
        unsaved: Vec::new(),
        deleted: Arc::default(),
    };
    let deleted = runtime.deleted.clone();
    tell_peers(&runtime.partitions, &runtime.founding, &runtime.image);
    // As soon as they are open, replicas catch up.
    tell_rates(&runtime.partitions, &published.load().settings);
    runtime.reconciler.open_all(&published.load()).await;
    // A node that is alone leads already: what comes next may rest on it.
    runtime.look_at_leadership().await;
    spawn_essential("controller", runtime.run(mailbox));
    let controller =
        Arc::new(Controller { partitions, rpc, asks, published, changes, producer_ids: Default::default(), deleted });
    if controller.rpc.is_some() {
        tokio::spawn(catch_up(controller.clone()));
        tokio::spawn(balance::run(Arc::downgrade(&controller)));
        tokio::spawn(drain::run(Arc::downgrade(&controller)));
        tokio::spawn(raise::run(Arc::downgrade(&controller)));
        tokio::spawn(moves::run(Arc::downgrade(&controller)));
    }
    Ok(controller)
}

/// Brings the rates to which replication is throttled to the partitions.
fn tell_rates(partitions: &Partitions, settings: &BrokerConfig) {
    let rate = |name| match settings.integer(name) {
        i64::MAX => u64::MAX,
        rate => u64::try_from(rate).unwrap_or(0),
    };
    partitions
        .set_throttled_rates(rate("leader.replication.throttled.rate"), rate("follower.replication.throttled.rate"));
}

/// Tells the task when the image is no older than the start of this node.
async fn catch_up(controller: Arc<Controller>) {
    controller.caught_up().await;
    // An error: the task has ended.
    drop(controller.asks.send(Ask::CaughtUp).await);
}

/// A change that is appended, or an answer that rests on one.
struct InFlight {
    committed: oneshot::Receiver<Result<(), AppendError>>,
    /// What `committed` said; it says it once.
    outcome: Option<Result<(), AppendError>>,
    next_offset: Offset,
    finish: Vec<Finish>,
}

/// What the leader of the log has beyond everybody else.
struct Leading {
    epoch: LeaderEpoch,
    /// With everything appended, committed or not.
    newest: Image,
    in_flight: VecDeque<InFlight>,
}

struct Runtime {
    partition: Arc<Partition>,
    partitions: Arc<Partitions>,
    store: Arc<Store>,
    reconciler: Reconciler,
    settings: Arc<BrokerConfig>,
    founding: Founding,
    /// With everything that is committed, as far as it was read.
    image: Image,
    /// Where to read on.
    next: Offset,
    leading: Option<Leading>,
    /// The epoch in which something appended failed: what of it will be there nobody knows before the next.
    lost: Option<LeaderEpoch>,
    published: Arc<ArcSwap<Published>>,
    changed: watch::Sender<()>,
    /// Committed, but the store did not take them: they go with the next, so that none is behind the applied offset.
    unsaved: Vec<Command>,
    deleted: Arc<Deleted>,
}

/// Why the task does something.
enum Event {
    /// Something is committed, or failed, or somebody else leads.
    Moved,
    Asked(Option<Ask>),
}

impl Runtime {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Ask>) {
        let wait = FetchWait::register(vec![self.partition.clone()]);
        let partition = self.partition.clone();
        loop {
            // What moves from here on is not missed.
            let mark = wait.mark();
            let leadership = partition.leadership();
            let is_read = self.catch_up().await;
            self.look_at_leadership().await;
            self.answer();
            self.form().await;
            let in_flight = self.leading.as_mut().map(|leading| &mut leading.in_flight);
            let room = in_flight.as_ref().is_none_or(|in_flight| in_flight.len() < IN_FLIGHT_MAX);
            let oldest =
                in_flight.and_then(|in_flight| in_flight.front_mut()).filter(|oldest| oldest.outcome.is_none());
            let event = tokio::select! {
                biased;
                _ = partition.leadership_other_than(leadership) => Event::Moved,
                () = async { oldest.expect("guarded").wait().await }, if oldest.is_some() => Event::Moved,
                () = wait.woken(mark, 1) => Event::Moved,
                ask = mailbox.recv(), if room => Event::Asked(ask),
                () = tokio::time::sleep(RETRY_AFTER), if !is_read => Event::Moved,
            };
            match event {
                Event::Moved => {}
                Event::Asked(Some(Ask::Change(job))) => self.carry_out(job).await,
                Event::Asked(Some(Ask::CaughtUp)) => self.reconciler.discard_strays(&self.image).await,
                Event::Asked(None) => return,
            }
        }
    }

    /// Carries out all that is committed, and publishes it. False: the log could not be read.
    async fn catch_up(&mut self) -> bool {
        let from = self.next;
        let mut is_read = true;
        while is_read && self.next < self.partition.high_watermark() {
            let (partition, image, next) = (self.partition.clone(), self.image.clone(), self.next);
            let folding = tokio::task::spawn_blocking(move || fold(&partition, image, next));
            match folding.await.expect("folding does not panic") {
                Ok(step) => {
                    (self.image, self.next) = (step.image, step.next);
                    self.unsaved.extend(step.commands);
                    self.save();
                }
                Err(FoldError::Read(e)) => {
                    tracing::error!(error = %e, "metadata log could not be read, will retry");
                    is_read = false;
                }
                // Going on without what it says would make another cluster of this node.
                Err(e @ (FoldError::Command(_) | FoldError::Batch { .. })) => panic!("{e}"),
            }
        }
        if self.next > from {
            self.publish().await;
        }
        is_read
    }

    /// Stores what changed, beside the offset up to which it did.
    fn save(&mut self) {
        let mut batch = Batch::default();
        put_changes(&mut batch, &self.image, &self.unsaved);
        batch.put_metadata_applied(self.next);
        match self.store.write(batch, Durability::Buffered) {
            Ok(()) => self.unsaved.clear(),
            // The log has it: a start before the next change replays it.
            Err(e) => tracing::error!(error = %e, "metadata could not be stored"),
        }
    }

    async fn publish(&mut self) {
        let before = self.published.load_full();
        let own = |image: &Image| {
            (image.configs(&ConfigOwner::AllBrokers), image.configs(&ConfigOwner::Broker(self.settings.node_id())))
        };
        let settings = match own(&self.image) == own(&before.image) {
            true => before.settings.clone(),
            false => {
                let settings = Arc::new(self.image.broker_config(&self.settings));
                tell_rates(&self.partitions, &settings);
                settings
            }
        };
        if self.image.peers_by_node() != before.image.peers_by_node() {
            tell_peers(&self.partitions, &self.founding, &self.image);
        }
        let published = Arc::new(Published { settings, image: self.image.clone() });
        // First true on this node, then told: who reads of a new topic finds its partitions.
        self.reconciler.reconcile(&before, &published).await;
        self.deleted.note(&before.image, &published.image);
        self.published.store(published);
        self.changed.send_replace(());
    }

    /// Begins to decide where this node came to lead, and gives up what is under way where it does no more.
    async fn look_at_leadership(&mut self) {
        let epoch = self.partition.leading_epoch().filter(|epoch| self.lost.is_none_or(|lost| *epoch > lost));
        if epoch == self.leading.as_ref().map(|leading| leading.epoch) {
            return;
        }
        self.give_up();
        let Some(epoch) = epoch else { return };
        // All that earlier leaders appended, and that is there, is committed when a leader leads.
        if !self.catch_up().await {
            return;
        }
        self.leading = Some(Leading { epoch, newest: self.image.clone(), in_flight: VecDeque::new() });
        tracing::info!(%epoch, "deciding on metadata");
        // Nobody's image is newer than this one.
        self.reconciler.discard_strays(&self.image).await;
    }

    /// The first leader writes the first commands, before any other.
    async fn form(&mut self) {
        if self.leading.as_ref().is_some_and(|leading| leading.newest.cluster_id().is_none()) {
            let mut commands = form_cluster(&self.founding.cluster_id, &self.founding.founders);
            commands.extend(first_users(&self.founding.users));
            let finish: Finish = Box::new(|_| ());
            self.carry_out(Box::new(move |image| image.is_ok().then_some((commands, finish)))).await;
        }
    }

    /// What is appended may still come true.
    fn give_up(&mut self) {
        let Some(leading) = self.leading.take() else { return };
        tracing::info!(epoch = %leading.epoch, "deciding on metadata no more");
        for finish in leading.in_flight.into_iter().flat_map(|lost| lost.finish) {
            finish(Err(ControllerError::NotAvailable));
        }
    }

    async fn carry_out(&mut self, job: Job) {
        let Some(leading) = &mut self.leading else {
            let refused = match self.partition.leadership() {
                Leadership::Offline | Leadership::Leading => ControllerError::NotAvailable,
                Leadership::Starting | Leadership::Following => {
                    ControllerError::NotController { leader: leader(&self.partitions) }
                }
            };
            job(Err(refused));
            return;
        };
        let Some((commands, finish)) = job(Ok(&leading.newest)) else { return };
        if commands.is_empty() {
            match leading.in_flight.back_mut() {
                Some(last) => last.finish.push(finish),
                None => finish(Ok(())),
            }
            return;
        }
        match append(&self.partition, leading.epoch, &commands).await {
            Ok((next_offset, committed)) => {
                commands.iter().for_each(|command| leading.newest.apply(command));
                let finish = vec![finish];
                leading.in_flight.push_back(InFlight { committed, outcome: None, next_offset, finish });
            }
            Err(AppendError::NotLeader) => {
                finish(Err(ControllerError::NotController { leader: None }));
                self.give_up();
            }
            Err(error) => {
                tracing::error!(%error, "metadata could not be appended");
                finish(Err(ControllerError::NotAvailable));
            }
        }
    }

    /// Answers what is committed and carried out.
    fn answer(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        while let Some(oldest) = leading.in_flight.front_mut() {
            match oldest.outcome() {
                Some(Ok(())) if oldest.next_offset <= self.next => {}
                Some(Ok(())) | None => return,
                Some(Err(error)) => {
                    tracing::error!(%error, "metadata could not be committed");
                    self.lost = Some(leading.epoch);
                    return self.give_up();
                }
            }
            for finish in leading.in_flight.pop_front().into_iter().flat_map(|done| done.finish) {
                finish(Ok(()));
            }
        }
    }
}

impl InFlight {
    async fn wait(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some((&mut self.committed).await.unwrap_or(Err(AppendError::NotLeader)));
        }
    }

    /// What became of it, if that is known.
    fn outcome(&mut self) -> Option<Result<(), AppendError>> {
        if self.outcome.is_none() {
            self.outcome = match self.committed.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(TryRecvError::Closed) => Some(Err(AppendError::NotLeader)),
                Err(TryRecvError::Empty) => None,
            };
        }
        self.outcome.clone()
    }
}

/// One batch: a decision comes true as a whole or not at all.
async fn append(
    partition: &Partition,
    epoch: LeaderEpoch,
    commands: &[Command],
) -> Result<(Offset, oneshot::Receiver<Result<(), AppendError>>), AppendError> {
    let mut builder = BatchBuilder::new();
    for command in commands {
        builder.push(now(), None, Some(&command.encode()), &[]);
    }
    let bytes = builder.finish();
    let header = BatchHeader::parse(&bytes).expect("it was built here");
    let (appended, committed) = partition.append_metadata(epoch, header, bytes).await?;
    Ok((Offset(appended.last_offset.0 + 1), committed))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// With what salts of users that do not exist are made of.
fn first_users(users: &FirstUsers) -> Vec<Command> {
    let mut random = rand::rng();
    let secret: [u8; LOGIN_SECRET_BYTES] = random.random();
    let mut commands = vec![Command::SetLoginSecret { secret: secret.to_vec() }];
    for (user, password) in users.iter() {
        let salt: [u8; SALT_BYTES] = random.random();
        commands.extend(first_user(user, password, &salt));
    }
    commands
}
