//! Several nodes in one process, on real sockets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct TestNode {
    rpc: Arc<Rpc>,
    address: HostPort,
}

fn quick() -> RpcConfig {
    RpcConfig {
        beat_every: Duration::from_millis(20),
        alive_max: Duration::from_millis(400),
        silence_max: Duration::from_secs(1),
        redial_min: Duration::from_millis(10),
        redial_max: Duration::from_millis(100),
        ..RpcConfig::default()
    }
}

fn host_port(address: SocketAddr) -> HostPort {
    HostPort { host: address.ip().to_string(), port: address.port() }
}

impl TestNode {
    fn start(node: i32, directory: u128, port: u16) -> Self {
        // The port of a node that was just stopped may need a moment.
        let any = HostPort { host: "127.0.0.1".to_owned(), port };
        let started = Instant::now();
        let bound = loop {
            match bind(&any) {
                Ok(bound) => break bound,
                Err(e) => assert!(started.elapsed() < PATIENCE, "{e}"),
            }
            std::thread::yield_now();
        };
        let address = host_port(bound.address);
        let local =
            Local { node: NodeId(node), directory: DirectoryId(Uuid::from_u128(directory)), boot: Uuid::new_v4() };
        Self { rpc: Rpc::start(bound, local, quick()).unwrap(), address }
    }

    fn member(node: i32) -> Self {
        let member = Self::start(node, u128::from(node.unsigned_abs()), 0);
        member.rpc.set_cluster("c");
        member
    }

    fn id(&self) -> NodeId {
        self.rpc.shared.local.node
    }

    /// Messages of a kind, as they come.
    fn messages(&self, kind: u8) -> mpsc::Receiver<Inbound> {
        let (sender, messages) = mpsc::channel(1_000);
        self.rpc.on_message(kind, move |inbound| {
            let sender = sender.clone();
            Box::pin(async move { drop(sender.send(inbound).await) })
        });
        messages
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.rpc.stop();
    }
}

fn introduce(nodes: &[&TestNode]) {
    let all: HashMap<NodeId, HostPort> = nodes.iter().map(|n| (n.id(), n.address.clone())).collect();
    nodes.iter().for_each(|node| node.rpc.set_nodes(all.clone()));
}

