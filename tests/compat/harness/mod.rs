//! What the compatibility tests share: a broker process, a raw client, record batches and rdkafka clients.
//!
//! The tests run against the real binary, or, with `MILLSTREAM_TEST_BOOTSTRAP=host:port`, against any broker that is
//! already up. So each test can be shown right on Apache Kafka first; tests which kill or configure the broker are
//! skipped there.

pub mod batch;
pub mod broker;
pub mod client;
pub mod disk;
pub mod flex;
pub mod group;
pub mod login;
pub mod net;
pub mod nodes;
pub mod power;
pub mod replicas;
pub mod share_member;
pub mod share_state;
pub mod streams_member;
pub mod tls;
pub mod topics;
pub mod txn;
pub mod wire;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_protocol::protocol::StrBytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// No answer of a broker that works takes longer, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A name that no other test and no earlier run has used.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock after 1970");
    format!("{stem}-{}-{:x}-{}", std::process::id(), now.as_millis(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a variable of the environment says, for tests that are asked for more than usual.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

/// Chance that says how it is had again: by `MILLSTREAM_TEST_SEED`.
pub fn chance() -> StdRng {
    let seed = number("MILLSTREAM_TEST_SEED").unwrap_or_else(|| rand::rng().random());
    println!("MILLSTREAM_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

pub fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// Asks again until the answer is there. For what a broker does by itself (a cleaner, a timer): nothing announces it.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock after 1970");
    i64::try_from(now.as_millis()).expect("fits until year 292 million")
}
