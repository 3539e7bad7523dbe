//! The life of one coordinator's task: load, serve, and begin anew when its log fails.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use millstream_core::types::LeaderEpoch;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::CoordinatorError;
use super::follower::Follower;
use super::load::{LoadError, load};
use super::machine::Machine;
use super::materialise::Materialised;
use super::turn::{Ask, Effects, Lost, Serving, answer};
use crate::partition::{AppendError, Leadership, Partition};
use crate::store::Store;

/// How long a coordinator whose log failed waits before it loads again.
const RELOAD_AFTER: Duration = Duration::from_secs(1);
/// Deletions of topics that are remembered while there is no state. Beyond: the oldest are forgotten, which leaves the
/// committed offsets of those topics to be deleted with their groups.
const PUT_OFF_MAX: usize = 1_024;
/// Asks that one turn takes.
const TURN_MAX: usize = 256;

pub(super) struct Runtime<M: Machine> {
    partition: Arc<Partition>,
    store: Arc<Store>,
    config: Arc<M::Config>,
    effects: Effects<M>,
    mailbox: mpsc::Receiver<Ask<M>>,
    is_loaded: watch::Sender<bool>,
    surroundings: watch::Receiver<Option<M::Command>>,
    /// What could not be carried out while there was no state: as few as topics that are deleted meanwhile.
    put_off: VecDeque<M::Command>,
    /// Loads that failed one after the other: only the first is worth a line in the log.
    failures: u64,
}

/// Nobody can ask any more.
struct Ended;

/// Why a coordinator cannot answer whose partition this node does not lead.
fn unless_leading(partition: &Partition) -> CoordinatorError {
    match partition.leadership() {
        // Since the start nobody was heard of to lead: it may well be this node, in a moment. To be told of another
        // coordinator is the end for some clients: librdkafka (2.12) never asks again for the offsets that it begins from.
        Leadership::Following if partition.leader_epoch() == LeaderEpoch(0) => CoordinatorError::LoadInProgress,
        Leadership::Following => CoordinatorError::NotCoordinator,
        Leadership::Starting | Leadership::Leading => CoordinatorError::LoadInProgress,
        Leadership::Offline => CoordinatorError::NotAvailable,
    }
}

impl<M: Machine> Runtime<M> {
    pub(super) fn new(
        partition: Arc<Partition>,
        store: Arc<Store>,
        config: Arc<M::Config>,
        effects: Effects<M>,
        mailbox: mpsc::Receiver<Ask<M>>,
        is_loaded: watch::Sender<bool>,
    ) -> Self {
        Self {
            partition,
            store,
            config,
            effects,
            mailbox,
            is_loaded,
            surroundings: watch::channel(None).1,
            put_off: VecDeque::new(),
            failures: 0,
        }
    }

    /// With what is told before it serves, and whenever it changes.
    pub(super) fn in_surroundings(mut self, surroundings: watch::Receiver<Option<M::Command>>) -> Self {
        self.surroundings = surroundings;
        self
    }

    /// Ends when nobody can ask any more and all that was appended is committed.
    pub(super) async fn run(mut self) {
        while let Ok(()) = self.live().await {}
    }

    /// From a load to the next.
    async fn live(&mut self) -> Result<(), Ended> {
        let epoch = self.wait_for_leadership().await?;
        let state = match self.load().await? {
            Ok(state) => state,
            Err(e) => {
                self.failed(&e.to_string());
                return self.refuse_for(RELOAD_AFTER, CoordinatorError::NotAvailable).await;
            }
        };
        self.failures = 0;
        self.is_loaded.send_replace(true);
        let mut serving = Serving::new(self.partition.clone(), self.store.clone(), state, epoch, self.effects.clone());
        let served = unwinding(self.serve(&mut serving, epoch)).await;
        self.is_loaded.send_replace(false);
        let stepped_down = match served {
            Some(Ok(())) => return Err(Ended),
            Some(Err(Lost(AppendError::NotLeader))) if self.partition.leading_epoch() != Some(epoch) => {
                tracing::debug!(partition = %self.partition.name, "coordinator stepped down");
                true
            }
            Some(Err(Lost(e))) => {
                self.failed(&e.to_string());
                false
            }
            // One command must not take the state of a partition with it for good: its effect was in memory only.
            None => {
                self.failed("the state machine panicked");
                false
            }
        };
        serving.end();
        match stepped_down {
            true => Ok(()),
            false => self.refuse_for(RELOAD_AFTER, CoordinatorError::NotAvailable).await,
        }
    }

    fn failed(&mut self, error: &str) {
        self.failures += 1;
        let partition = &self.partition.name;
        if self.failures == 1 {
            tracing::error!(%partition, %error, "coordinator lost its state, loading it again");
        } else {
            tracing::debug!(%partition, %error, failures = self.failures, "coordinator is still without its state");
        }
    }

