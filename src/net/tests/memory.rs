//! The memory of requests: who holds it, who waits for it, and who loses it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{ECHO, LARGE, LATER, SILENT, eventually, request, start, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_the_memory_that_others_hold() {
    let setup = start(&["request.memory.bytes=1048576"]);
    let (mut one, mut two, mut three) = (setup.client().await, setup.client().await, setup.client().await);
    let payload = vec![1; 1_000_000];
    let (first, second) = (setup.switch(1), setup.switch(2));
    one.send(LATER, 1, &payload).await;
    setup.await_started(&[1]).await;
    // The next goes beyond the limit, as one may; the third waits.
    two.send(LATER, 2, &payload).await;
    setup.await_started(&[1, 2]).await;
    let third = tokio::spawn(async move {
        three.send(ECHO, 3, &payload).await;
        three.receive().await.0
    });
    // Small requests need no memory of the common store.
    setup.client().await.echoes(4).await;
    assert!(!third.is_finished());
    setup.await_started(&[1, 2, 4]).await;
    first.send(()).unwrap();
    assert_eq!(one.receive().await.0, 1);
    assert_eq!(third.await.unwrap(), 3);
    second.send(()).unwrap();
    assert_eq!(two.receive().await.0, 2);
    eventually(|| setup.metrics.inflight_request_bytes.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_take_no_memory_from_others() {
    let setup = start(&["request.memory.bytes=1048576"]);
    let mut lazy = Vec::new();
    for _ in 0..40 {
        let mut client = setup.client().await;
        client.stream.write_all(&104_857_600_u32.to_be_bytes()).await.unwrap();
        client.stream.write_all(&[0, 1, 2, 3]).await.unwrap();
        lazy.push(client);
    }
    let mut client = setup.client().await;
    client.send(ECHO, 1, &vec![1; 500_000]).await;
    assert_eq!(client.receive().await.0, 1);
    assert_eq!(setup.metrics.inflight_request_bytes.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_stalls_gives_its_memory_back() {
    let setup = start_with(&["request.memory.bytes=1048576"], |config| config.stall_max = Duration::from_millis(300));
    let payload = vec![1; 1_000_000];
    let half = &request(ECHO, 1, &payload)[..600_000];
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let mut client = setup.client().await;
        client.stream.write_all(half).await.unwrap();
        stalled.push(client);
    }
    eventually(|| setup.metrics.inflight_request_bytes.get() > 600_000).await;
    // Who sends on is served, at once or when the others are cut off.
    let mut client = setup.client().await;
    client.send(ECHO, 2, &payload).await;
    assert_eq!(client.receive().await.0, 2);
    for client in &mut stalled {
        assert!(client.is_closed().await);
    }
    eventually(|| setup.closed("stalled") == 3 && setup.metrics.inflight_request_bytes.get() == 0).await;
    // A small one holds no memory of the common store and may take its time.
    let mut slow = setup.client().await;
    slow.stream.write_all(&request(ECHO, 3, b"x")[..6]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    slow.stream.write_all(&request(ECHO, 3, b"x")[6..]).await.unwrap();
    assert_eq!(slow.receive().await, (3, b"x".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_trickles_gives_its_memory_back() {
    let setup = start_with(&["request.memory.bytes=1048576"], |config| config.stall_max = Duration::from_millis(300));
    let mut client = setup.client().await;
    client.stream.write_all(&request(ECHO, 1, &vec![1; 1_000_000])[..600_000]).await.unwrap();
    eventually(|| setup.metrics.inflight_request_bytes.get() > 600_000).await;
    // A byte now and then does not count.
    while setup.closed("stalled") == 0 {
        let _closed = client.stream.write_all(&[1]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually(|| setup.metrics.inflight_request_bytes.get() == 0).await;
    // Who sends on slowly is served.
    let whole = request(ECHO, 2, &vec![2; 1_000_000]);
    let mut slow = setup.client().await;
    for part in whole.chunks(whole.len().div_ceil(8)) {
        slow.stream.write_all(part).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(slow.receive().await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_requests_that_wait_are_free_only_while_they_are_few() {
    let setup = start_with(&[], |config| config.request_memory_bytes = 100_000);
    let (mut greedy, mut other) = (setup.client().await, setup.client().await);
    let switch = setup.switch(0);
    greedy.send(LATER, 0, &[1; 7_995]).await;
    let all: Vec<u8> = (1..100).flat_map(|id| request(SILENT, id, &[1; 7_995])).collect();
    greedy.stream.write_all(&all).await.unwrap();
    // Eight are free, twelve have room in the store, and one may go beyond it.
    eventually(|| setup.fake.started.lock().unwrap().len() >= 21).await;
    other.echoes(-1).await;
    assert_eq!(setup.fake.started.lock().unwrap().len(), 22);
    switch.send(()).unwrap();
    assert_eq!(greedy.receive().await.0, 0);
    greedy.echoes(100).await;
    eventually(|| setup.metrics.inflight_request_bytes.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_wait_stop_the_reading_of_those_that_hold_many() {
    let setup = start_with(&[], |config| config.request_memory_bytes = 1_000_000);
    let (mut one, mut two, mut other) = (setup.client().await, setup.client().await, setup.client().await);
    let (first, second) = (setup.switch(0), setup.switch(100));
    let size = 100_000_u32.to_be_bytes();
    let started = || setup.fake.started.lock().unwrap().len();
    one.send(LATER, 0, b"").await;
    for id in 1..=50 {
        one.send(LARGE, id, &size).await;
    }
    // Ten are too much for all together.
    eventually(|| started() >= 11).await;
    other.echoes(-1).await;
    assert_eq!(started(), 12);
    // A connection of its own may have three behind one that waits.
    two.send(LATER, 100, b"").await;
    for id in 101..=150 {
        two.send(LARGE, id, &size).await;
    }
    eventually(|| started() >= 16).await;
    other.echoes(-1).await;
    assert_eq!(started(), 17);
    second.send(()).unwrap();
    for id in 100..=150 {
        assert_eq!(two.receive().await.0, id);
    }
    drop(two);
    first.send(()).unwrap();
    for id in 0..=50 {
        assert_eq!(one.receive().await.0, id);
    }
}