/// Waits for what another task brings about.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn call(from: &TestNode, to: &TestNode, kind: u8, body: &'static [u8]) -> Result<Bytes, CallError> {
    from.rpc.call(to.id(), kind, Bytes::from_static(body), PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order_on_every_lane_between_three_nodes() {
    let nodes = [TestNode::member(0), TestNode::member(2), TestNode::member(3)];
    let mut inboxes: Vec<_> = nodes.iter().map(|node| node.messages(kind::RAFT)).collect();
    introduce(&[&nodes[0], &nodes[1], &nodes[2]]);
    for (to, inbox) in nodes.iter().zip(&mut inboxes) {
        for from in nodes.iter().filter(|from| from.id() != to.id()) {
            for lane in LANES {
                for number in 0..200_u8 {
                    let parts = || vec![Bytes::from(vec![number; 3]), Bytes::new(), Bytes::from_static(b"end")];
                    until("connected", || from.rpc.send(to.id(), lane, kind::RAFT, parts())).await;
                }
                for number in 0..200_u8 {
                    let inbound = inbox.recv().await.unwrap();
                    assert_eq!((inbound.from, inbound.kind, inbound.version), (from.id(), kind::RAFT, kind::VERSION));
                    assert_eq!(inbound.body, [&[number; 3][..], b"end"].concat());
                }
            }
        }
    }
    for one in &nodes {
        for other in &nodes {
            until("alive", || one.rpc.is_alive(other.id())).await;
            assert_eq!(one.rpc.boot_id(other.id()), Some(other.rpc.shared.local.boot));
        }
    }
    assert!(!nodes[0].rpc.send(NodeId(9), Lane::Append, kind::RAFT, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_frame_in_many_parts_arrives_whole() {
    let (one, two) = (TestNode::member(1), TestNode::member(2));
    let mut inbox = two.messages(kind::RAFT);
    introduce(&[&one, &two]);
    let parts: Vec<Bytes> =
        (0..2_000_usize).map(|i| Bytes::from(vec![u8::try_from(i % 251).unwrap(); 10_000 + i])).collect();
    let whole = parts.concat();
    assert!(whole.len() > quick().queue_bytes_max);
    until("connected", || one.rpc.send(two.id(), Lane::Append, kind::RAFT, parts.clone())).await;
    assert!(inbox.recv().await.unwrap().body == whole);
    let over = vec![Bytes::from(vec![0; quick().frame_bytes_max])];
    assert!(!one.rpc.send(two.id(), Lane::Append, kind::RAFT, over), "longer than any frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handler_holds_up_its_lane_and_nothing_else() {
    let (one, two) = (TestNode::member(1), TestNode::member(2));
    let gate = Arc::new(Semaphore::new(0));
    let (passing, handled) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let count = handled.clone();
    two.rpc.on_message(kind::RAFT, move |inbound| {
        let (gate, count) = (passing.clone(), count.clone());
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            assert_eq!(
                usize::try_from(u64::from_be_bytes(inbound.body[..8].try_into().unwrap())).unwrap(),
                count.fetch_add(1, Ordering::SeqCst),
                "the next one"
            );
        })
    });
    two.rpc.on_call(kind::FORWARD, |inbound| Box::pin(async move { Ok(inbound.body) }));
    introduce(&[&one, &two]);
    let mut sent = 0_u64;
    let message = |n: u64| vec![Bytes::copy_from_slice(&n.to_be_bytes()), Bytes::from(vec![0; 1 << 20])];
    until("connected", || one.rpc.send(two.id(), Lane::Append, kind::RAFT, message(0))).await;
    // Until the queue has stayed full for a while: what the kernel takes is its own affair.
    let mut refused_since = None;
    while refused_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(300)) {
        match one.rpc.send(two.id(), Lane::Append, kind::RAFT, message(sent + 1)) {
            true => (sent, refused_since) = (sent + 1, None),
            false => refused_since = refused_since.or(Some(Instant::now())),
        }
        assert!(sent < 1_000, "nothing is refused");
        tokio::task::yield_now().await;
    }
    assert_eq!(call(&one, &two, kind::FORWARD, b"still there").await.unwrap(), b"still there"[..]);
    assert!(one.rpc.is_alive(two.id()) && two.rpc.is_alive(one.id()));
    gate.add_permits(10_000);
    until("all that was accepted is handled", || handled.load(Ordering::SeqCst) == usize::try_from(sent + 1).unwrap())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_in_any_order() {
    let (one, two) = (TestNode::member(1), TestNode::member(2));
    let gate = Arc::new(Semaphore::new(0));
    let (passing, arrived) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let count = arrived.clone();
    two.rpc.on_call(kind::FORWARD, move |inbound| {
        let (gate, count) = (passing.clone(), count.clone());
        Box::pin(async move {
            if inbound.body == b"wait"[..] {
                count.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
            }
            match inbound.body == b"bad"[..] {
                true => Err("not like this".to_owned()),
                false => Ok(inbound.body),
            }
        })
    });
    introduce(&[&one, &two]);
    until("connected", || one.rpc.send(two.id(), Lane::Bulk, kind::RAFT, vec![])).await;
    let waiting: Vec<_> = (0..63)
        .map(|_| {
            let rpc = one.rpc.clone();
            tokio::spawn(async move { rpc.call(NodeId(2), kind::FORWARD, Bytes::from_static(b"wait"), PATIENCE).await })
        })
        .collect();
    assert_eq!(call(&one, &two, kind::FORWARD, b"quick").await.unwrap(), b"quick"[..]);
    assert_eq!(call(&one, &two, kind::FORWARD, b"bad").await, Err(CallError::Refused("not like this".to_owned())));
    let unknown = call(&one, &two, kind::SNAPSHOT, b"").await;
    assert_eq!(unknown, Err(CallError::Refused("node 2 does not answer calls of kind 30 now".to_owned())));
    gate.add_permits(63);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap(), b"wait"[..]);
    }
    let late = one.rpc.call(two.id(), kind::FORWARD, Bytes::from_static(b"wait"), Duration::from_millis(50)).await;
    assert_eq!(late, Err(CallError::Timeout));
    until("the late one is there", || arrived.load(Ordering::SeqCst) == 64).await;

    let (rpc, before) = (one.rpc.clone(), arrived.load(Ordering::SeqCst));
    let broken =
        tokio::spawn(async move { rpc.call(NodeId(2), kind::FORWARD, Bytes::from_static(b"wait"), PATIENCE).await });
    until("asked", || arrived.load(Ordering::SeqCst) == before + 1).await;
    two.rpc.stop();
    assert_eq!(broken.await.unwrap(), Err(CallError::Broken));
    assert_eq!(
        call(&one, &TestNode { rpc: one.rpc.clone(), address: one.address.clone() }, 22, b"").await,
        Err(CallError::NotConnected),
        "itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_is_found_again_under_its_new_boot_id() {
    let one = TestNode::member(1);
    let two = TestNode::member(2);
    introduce(&[&one, &two]);
    until("alive", || one.rpc.is_alive(NodeId(2))).await;
    let (first, port) = (one.rpc.boot_id(NodeId(2)).unwrap(), two.address.port);
    let mut changes = one.rpc.alive_changes();
    changes.mark_unchanged();
    drop(two);
    until("gone", || !one.rpc.is_alive(NodeId(2))).await;
    tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    assert!(one.rpc.silent_for(NodeId(2)) >= quick().alive_max);

    let two = TestNode::start(2, 2, port);
    two.rpc.set_cluster("c");
    let mut inbox = two.messages(kind::RAFT);
    introduce(&[&one, &two]);
    until("alive again", || one.rpc.is_alive(NodeId(2))).await;
    assert_ne!(one.rpc.boot_id(NodeId(2)), Some(first));
    tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    // What was on its way when a connection went is lost.
    let received = loop {
        one.rpc.send(NodeId(2), Lane::Append, kind::RAFT, vec![Bytes::from_static(b"hi")]);
        if let Ok(received) = tokio::time::timeout(Duration::from_millis(100), inbox.recv()).await {
            break received;
        }
    };
    assert_eq!(received.unwrap().body, b"hi"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_may_only_ask_to_come_in() {
    let member = TestNode::member(1);
    let (asked, log) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (names, count) = (asked.clone(), log.clone());
    member.rpc.on_call(kind::FORM, move |inbound| {
        names.lock().unwrap().push(inbound.from);
        Box::pin(async move { Ok(inbound.body) })
    });
    member.rpc.on_call(kind::FORWARD, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(Bytes::new()) })
    });
    let stranger = TestNode::start(2, 2, 0);
    let body = || Bytes::from_static(b"may I?");
    let form = stranger.rpc.call_address(&member.address, kind::FORM, body(), PATIENCE).await;
    assert_eq!(form.unwrap(), body());
    assert_eq!(*asked.lock().unwrap(), [NodeId(2)]);
    let forward = stranger.rpc.call_address(&member.address, kind::FORWARD, body(), PATIENCE).await;
    assert_eq!((forward, log.load(Ordering::SeqCst)), (Err(CallError::Broken), 0));
    let own = member.rpc.call_address(&member.address, kind::FORWARD, body(), PATIENCE).await;
    assert_eq!((own, log.load(Ordering::SeqCst)), (Ok(Bytes::new()), 1), "a node may ask itself");

    stranger.rpc.set_cluster("other");
    let refused = stranger.rpc.call_address(&member.address, kind::FORM, body(), PATIENCE).await.unwrap_err();
    assert_eq!(refused.to_string(), "node 1 is of cluster c, not of other");
    introduce(&[&member, &stranger]);
    let twin = TestNode::start(1, 77, 0);
    let refused = twin.rpc.call_address(&member.address, kind::FORM, body(), PATIENCE).await.unwrap_err();
    assert!(matches!(refused, CallError::Hello(Refusal { code: RefusalCode::SameNode, .. })), "{refused}");
    assert!(!member.rpc.is_alive(NodeId(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_make_no_sense_end_their_connection_only() {
    let (one, two) = (TestNode::member(1), TestNode::member(2));
    let mut inbox = one.messages(kind::RAFT);
    introduce(&[&one, &two]);
    let hello = hello::Hello {
        versions: hello::VERSIONS,
        purpose: hello::Purpose::Lane(Lane::Append),
        from: Local { node: NodeId(3), ..two.rpc.shared.local },
        to: Some(NodeId(1)),
        cluster_id: Some("c".to_owned()),
    };
    let hello = OutFrame::new(kind::HELLO, vec![hello.encode()]).to_bytes();
    let huge = u32::MAX.to_be_bytes();
    let mut flipped = OutFrame::new(kind::RAFT, vec![Bytes::from_static(b"flip")]).to_bytes().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let short_call = OutFrame::new(kind::CALL, vec![Bytes::from_static(b"short")]).to_bytes();
    let wrong_first = OutFrame::new(kind::RAFT, vec![Bytes::from_static(b"first")]).to_bytes();
    let empty_hello = OutFrame::new(kind::HELLO, vec![]).to_bytes();
    let inputs: [&[&[u8]]; 8] = [
        &[b"GET / HTTP/1.1\r\n\r\n"],
        &[&[0; 5_000]],
        &[&huge],
        &[&wrong_first],
        &[&empty_hello],
        &[&hello, &huge],
        &[&hello, &flipped],
        &[&hello, &short_call],
    ];
    for input in inputs {
        let mut socket = TcpStream::connect((one.address.host.as_str(), one.address.port)).await.unwrap();
        socket.write_all(&input.concat()).await.unwrap();
        let mut answer = Vec::new();
        // Closed, with or without a word; a reset is as good.
        drop(tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("closed"));
    }
    // Announces much and sends nothing: costs nothing, and ends when its time is over.
    let mut quiet = TcpStream::connect((one.address.host.as_str(), one.address.port)).await.unwrap();
    quiet.write_all(&[0, 0, 200, 0, 1]).await.unwrap();
    until("connected", || two.rpc.send(NodeId(1), Lane::Append, kind::RAFT, vec![Bytes::from_static(b"fine")])).await;
    assert_eq!(inbox.recv().await.unwrap().body, b"fine"[..]);
    assert!(inbox.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_keep_nobody_out() {
    let (one, two) = (TestNode::member(1), TestNode::member(2));
    let mut inbox = one.messages(kind::RAFT);
    one.rpc.on_call(kind::FORM, |inbound| Box::pin(async move { Ok(inbound.body) }));
    let mut silent = Vec::new();
    for number in 0..20_u8 {
        // 600 stand there at first; more come than leave.
        for _ in 0..if number == 0 { 600 } else { 20 } {
            silent.push(TcpStream::connect((one.address.host.as_str(), one.address.port)).await.unwrap());
        }
        let body = Bytes::from(vec![number]);
        let answer = two.rpc.call_address(&one.address, kind::FORM, body.clone(), PATIENCE).await;
        assert_eq!(answer.unwrap(), body);
    }
    introduce(&[&one, &two]);
    until("connected", || two.rpc.send(NodeId(1), Lane::Append, kind::RAFT, vec![Bytes::from_static(b"in")])).await;
    assert_eq!(inbox.recv().await.unwrap().body, b"in"[..]);
}

/// A process that was stopped, or a host that was cut off: its connections stay, and nothing comes from it.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_silent_node_are_closed_and_dialled_again() {
    let one = TestNode::member(1);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = host_port(silent.local_addr().unwrap());
    one.rpc.set_nodes(HashMap::from([(NodeId(2), address)]));
    let local = Local { node: NodeId(2), directory: DirectoryId(Uuid::from_u128(2)), boot: Uuid::from_u128(5) };
    for _ in 0..2 {
        let mut ended = Vec::new();
        for _ in LANES {
            let (mut socket, _) = tokio::time::timeout(PATIENCE, silent.accept()).await.expect("dialled").unwrap();
            let reply = hello::HelloReply { refusal: None, version: 1, from: local };
            socket.write_all(&OutFrame::new(kind::HELLO_REPLY, vec![reply.encode()]).to_bytes()).await.unwrap();
            ended.push(tokio::spawn(async move {
                let connected = Instant::now();
                let mut rest = Vec::new();
                drop(tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("closed"));
                connected.elapsed()
            }));
        }
        until("connected", || one.rpc.send(NodeId(2), Lane::Append, kind::RAFT, vec![])).await;
        assert!(!one.rpc.is_alive(NodeId(2)));
        for ended in ended {
            assert!(ended.await.unwrap() >= quick().silence_max);
        }
    }
}
