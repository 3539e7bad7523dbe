//! The front end on real sockets, before a service of which the tests decide what it answers and when.
//!
//! A request is a command byte, a correlation id and a payload; each reply carries the correlation id and a payload.

mod memory;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, SaslAuthenticateResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use super::{ConnectionLimits, NetConfig, Server, bind};
use crate::api::{Call, Outcome, Refused, Service, Session};
use crate::config::{Config, Flags, Listener, load};
use crate::protocol::{Key, Response, encode_response};
use crate::telemetry::Metrics;
use crate::tls::TlsListeners;

/// No answer takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const ECHO: u8 = b'e';
/// Answered when the test says so; later requests start meanwhile.
const LATER: u8 = b'l';
/// Its handler goes on when the test says so; later requests do not start meanwhile.
const SLOW: u8 = b's';
/// A reply of as many bytes as the payload says (u32).
const LARGE: u8 = b'b';
const SILENT: u8 = b'n';
const CLOSE: u8 = b'c';
const PANIC: u8 = b'p';
const UNKNOWN: u8 = b'u';

/// Requests in the order in which they started, and the switches of those that wait.
#[derive(Default)]
struct Fake {
    started: Mutex<Vec<i32>>,
    /// Whose they were.
    principals: Mutex<Vec<String>>,
    switches: Mutex<HashMap<i32, oneshot::Receiver<()>>>,
    metrics: Metrics,
}

fn reply(correlation_id: i32, payload: Bytes) -> Response {
    let body = SaslAuthenticateResponse::default().with_auth_bytes(payload);
    encode_response(ApiKey::SaslAuthenticate as i16, 0, correlation_id, &body).unwrap()
}

impl Service for Fake {
    fn call<'a>(&'a self, session: &'a mut Session, mut frame: Bytes) -> Result<Call<'a>, Refused> {
        self.principals.lock().unwrap().push(session.principal.to_string());
        let (command, correlation_id) = (frame.get_u8(), frame.get_i32());
        if command == UNKNOWN {
            return Err(Refused::UnknownApi(999));
        }
        let switch = self.switches.lock().unwrap().remove(&correlation_id);
        let outcome = Box::pin(async move {
            self.started.lock().unwrap().push(correlation_id);
            match command {
                LATER => Outcome::Later(Box::pin(async move {
                    switch.unwrap().await.unwrap();
                    Outcome::Reply(reply(correlation_id, frame))
                })),
                SLOW => {
                    switch.unwrap().await.unwrap();
                    Outcome::Reply(reply(correlation_id, frame))
                }
                LARGE => {
                    let size = usize::try_from(frame.get_u32()).unwrap();
                    Outcome::Reply(reply(correlation_id, Bytes::from(vec![9; size])))
                }
                SILENT => Outcome::NoReply,
                CLOSE => Outcome::Close("the test says so".to_owned()),
                PANIC => panic!("the test says so"),
                _ => Outcome::Reply(reply(correlation_id, frame)),
            }
        });
        let metrics = Arc::new(self.metrics.of_api("Fake"));
        Ok(Call { api: Key::of(ApiKey::SaslAuthenticate), metrics, outcome })
    }
}

/// A server, and what the tests turn.
struct Setup {
    fake: Arc<Fake>,
    server: Server,
    stop: watch::Sender<bool>,
    dismiss: watch::Sender<()>,
    metrics: Arc<Metrics>,
    addresses: Vec<String>,
}

fn config(set: &[&str]) -> Config {
    let set = ["listeners=PLAINTEXT://127.0.0.1:0"].iter().chain(set).map(|s| (*s).to_owned()).collect();
    load(&Flags { set, ..Flags::default() }, [], "host").unwrap()
}

fn start(set: &[&str]) -> Setup {
    start_with(set, |_| ())
}