    /// Until this node leads, others are told so, and what is committed is stored.
    async fn wait_for_leadership(&mut self) -> Result<LeaderEpoch, Ended> {
        let mut follower = Follower::new(self.partition.clone(), self.store.clone());
        let epoch = self.follow(&mut follower).await;
        follower.end().await;
        epoch
    }

    async fn follow(&mut self, follower: &mut Follower) -> Result<LeaderEpoch, Ended> {
        let partition = self.partition.clone();
        let mut following = pin!(follower.follow());
        loop {
            let leadership = partition.leadership();
            if let Some(epoch) = partition.leading_epoch() {
                return Ok(epoch);
            }
            tokio::select! {
                _ = partition.leadership_other_than(leadership) => {}
                ask = self.mailbox.recv() => self.refuse(ask, unless_leading(&partition))?,
                () = &mut following, if leadership == Leadership::Following => {}
            }
        }
    }

    /// Loads while those who ask are told to come back.
    async fn load(&mut self) -> Result<Result<(M, Materialised), LoadError>, Ended> {
        let (partition, store, config) = (self.partition.clone(), self.store.clone(), self.config.clone());
        let begun = Instant::now();
        let mut loading = tokio::task::spawn_blocking(move || load::<M>(&partition, &store, &config));
        loop {
            tokio::select! {
                loaded = &mut loading => {
                    let loaded = loaded.unwrap_or(Err(LoadError::Panicked));
                    if let Ok((shard, _)) = &loaded {
                        let (partition, entries) = (&self.partition.name, shard.entry_count());
                        tracing::debug!(%partition, entries, took = ?begun.elapsed(), "coordinator loaded");
                    }
                    return Ok(loaded);
                }
                ask = self.mailbox.recv() => self.refuse(ask, CoordinatorError::LoadInProgress)?,
            }
        }
    }

    /// Refuses all that comes for a while.
    async fn refuse_for(&mut self, time: Duration, error: CoordinatorError) -> Result<(), Ended> {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                ask = self.mailbox.recv() => self.refuse(ask, error)?,
            }
        }
    }

    fn refuse(&mut self, ask: Option<Ask<M>>, error: CoordinatorError) -> Result<(), Ended> {
        match ask.ok_or(Ended)? {
            Ask::Call { reply, .. } | Ask::CallIn { reply, .. } => answer(reply, Err(error)),
            Ask::EndTransaction { done, .. } => answer(done, Err(error)),
            // There is nothing to count, and nothing is known of what is told.
            Ask::Count(_) | Ask::Tell(_) => {}
            Ask::TopicsDeleted(topics) => {
                self.put_off.extend(M::topics_deleted(topics));
                if self.put_off.len() > PUT_OFF_MAX {
                    self.put_off.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Ends well when nobody can ask any more.
    async fn serve(&mut self, serving: &mut Serving<M>, epoch: LeaderEpoch) -> Result<(), Lost> {
        let partition = self.partition.clone();
        let surroundings = self.surroundings.borrow_and_update().clone();
        if let Some(command) = surroundings {
            serving.carry_out(command, None).await?;
        }
        serving.carry_out(M::loaded(), None).await?;
        // Kept until they are appended: what fails is put to the next state.
        for command in self.put_off.clone() {
            serving.carry_out(command, None).await?;
        }
        serving.append_gathered().await?;
        self.put_off.clear();
        let mut asks = Vec::with_capacity(TURN_MAX);
        loop {
            let room = serving.has_room();
            let due = serving.next_due();
            tokio::select! {
                // What is answered makes room.
                biased;
                outcome = serving.committed() => serving.commit(outcome)?,
                _ = partition.leadership_other_than(Leadership::Leading) => return Err(Lost(AppendError::NotLeader)),
                // Before what is asked: who asks may have been told of it.
                Ok(()) = self.surroundings.changed(), if room => {
                    let changed = self.surroundings.borrow_and_update().clone();
                    if let Some(command) = changed {
                        serving.carry_out(command, None).await?;
                    }
                }
                taken = self.mailbox.recv_many(&mut asks, TURN_MAX), if room => {
                    if taken == 0 {
                        return serving.drain().await;
                    }
                    for ask in asks.drain(..) {
                        serving.take(ask).await?;
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if room && due.is_some() => {}
            }
            if partition.leading_epoch() != Some(epoch) {
                return Err(Lost(AppendError::NotLeader));
            }
            // In every turn: however many ask, sessions end in time.
            if serving.has_room() {
                serving.do_what_is_due().await?;
            }
            serving.append_gathered().await?;
        }
    }
}

/// Runs a future to its end; `None` when it panicked.
async fn unwinding<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}
