//! The task that owns the newest image.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use millstream_core::config::BrokerConfig;
use millstream_core::controller::{Command, ConfigOwner, Image};
use millstream_core::record::{BatchBuilder, BatchHeader};
use millstream_core::types::{Offset, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::load::{self, LoadError, put_changes};
use super::reconcile::Reconciler;
use super::{Controller, ControllerError, Finish, JOBS_MAX, Job, Published};
use crate::partition::{AppendError, Partition, Partitions};
use crate::store::{Batch, Durability, Store};
use crate::telemetry::spawn_essential;

/// Appends that wait for their commit. Beyond: jobs wait.
const IN_FLIGHT_MAX: usize = 64;
/// How often a failed metadata log is looked at.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the controller works with.
pub struct Start {
    pub partitions: Arc<Partitions>,
    pub store: Arc<Store>,
    /// Settings as the broker was started with them.
    pub settings: BrokerConfig,
}

/// Loads the image, opens every partition of this node, and starts the task.
pub async fn start(start: Start) -> Result<Arc<Controller>, LoadError> {
    let Start { partitions, store, settings } = start;
    let (partition, image) = load::load(&partitions, &store).await?;
    let settings = Arc::new(settings);
    let published = Arc::new(ArcSwap::from_pointee(Published {
        settings: Arc::new(image.broker_config(&settings)),
        image: image.clone(),
    }));
    let reconciler = Reconciler { partitions, node_id: settings.node_id() };
    reconciler.open_all(&published.load()).await;
    let (jobs, mailbox) = mpsc::channel(JOBS_MAX);
    let (changed, changes) = watch::channel(());
    let runtime = Runtime {
        partition,
        store,
        reconciler,
        settings,
        newest: image,
        published: published.clone(),
        changed,
        mailbox,
        in_flight: VecDeque::new(),
        unsaved: Vec::new(),
    };
    spawn_essential("controller", runtime.run());
    Ok(Arc::new(Controller { jobs, published, changes, producer_ids: Default::default() }))
}

/// A change that is appended, or an answer that rests on one.
struct InFlight {
    committed: oneshot::Receiver<Result<(), AppendError>>,
    next_offset: Offset,
    commands: Vec<Command>,
    image: Image,
    finish: Vec<Finish>,
}

struct Runtime {
    partition: Arc<Partition>,
    store: Arc<Store>,
    reconciler: Reconciler,
    settings: Arc<BrokerConfig>,
    /// With everything appended, committed or not.
    newest: Image,
    published: Arc<ArcSwap<Published>>,
    changed: watch::Sender<()>,
    mailbox: mpsc::Receiver<Job>,
    in_flight: VecDeque<InFlight>,
    /// Committed, but the store did not take them: they go with the next, so that none is behind the applied offset.
    unsaved: Vec<Command>,
}

impl Runtime {
    async fn run(mut self) {
        loop {
            let room = self.in_flight.len() < IN_FLIGHT_MAX;
            let committed = self.in_flight.front_mut().map(|f| &mut f.committed);
            tokio::select! {
                biased;
                done = async { committed.expect("guarded").await }, if committed.is_some() => {
                    match done.unwrap_or(Err(AppendError::NotLeader)) {
                        Ok(()) => self.commit().await,
                        Err(error) => self.start_anew(&error).await,
                    }
                }
                job = self.mailbox.recv(), if room => match job {
                    Some(job) => self.carry_out(job).await,
                    None => return,
                },
            }
        }
    }

    async fn carry_out(&mut self, job: Job) {
        let (commands, finish) = job(&self.newest);
        if commands.is_empty() {
            match self.in_flight.back_mut() {
                Some(last) => last.finish.push(finish),
                None => finish(Ok(())),
            }
            return;
        }
        let mut image = self.newest.clone();
        commands.iter().for_each(|command| image.apply(command));
        match append(&self.partition, &commands).await {
            Ok((next_offset, committed)) => {
                self.newest = image.clone();
                self.in_flight.push_back(InFlight { committed, next_offset, commands, image, finish: vec![finish] });
            }
            Err(error) => {
                tracing::error!(%error, "metadata could not be appended");
                finish(Err(ControllerError::NotAvailable));
            }
        }
    }

    /// The oldest change is committed: stored, published, made true here, answered.
    async fn commit(&mut self) {
        let Some(done) = self.in_flight.pop_front() else { return };
        let before = self.published.load_full();
        let mut batch = Batch::default();
        self.unsaved.extend(done.commands);
        put_changes(&mut batch, &done.image, &self.unsaved);
        batch.put_metadata_applied(done.next_offset);
        match self.store.write(batch, Durability::Buffered) {
            Ok(()) => self.unsaved.clear(),
            // The log has it: a start before the next change replays it.
            Err(e) => tracing::error!(error = %e, "metadata could not be stored"),
        }
        self.publish(&before, done.image).await;
        for finish in done.finish {
            finish(Ok(()));
        }
    }

    async fn publish(&mut self, before: &Published, image: Image) {
        let own = |image: &Image| {
            (image.configs(&ConfigOwner::AllBrokers), image.configs(&ConfigOwner::Broker(self.settings.node_id())))
        };
        let settings = match own(&image) == own(&before.image) {
            true => before.settings.clone(),
            false => Arc::new(image.broker_config(&self.settings)),
        };
        let published = Arc::new(Published { settings, image });
        // First true on this node, then told: who reads of a new topic finds its partitions.
        self.reconciler.reconcile(before, &published).await;
        self.published.store(published);
        self.changed.send_replace(());
    }

    /// The log failed under what was appended: nobody knows what of it will be there. Read again what is.
    async fn start_anew(&mut self, error: &AppendError) {
        tracing::error!(%error, "metadata could not be committed");
        for lost in self.in_flight.drain(..) {
            for finish in lost.finish {
                finish(Err(ControllerError::NotAvailable));
            }
        }
        loop {
            self.refuse_for(RETRY_AFTER).await;
            if !self.partition.is_leading() {
                continue;
            }
            match load::replay(&self.partition, &self.store).await {
                Ok(image) => {
                    self.newest = image.clone();
                    // Replayed from the last that is stored.
                    self.unsaved.clear();
                    let before = self.published.load_full();
                    return self.publish(&before, image).await;
                }
                Err(e) => tracing::error!(error = %e, "metadata could not be read again"),
            }
        }
    }

    /// Refuses what is asked meanwhile: nothing can be decided.
    async fn refuse_for(&mut self, time: Duration) {
        let until = tokio::time::sleep(time);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return,
                Some(job) = self.mailbox.recv() => {
                    let (_, finish) = job(&self.newest);
                    finish(Err(ControllerError::NotAvailable));
                }
            }
        }
    }
}

/// One batch: a decision comes true as a whole or not at all.
async fn append(
    partition: &Partition,
    commands: &[Command],
) -> Result<(Offset, oneshot::Receiver<Result<(), AppendError>>), AppendError> {
    let mut builder = BatchBuilder::new();
    for command in commands {
        builder.push(now(), None, Some(&command.encode()), &[]);
    }
    let bytes = builder.finish();
    let header = BatchHeader::parse(&bytes).expect("it was built here");
    let epoch = partition.leading_epoch().ok_or(AppendError::NotLeader)?;
    let (appended, committed) = partition.append_metadata(epoch, header, bytes).await?;
    Ok((Offset(appended.last_offset.0 + 1), committed))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
