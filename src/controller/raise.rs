//! Gives internal topics the replicas that they are configured for as soon as there are nodes for them.

use std::sync::Weak;
use std::time::Duration;

use millstream_core::controller::{Decision, raise_internal_topics};

use super::Controller;

/// How long nodes come and go before what follows is looked at: several that start together are placed on together.
const GATHER_FOR: Duration = Duration::from_secs(1);

/// Looks at every change, for as long as there is a controller.
pub(super) async fn run(controller: Weak<Controller>) {
    let (mut changes, mut alive) = match controller.upgrade() {
        Some(controller) => match &controller.rpc {
            Some(rpc) => (controller.changes(), rpc.alive_changes()),
            None => return,
        },
        None => return,
    };
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = alive.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(GATHER_FOR).await;
        let Some(controller) = controller.upgrade() else { return };
        controller.raise_internal_topics().await;
    }
}

impl Controller {
    async fn raise_internal_topics(&self) {
        if self.leader() != Some(self.partitions.identity().node) {
            return;
        }
        let is_alive = |node| self.rpc.as_ref().is_some_and(|rpc| rpc.is_alive(node));
        let nodes = self.look(|now| now.image.usable_nodes(is_alive));
        let settings = self.published().settings.clone();
        if self.look(|now| raise_internal_topics(&now.image, &settings, &nodes)).commands.is_empty() {
            return;
        }
        let change = self.change(move |image| {
            let Decision { commands, .. } = raise_internal_topics(image, &settings, &nodes);
            Decision { reply: commands.len(), commands }
        });
        match change.await {
            Ok(topics) => tracing::info!(topics, "internal topics get more replicas"),
            Err(error) => tracing::warn!(%error, "internal topics could not get more replicas"),
        }
    }
}