fn start_with(set: &[&str], change: impl FnOnce(&mut NetConfig)) -> Setup {
    let config = config(set);
    let mut net_config = NetConfig::of(&config, 1_000).unwrap();
    change(&mut net_config);
    let bound = bind(&config.listeners, &net_config).unwrap();
    let tls = TlsListeners::of(&config.broker, config.tls_listeners()).unwrap();
    let addresses = bound.iter().map(|bound| bound.address.to_string()).collect();
    let (fake, metrics) = (Arc::new(Fake::default()), Arc::new(Metrics::new()));
    let ((stop, stopping), (dismiss, dismissed)) = (watch::channel(false), watch::channel(()));
    let service: Arc<dyn Service> = Arc::clone(&fake) as Arc<dyn Service>;
    let server = Server::start(bound, service, &net_config, &metrics, stopping, dismissed, &tls);
    Setup { fake, server, stop, dismiss, metrics, addresses }
}

impl Setup {
    async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(&self.addresses[0]).await.unwrap() }
    }

    /// A switch for the request with that correlation id.
    fn switch(&self, correlation_id: i32) -> oneshot::Sender<()> {
        let (on, switch) = oneshot::channel();
        self.fake.switches.lock().unwrap().insert(correlation_id, switch);
        on
    }

    async fn await_started(&self, expected: &[i32]) {
        eventually(|| *self.fake.started.lock().unwrap() == expected).await;
    }

    fn closed(&self, reason: &str) -> u64 {
        self.metrics.connections_closed.with_label_values(&[reason]).get()
    }
}

struct Client {
    stream: TcpStream,
}

fn request(command: u8, correlation_id: i32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(5 + payload.len()).unwrap();
    [&length.to_be_bytes()[..], &[command], &correlation_id.to_be_bytes(), payload].concat()
}

impl Client {
    async fn send(&mut self, command: u8, correlation_id: i32, payload: &[u8]) {
        self.stream.write_all(&request(command, correlation_id, payload)).await.unwrap();
    }

    /// Correlation id and payload of the next reply.
    async fn receive(&mut self) -> (i32, Vec<u8>) {
        let read = async {
            let length = usize::try_from(self.stream.read_u32().await.unwrap()).unwrap();
            let mut frame = vec![0; length];
            self.stream.read_exact(&mut frame).await.unwrap();
            frame
        };
        let frame = tokio::time::timeout(PATIENCE, read).await.expect("a reply");
        let mut frame = &frame[..];
        let correlation_id = frame.get_i32();
        // Error code, null message, length of the bytes.
        frame.advance(2 + 2 + 4);
        (correlation_id, frame.to_vec())
    }

    async fn echoes(&mut self, correlation_id: i32) {
        self.send(ECHO, correlation_id, b"x").await;
        assert_eq!(self.receive().await, (correlation_id, b"x".to_vec()));
    }

    async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = self.stream.read(&mut byte);
        !matches!(tokio::time::timeout(PATIENCE, read).await.expect("a closed connection"), Ok(1))
    }
}

