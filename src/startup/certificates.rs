//! Certificates are taken up anew while the node runs: when their files or settings change, and at once on SIGHUP.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::controller::Controller;
use crate::tls::TlsListeners;

/// How often the files are looked at. They are small and read whole: what names them may be a link that moves.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks for new certificates until the runtime ends.
pub(super) fn watch(tls: TlsListeners, controller: &Arc<Controller>) -> std::io::Result<()> {
    let mut asked = signal(SignalKind::hangup())?;
    let controller = Arc::clone(controller);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Settings that were changed are seen then as well.
                _ = ticks.tick(), if !tls.is_empty() => {}
                _ = asked.recv() => info!(signal = "SIGHUP", "looking for new certificates"),
            }
            let (tls, settings) = (tls.clone(), Arc::clone(&controller.published().settings));
            // Reading files may take its time.
            if let Err(error) = tokio::task::spawn_blocking(move || tls.renew(&settings)).await {
                warn!(%error, "certificates could not be looked at");
            }
        }
    });
    Ok(())
}
