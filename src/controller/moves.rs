//! Moves of replicas come to their end: the node that decides sees what the leaders say of their groups, and what a move
//! made of them becomes the metadata.

use std::sync::Weak;
use std::time::Duration;

use millstream_core::controller::{Image, SettledGroup, complete_moves};
use millstream_core::types::{LogMark, PartitionId};

use super::Controller;
use crate::partition::Leaders;

/// What ends within this time is written at once.
const GATHERS_FOR: Duration = Duration::from_millis(20);
/// How often moves are looked at that nothing is heard of: who came to decide may not have been able to yet.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Moves that end with one write.
const MOVES_MAX: usize = 1_000;

/// Ends moves where this node decides, for as long as there is a controller.
pub(super) async fn run(controller: Weak<Controller>) {
    let Some((mut leaders, mut changes)) =
        controller.upgrade().map(|controller| (controller.partitions.leaders().changes(), controller.changes()))
    else {
        return;
    };
    loop {
        let Some(now) = controller.upgrade() else { return };
        let own = now.partitions.identity().node;
        let is_moving = now.look(|now| now.image.moving_topics().next().is_some());
        if is_moving && now.leader() == Some(own) {
            let groups = now.look(|published| settled(&published.image, now.partitions.leaders()));
            if !groups.is_empty() {
                let ended = now.change(move |image| complete_moves(image, &groups)).await;
                // The node that decides next sees the same.
                if let Err(error) = ended {
                    tracing::debug!(%error, "moves of replicas are not ended yet");
                }
            }
        }
        drop(now);
        tokio::select! {
            changed = leaders.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN_AFTER), if is_moving => {}
        }
        tokio::time::sleep(GATHERS_FOR).await;
    }
}

/// Groups whose replicas move, and whose leaders know of the move and say who votes.
fn settled(image: &Image, leaders: &Leaders) -> Vec<SettledGroup> {
    let moving = image.moving_topics().flat_map(|topic| {
        (0..).zip(&topic.partitions).filter(|(_, partition)| partition.moving.is_some()).filter_map(
            |(number, partition)| {
                let id = PartitionId { topic: topic.id, partition: number };
                let told = leaders.get(id).filter(|told| told.moves == partition.moves && !told.voters.is_empty())?;
                let is_all = told.voters.len() == partition.replicas.len();
                let at = LogMark { term: told.epoch.term(), index: told.members_index };
                is_all.then_some(SettledGroup { id, moves: told.moves, voters: told.voters, at })
            },
        )
    });
    moving.take(MOVES_MAX).collect()
}
