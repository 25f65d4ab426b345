//! HTTP/2 over TLS behind a managed pool: hyper on both sides, on loopback; each test
//! starts the server that it uses, and ends it.
//!
//! A connection carries one request at a time, or, in `sharing`, as many as the server
//! allows. All of them are taken in one place, [`client::Client::once`].

mod client;
mod failures;
mod origin;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use slabpool::{Clock, CloseReason};
use tokio::task::JoinSet;

use client::{Client, PATIENCE};
use origin::{Identity, Origin};

/// A server, and a client that trusts it.
async fn setup(max_connections: usize) -> (Origin, Arc<Client>) {
    let identity = Identity::new("localhost");
    let origin = Origin::start(&identity);
    let client = Client::new(origin.address, &identity, "localhost", |pool| {
        pool.max_connections_per_group(max_connections)
    });
    (origin, Arc::new(client))
}

#[tokio::test]
async fn many_requests_on_few_connections() {
    let (origin, client) = setup(8).await;
    let mut tasks = JoinSet::new();
    for task in 0..200 {
        let client = Arc::clone(&client);
        tasks.spawn(async move {
            for request in 0..5 {
                let path = format!("/{task}/{request}");
                assert_eq!(client.ask(&path).await.unwrap().text, path);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    client.until(|status| status.connecting == 0).await;
    let connects = client.connects();
    assert!((1..=8).contains(&connects), "{connects}");
    assert_eq!((origin.accepted(), origin.requests()), (connects, 1_000));
    let status = client.pool.status();
    let counts = (status.idle, status.leased, status.connecting, status.waiting);
    assert_eq!(counts, (connects, 0, 0, 0), "{status:?}");
    client.end(&origin).await;
}

/// The server sends GOAWAY: what is under way ends well, and nothing new goes there.
#[tokio::test]
async fn a_server_that_sends_goaway() {
    let (origin, client) = setup(8).await;
    let held = client.hold().await;
    origin.until_holding(1).await;
    let idle = client.ask("/").await.unwrap().connection;
    origin.go_away();
    // The idle one has nothing to wait for.
    origin.until_open(1).await;
    client.until_none_is_idle().await;
    let after = client.ask("/after").await.unwrap();
    assert!(after.connection > idle, "{after:?}");
    origin.open_gate();
    let answer = held.await.unwrap().unwrap();
    assert_eq!((answer.text.as_str(), answer.connection), ("/hold", 0));
    origin.until_open(1).await;
    for _ in 0..3 {
        assert_eq!(client.ask("/more").await.unwrap().connection, after.connection);
    }
    assert_eq!(client.pool.status().leased, 0);
    client.end(&origin).await;
}

/// Nobody notices, however often it does.
#[tokio::test]
async fn goaway_under_load() {
    const TIMES: usize = 10;
    let (origin, client) = setup(8).await;
    let load = client.load(64);
    for times in 1..=TIMES {
        load.until(times * 100).await;
        origin.go_away();
    }
    load.until((TIMES + 1) * 100).await;
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(origin.accepted() > TIMES, "{}", origin.accepted());
    client.end(&origin).await;
}

/// A connection does not live longer than it may, and nobody's request is cut for that.
#[tokio::test]
async fn a_lifetime_ends() {
    const LIFETIME: Duration = Duration::from_secs(60);
    let identity = Identity::new("localhost");
    let origin = Origin::start(&identity);
    let clock = Clock::manual();
    let of_pool = clock.clone();
    let client = Arc::new(Client::new(origin.address, &identity, "localhost", |pool| {
        pool.settings(move |pool| {
            let pool = pool.clock(of_pool).idle_timeout(None).max_lifetime(LIFETIME);
            pool.spawn_reaper(false)
        })
    }));
    assert_eq!(client.ask("/").await.unwrap().connection, 0);
    assert_eq!(client.ask("/").await.unwrap().connection, 0);
    clock.advance(LIFETIME);
    assert_eq!(client.ask("/").await.unwrap().connection, 1);
    origin.until_open(1).await;
    // It is over while it is in use.
    let held = client.hold().await;
    origin.until_holding(1).await;
    clock.advance(LIFETIME);
    client.pool.maintain();
    assert_eq!(origin.open(), 1);
    origin.open_gate();
    assert_eq!(held.await.unwrap().unwrap().connection, 1);
    origin.until_open(0).await;
    assert_eq!(client.ask("/").await.unwrap().connection, 2);
    // Nobody asks: the maintenance closes it.
    clock.advance(2 * LIFETIME);
    client.pool.maintain();
    origin.until_open(0).await;
    assert_eq!(client.pool.stats().pool.closes[CloseReason::Lifetime], 3);
    client.end(&origin).await;
}

/// A caller that goes away while its request is under way leaves nothing behind.
#[tokio::test]
async fn callers_go_away() {
    let (origin, client) = setup(4).await;
    for round in 1..=3 {
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(client.hold().await);
        }
        origin.until_holding(4).await;
        // One more waits, and goes away first.
        let waiting = client.hold().await;
        client.until(|status| status.waiting == 1).await;
        waiting.abort();
        client.until(|status| status.waiting == 0).await;
        held.iter().for_each(|task| task.abort());
        client.until(|status| status.leased == 0).await;
        origin.until_holding(0).await;
        assert_eq!(client.ask("/").await.unwrap().text, "/", "{round}");
    }
    client.end(&origin).await;
}

/// The pool is drained while a request is under way.
#[tokio::test]
async fn the_end_waits_for_requests() {
    let (origin, client) = setup(4).await;
    let held = client.hold().await;
    origin.until_holding(1).await;
    let draining = tokio::spawn(client.pool.drain(PATIENCE));
    client.until(|status| status.idle == 0).await;
    assert!(client.pool.is_closed() && !draining.is_finished());
    origin.open_gate();
    assert_eq!(held.await.unwrap().unwrap().text, "/hold");
    assert!(draining.await.unwrap().is_complete());
    client.end(&origin).await;
}