async fn eventually(mut is_so: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("still not so");
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_leave_in_request_order() {
    let setup = start(&[]);
    let mut client = setup.client().await;
    let (first, third) = (setup.switch(1), setup.switch(3));
    client.send(LATER, 1, b"a").await;
    client.send(ECHO, 2, b"b").await;
    client.send(LATER, 3, b"c").await;
    client.send(SILENT, 4, b"").await;
    client.send(ECHO, 5, b"d").await;
    // All of them start although none is answered.
    setup.await_started(&[1, 2, 3, 4, 5]).await;
    third.send(()).unwrap();
    first.send(()).unwrap();
    for expected in [(1, b"a"), (2, b"b"), (3, b"c"), (5, b"d")] {
        assert_eq!(client.receive().await, (expected.0, expected.1.to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_finished_before_the_next_request_starts() {
    let setup = start(&[]);
    let mut client = setup.client().await;
    let (waiting, slow) = (setup.switch(1), setup.switch(2));
    client.send(LATER, 1, b"").await;
    client.send(SLOW, 2, b"").await;
    client.send(ECHO, 3, b"").await;
    setup.await_started(&[1, 2]).await;
    // A reply that was waited for leaves while a handler runs.
    waiting.send(()).unwrap();
    assert_eq!(client.receive().await.0, 1);
    setup.await_started(&[1, 2]).await;
    slow.send(()).unwrap();
    assert_eq!(client.receive().await.0, 2);
    assert_eq!(client.receive().await.0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_requests_in_one_write_are_answered_in_order() {
    let setup = start(&[]);
    let mut client = setup.client().await;
    let all: Vec<u8> = (0..5_000).flat_map(|id| request(ECHO, id, &[7; 100])).collect();
    let (mut read, mut write) = client.stream.split();
    let mut replies = vec![0; 5_000 * (4 + 4 + 8 + 100)];
    let (written, read) = tokio::join!(write.write_all(&all), read.read_exact(&mut replies));
    written.unwrap();
    read.unwrap();
    for (reply, id) in replies.chunks(116).zip(0_i32..) {
        assert_eq!(reply[4..8], id.to_be_bytes());
        assert_eq!(reply[16..], [7; 100]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_and_replies_pass() {
    let setup = start(&[]);
    let mut client = setup.client().await;
    let payload: Vec<u8> = (0..3_000_000_u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
    client.send(ECHO, 1, &payload).await;
    let (id, back) = client.receive().await;
    assert!(id == 1 && back == payload);
    assert_eq!(setup.metrics.inflight_request_bytes.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_closes_its_connection_only() {
    let setup = start(&[]);
    let (mut bad, mut good) = (setup.client().await, setup.client().await);
    good.echoes(1).await;
    bad.send(PANIC, 2, b"").await;
    assert!(bad.is_closed().await);
    good.echoes(3).await;
    eventually(|| setup.closed("panic") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_before_a_close_is_answered_and_nothing_after() {
    let setup = start(&[]);
    for (command, reason) in [(CLOSE, "handler"), (UNKNOWN, "refused")] {
        setup.fake.started.lock().unwrap().clear();
        let mut client = setup.client().await;
        let switch = setup.switch(1);
        client.send(LATER, 1, b"a").await;
        client.send(command, 2, b"").await;
        client.send(ECHO, 3, b"").await;
        setup.await_started(if command == CLOSE { &[1, 2] } else { &[1] }).await;
        switch.send(()).unwrap();
        assert_eq!(client.receive().await.0, 1);
        assert!(client.is_closed().await);
        eventually(|| setup.closed(reason) == 1).await;
        assert!(!setup.fake.started.lock().unwrap().contains(&3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_outstanding_requests_stop_the_reading_of_their_connection_only() {
    let setup = start(&[]);
    let (mut greedy, mut other) = (setup.client().await, setup.client().await);
    let switch = setup.switch(0);
    greedy.send(LATER, 0, b"").await;
    let all: Vec<u8> = (1..3_000).flat_map(|id| request(SILENT, id, b"")).collect();
    greedy.stream.write_all(&all).await.unwrap();
    // A thousand wait; the others are not read.
    eventually(|| setup.fake.started.lock().unwrap().len() >= 1_000).await;
    other.echoes(-1).await;
    assert_eq!(setup.fake.started.lock().unwrap().len(), 1_001);
    switch.send(()).unwrap();
    assert_eq!(greedy.receive().await.0, 0);
    greedy.echoes(3_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_no_longer_read() {
    let setup = start(&[]);
    let (mut deaf, mut other) = (setup.client().await, setup.client().await);
    let size = 1_000_000_u32.to_be_bytes();
    let all: Vec<u8> = (1..=900).flat_map(|id| request(LARGE, id, &size)).collect();
    deaf.stream.write_all(&all).await.unwrap();
    eventually(|| setup.fake.started.lock().unwrap().len() >= 30).await;
    other.echoes(-1).await;
    // 32 MiB of replies may wait, and what the kernel holds.
    let started = setup.fake.started.lock().unwrap().len();
    assert!(started < 100, "{started} replies of a megabyte were made for a client that reads none");
    for id in 1..=900 {
        assert_eq!(deaf.receive().await.0, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_client_drops_what_waited() {
    let setup = start(&[]);
    let mut client = setup.client().await;
    let switch = setup.switch(1);
    client.send(LATER, 1, b"").await;
    setup.await_started(&[1]).await;
    drop(client);
    eventually(|| switch.is_closed()).await;
    eventually(|| setup.metrics.connections.with_label_values(&["PLAINTEXT"]).get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_read_and_closes_the_rest() {
    let setup = start(&[]);
    let (mut busy, mut idle) = (setup.client().await, setup.client().await);
    idle.echoes(1).await;
    let switch = setup.switch(2);
    busy.send(LATER, 2, b"last").await;
    setup.await_started(&[1, 2]).await;
    setup.stop.send_replace(true);
    assert!(idle.is_closed().await);
    eventually_refused(&setup.addresses[0]).await;
    switch.send(()).unwrap();
    assert_eq!(busy.receive().await, (2, b"last".to_vec()));
    assert!(busy.is_closed().await);
    assert!(setup.server.stopped(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_sent_away_get_their_answers_and_may_come_back() {
    let setup = start(&[]);
    let (mut busy, mut idle) = (setup.client().await, setup.client().await);
    idle.echoes(1).await;
    let switch = setup.switch(2);
    busy.send(LATER, 2, b"last").await;
    setup.await_started(&[1, 2]).await;
    setup.dismiss.send_replace(());
    assert!(idle.is_closed().await);
    switch.send(()).unwrap();
    assert_eq!(busy.receive().await, (2, b"last".to_vec()));
    assert!(busy.is_closed().await);
    eventually(|| setup.closed("dismissed") == 2).await;
    setup.client().await.echoes(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_ever() {
    let setup = start(&[]);
    let mut client = setup.client().await;
    let _never = setup.switch(1);
    client.send(LATER, 1, b"").await;
    setup.await_started(&[1]).await;
    setup.stop.send_replace(true);
    assert!(!setup.server.stopped(Duration::from_millis(50)).await);
}

async fn eventually_refused(address: &str) {
    for _ in 0..1_000 {
        if TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the listener is still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let setup = start(&["connections.max.idle.ms=300"]);
    let (mut idle, mut waiting) = (setup.client().await, setup.client().await);
    idle.echoes(1).await;
    let switch = setup.switch(2);
    waiting.send(LATER, 2, b"").await;
    assert!(idle.is_closed().await);
    eventually(|| setup.closed("idle") == 1).await;
    // Half a request is no activity.
    let mut half = setup.client().await;
    half.stream.write_all(&[0, 0, 1, 0, 1]).await.unwrap();
    assert!(half.is_closed().await);
    switch.send(()).unwrap();
    assert_eq!(waiting.receive().await.0, 2);
    assert!(waiting.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_in_total_and_by_address() {
    let setup = start(&["max.connections=2", "max.connections.per.ip.overrides=127.0.0.2:0"]);
    let (mut one, mut two, mut three) = (setup.client().await, setup.client().await, setup.client().await);
    one.echoes(1).await;
    two.echoes(2).await;
    // The third is connected by the kernel but not served before one leaves.
    three.send(ECHO, 3, b"").await;
    one.echoes(4).await;
    assert_eq!(*setup.fake.started.lock().unwrap(), [1, 2, 4]);
    drop(one);
    assert_eq!(three.receive().await.0, 3);

    setup.server.limits().set(ConnectionLimits { per_ip: 2, ..ConnectionLimits::default() });
    assert!(setup.client().await.is_closed().await, "two from this address are there");
    eventually(|| setup.closed("per_ip") == 1).await;
    drop(two);
    eventually(|| setup.metrics.connections.with_label_values(&["PLAINTEXT"]).get() == 1).await;
    setup.client().await.echoes(5).await;
}

#[tokio::test]
async fn listeners_have_their_own_ports_and_advertised_addresses() {
    let config = config(&[
        "listeners=INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
        "advertised.listeners=OUTSIDE://broker.example.com:443",
        "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
    ]);
    let bound = bind(&config.listeners, &NetConfig::of(&config, 1_000).unwrap()).unwrap();
    let listeners: Vec<&Listener> = bound.iter().map(|bound| &*bound.listener).collect();
    assert_eq!(listeners[0].advertised.port, bound[0].address.port());
    assert_ne!(listeners[0].advertised.port, 0);
    assert_eq!(listeners[1].advertised.to_string(), "broker.example.com:443");

    let taken = format!("listeners=PLAINTEXT://127.0.0.1:{}", bound[0].address.port());
    let taken = self::config(&[&taken]);
    let refused = bind(&taken.listeners, &NetConfig::of(&taken, 1_000).unwrap()).err().unwrap().to_string();
    assert!(refused.contains("in use") && refused.contains(&bound[0].address.to_string()), "{refused}");
}
