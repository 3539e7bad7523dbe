//! Share-partitions: their settings are the metadata's.

use std::sync::Arc;

use millstream_core::config::BrokerConfig;
use millstream_core::controller::ConfigOwner;
use millstream_core::share::ShareSettings;

use crate::controller::Controller;
use crate::partition::Partitions;
use crate::share::Shares;

pub(super) fn start(controller: &Arc<Controller>, partitions: &Arc<Partitions>, broker: &BrokerConfig) -> Arc<Shares> {
    let sessions_max = usize::try_from(broker.integer("group.share.max.share.sessions")).unwrap_or(0);
    let controller = Arc::clone(controller);
    let settings = move |group: &str| {
        controller.look(|now| {
            let own = now.image.configs(&ConfigOwner::Group(group.to_owned()));
            ShareSettings::of(&now.settings, &own)
        })
    };
    Shares::new(Arc::clone(partitions), Arc::new(settings), sessions_max)
}
