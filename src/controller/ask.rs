//! The way to the node that decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use millstream_core::types::NodeId;
use tokio::time::Instant;

use super::envelope::{Answer, Envelope};
use super::{Controller, ControllerError};
use crate::rpc::{CallError, Rpc, kind};

/// How long this node may lag behind what it was told is done: a client that is told so and looks here finds it.
const REACH_FOR: Duration = Duration::from_secs(1);
/// How soon a node that did not decide is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// The leader keeps to the client's time by itself: how much longer its answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// How long one attempt to find out how far the leader is may take.
const POSITION_PATIENCE: Duration = Duration::from_secs(30);

/// What became of an envelope.
#[derive(Debug)]
pub enum Forwarded {
    /// This node decides: nothing was sent.
    Here,
    /// The leader's result; what it did is true here, too, or about to be.
    Done(Bytes),
    /// The client broke the protocol.
    Close(String),
}

impl Controller {
    /// Sends an envelope to the node that decides. While nobody does, or it cannot be reached, it is sent again until
    /// `deadline`; also when it may have been carried out, as in Kafka.
    ///
    /// # Errors
    ///
    /// `NotController`: nobody did in time.
    pub async fn forward(&self, envelope: &Bytes, deadline: Instant) -> Result<Forwarded, ControllerError> {
        let Some(rpc) = self.rpc.as_ref().filter(|_| !self.is_here()) else { return Ok(Forwarded::Here) };
        let mut leaders = self.partitions.leaders().changes();
        let mut alive = rpc.alive_changes();
        loop {
            leaders.mark_unchanged();
            alive.mark_unchanged();
            let leader = self.leader();
            if leader == Some(self.partitions.identity().node) {
                return Ok(Forwarded::Here);
            }
            if let Some(leader) = leader.filter(|leader| rpc.is_alive(*leader)) {
                match self.ask(rpc, leader, envelope.clone(), deadline).await? {
                    Answer::Done { version, result } => {
                        self.reach(version, REACH_FOR).await;
                        return Ok(Forwarded::Done(result));
                    }
                    Answer::Close(reason) => return Ok(Forwarded::Close(reason)),
                    Answer::NotAvailable => return Err(ControllerError::NotAvailable),
                    Answer::NotController => {}
                }
            }
            let again = Instant::now() + AGAIN_AFTER;
            tokio::select! {
                _ = leaders.changed() => {}
                _ = alive.changed() => {}
                () = tokio::time::sleep_until(again.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                return Err(ControllerError::NotController { leader: None });
            }
        }
    }

    /// Has another node carry something out that is its own business. `NotAvailable`: nobody knows whether it did.
    pub async fn ask_node(
        &self,
        node: NodeId,
        envelope: &Envelope,
        patience: Duration,
    ) -> Result<Bytes, ControllerError> {
        let rpc = self.rpc.as_ref().ok_or(ControllerError::NotAvailable)?;
        match self.ask(rpc, node, envelope.encode(), Instant::now() + patience).await? {
            Answer::Done { result, .. } => Ok(result),
            Answer::NotController | Answer::NotAvailable | Answer::Close(_) => Err(ControllerError::NotAvailable),
        }
    }

    /// Waits until this node's image is as new as the leader's was at some moment after the call. Tries for ever.
    pub async fn caught_up(&self) {
        loop {
            match self.forward(&Envelope::Position.encode(), Instant::now() + POSITION_PATIENCE).await {
                // Who decides has the newest image of all.
                Ok(Forwarded::Here) => return,
                Ok(Forwarded::Done(mut position)) => {
                    let Ok(version) = position.try_get_u64() else { return };
                    while !self.reach(version, POSITION_PATIENCE).await {}
                    return;
                }
                Ok(Forwarded::Close(_)) | Err(_) => tokio::time::sleep(REACH_FOR).await,
            }
        }
    }

    async fn ask(
        &self,
        rpc: &Arc<Rpc>,
        leader: NodeId,
        envelope: Bytes,
        deadline: Instant,
    ) -> Result<Answer, ControllerError> {
        let patience = deadline.saturating_duration_since(Instant::now()) + ANSWER_PATIENCE;
        // A node that dies does not answer; who leads then carries it out.
        let died = async {
            let mut alive = rpc.alive_changes();
            while rpc.is_alive(leader) && alive.changed().await.is_ok() {}
        };
        let answered = tokio::select! {
            answered = rpc.call(leader, kind::FORWARD, envelope, patience) => answered,
            () = died => return Ok(Answer::NotController),
        };
        match answered {
            Ok(bytes) => Answer::decode(bytes).map_err(|error| {
                tracing::warn!(node = %leader, %error, "answer of the controller");
                ControllerError::NotAvailable
            }),
            Err(CallError::Timeout) => Err(ControllerError::NotAvailable),
            Err(error) => {
                tracing::debug!(node = %leader, %error, "controller not reached, will retry");
                Ok(Answer::NotController)
            }
        }
    }

    /// Whether this node decides, or nobody else ever can: no other node has been here.
    pub fn is_here(&self) -> bool {
        let own = self.partitions.identity().node;
        let is_alone = || self.look(|now| now.image.peers().all(|peer| peer.node == own));
        self.rpc.is_none() || self.leader() == Some(own) || is_alone()
    }
}
