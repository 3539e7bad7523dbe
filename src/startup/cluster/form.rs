//! The calls by which a cluster is formed: who are you, and will you accept this id.
//!
//! A question is a byte: 1 asks; 2, with the former's node id i32 and the cluster id behind it, proposes. The answer to
//! either is what `meta.properties` of the one who answers says, its own address as the only contact.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::forming::{Answer, Seed, Standing, accept};
use millstream_core::types::{DirectoryId, NodeId};
use tracing::info;

use crate::config::{DataDirectory, HostPort, Meta};
use crate::rpc::{CallError, Rpc, kind};

const ASK: u8 = 1;
const PROPOSE: u8 = 2;
/// A seed that takes longer is silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A seed, and what came of asking it.
#[derive(Debug)]
pub(super) struct Asked {
    pub address: HostPort,
    pub answer: Answer,
    /// Why it is silent.
    pub error: Option<CallError>,
}

impl Asked {
    pub fn itself(address: HostPort) -> Self {
        Self { address, answer: Answer::Itself, error: None }
    }

    /// It knows of a cluster that exists.
    pub fn is_formed(&self) -> bool {
        matches!(&self.answer, Answer::Seed(seed) if seed.standing.formed().is_some())
    }
}

/// Asks the node at an address; `own` tells whether it is this one, by another name.
pub(super) async fn ask(rpc: &Rpc, address: HostPort, own: DirectoryId) -> Asked {
    let asked = rpc.call_address(&address, kind::FORM, Bytes::from_static(&[ASK]), ANSWER_WITHIN).await;
    let seed = asked.and_then(|answer| seed_of(&answer));
    match seed {
        Ok(seed) if seed.directory == own => Asked::itself(address),
        Ok(seed) => Asked { address, answer: Answer::Seed(seed), error: None },
        Err(e) => Asked { address, answer: Answer::Silent, error: Some(e) },
    }
}

/// Asks a seed to accept the id that this node, `former`, has made up.
pub(super) async fn propose(rpc: &Rpc, address: &HostPort, cluster_id: &str, former: NodeId) -> Result<(), CallError> {
    let mut body = BytesMut::new();
    body.put_u8(PROPOSE);
    body.put_i32(former.0);
    body.put_slice(cluster_id.as_bytes());
    let seed = seed_of(&rpc.call_address(address, kind::FORM, body.freeze(), ANSWER_WITHIN).await?)?;
    match seed.standing {
        Standing::Accepted { cluster_id: accepted, .. } if accepted == cluster_id => Ok(()),
        other => Err(CallError::Refused(format!("it stands elsewhere: {other:?}"))),
    }
}

fn seed_of(answer: &[u8]) -> Result<Seed, CallError> {
    let meta = std::str::from_utf8(answer).ok().and_then(Meta::from_text);
    let meta = meta.ok_or_else(|| CallError::Refused("an answer that is not understood".to_owned()))?;
    let address = meta.contacts.into_iter().next().unwrap_or_default();
    Ok(Seed { node: meta.node, directory: meta.directory, address, standing: meta.standing })
}

/// Answers the others. `is_first`: this node is the first of its own seeds.
pub(super) fn answer_others(rpc: &Rpc, directory: &Arc<DataDirectory>, own: HostPort, is_first: bool) {
    let directory = Arc::clone(directory);
    rpc.on_call(kind::FORM, move |inbound| {
        let (directory, own) = (Arc::clone(&directory), own.to_string());
        Box::pin(async move {
            let mut body = inbound.body;
            if body.try_get_u8() == Ok(PROPOSE) {
                let former = NodeId(body.try_get_i32().map_err(|e| e.to_string())?);
                let cluster_id = String::from_utf8(body.to_vec()).map_err(|e| e.to_string())?;
                let directory = Arc::clone(&directory);
                let stored = tokio::task::spawn_blocking(move || consider(&directory, is_first, &cluster_id, former));
                stored.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            }
            let meta = Meta { contacts: vec![own], ..directory.meta() };
            Ok(Bytes::from(meta.to_text()))
        })
    });
}

/// Stores the proposal if it may be accepted: only then it is said.
fn consider(directory: &DataDirectory, is_first: bool, cluster_id: &str, former: NodeId) -> std::io::Result<()> {
    let changed = directory.change(|meta| {
        let standing = accept(&meta.standing, meta.node, is_first, cluster_id, former)?;
        Some(Meta { standing, ..meta.clone() })
    })?;
    if changed {
        info!(cluster_id, %former, "accepted the id of a new cluster");
    }
    Ok(())
}
