//! Several requests at a time on one connection.

use std::sync::Arc;
use std::time::Duration;

use slabpool::{Clock, CloseReason};
use tokio::task::JoinSet;

use crate::client::{Client, PATIENCE};
use crate::origin::{Identity, Origin, reserve};

/// A server that allows so many streams, and a client that knows it.
async fn setup(streams: u32, max_connections: usize) -> (Origin, Arc<Client>) {
    let identity = Identity::new("localhost");
    let origin = Origin::limited(reserve(), &identity, &["h2"], Some(streams));
    let share = (streams, ["h2"].as_slice());
    let client = Client::sharing(origin.address, &identity, "localhost", share, |pool| {
        pool.max_connections_per_group(max_connections)
    });
    (origin, Arc::new(client))
}

#[tokio::test]
async fn many_streams_on_few_connections() {
    let (origin, client) = setup(16, 4).await;
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
    assert!((1..=4).contains(&connects), "{connects}");
    assert_eq!((origin.accepted(), origin.requests()), (connects, 1_000));
    assert!(origin.peak() <= 16, "{} at a time", origin.peak());
    let status = client.pool.status();
    let counts = (status.idle, status.leased, status.streams, status.waiting);
    assert_eq!(counts, (connects, 0, 0, 0), "{status:?}");
    client.end(&origin).await;
}

/// What the server allows is what it gets, to the last; who comes then waits, and gets the
/// first stream that ends.
#[tokio::test]
async fn as_many_as_the_server_allows() {
    let (origin, client) = setup(4, 3).await;
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(client.hold().await);
    }
    origin.until_holding(12).await;
    assert_eq!((origin.open(), origin.peak(), client.connects()), (3, 4, 3));
    let late = client.hold().await;
    client.until(|status| status.waiting == 1).await;
    let status = client.pool.status();
    assert_eq!((status.leased, status.streams, status.idle), (3, 12, 0), "{status:?}");
    for _ in 0..13 {
        origin.open_gate();
    }
    for task in held {
        task.await.unwrap().unwrap();
    }
    late.await.unwrap().unwrap();
    assert_eq!((origin.peak(), client.connects()), (4, 3));
    client.end(&origin).await;
}

/// GOAWAY: streams that run end well, new ones go elsewhere, and the connection is closed
/// when the last has ended.
#[tokio::test]
async fn goaway_drains() {
    let (origin, client) = setup(8, 4).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(client.hold().await);
    }
    origin.until_holding(5).await;
    assert_eq!((client.ask("/").await.unwrap().connection, client.connects()), (0, 1));
    origin.go_away();
    // It is under way, so some may still be answered.
    let after = loop {
        let answer = client.ask("/after").await.unwrap();
        if answer.connection > 0 {
            break answer.connection;
        }
    };
    assert_eq!(after, 1);
    assert_eq!((client.connects(), client.pool.status().streams), (2, 5));
    for _ in 0..5 {
        origin.open_gate();
    }
    for task in held {
        let answer = task.await.unwrap().unwrap();
        assert_eq!((answer.text.as_str(), answer.connection), ("/hold", 0));
    }
    origin.until_open(1).await;
    assert_eq!(client.pool.stats().pool.closes[CloseReason::Drained], 1);
    for _ in 0..3 {
        assert_eq!(client.ask("/more").await.unwrap().connection, 1);
    }
    client.end(&origin).await;
}

/// Nobody notices, however often it does.
#[tokio::test]
async fn goaway_under_load() {
    const TIMES: usize = 10;
    let (origin, client) = setup(16, 4).await;
    let load = client.load(64);
    for times in 1..=TIMES {
        load.until(times * 100).await;
        origin.go_away();
    }
    load.until((TIMES + 1) * 100).await;
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(origin.accepted() > TIMES, "{}", origin.accepted());
    assert!(origin.peak() <= 16, "{}", origin.peak());
    client.end(&origin).await;
}

/// The lifetime is over while streams run: they go on, and no other begins.
#[tokio::test]
async fn a_lifetime_drains() {
    const LIFETIME: Duration = Duration::from_secs(60);
    let identity = Identity::new("localhost");
    let origin = Origin::start(&identity);
    let clock = Clock::manual();
    let of_pool = clock.clone();
    let share = (8, ["h2"].as_slice());
    let client = Client::sharing(origin.address, &identity, "localhost", share, |pool| {
        pool.settings(move |pool| {
            let pool = pool.clock(of_pool).idle_timeout(None).max_lifetime(LIFETIME);
            pool.spawn_reaper(false)
        })
    });
    let client = Arc::new(client);
    let held = [client.hold().await, client.hold().await];
    origin.until_holding(2).await;
    assert_eq!(client.ask("/").await.unwrap().connection, 0);
    clock.advance(LIFETIME);
    assert_eq!(client.ask("/").await.unwrap().connection, 1);
    assert_eq!(origin.open(), 2);
    for task in held {
        origin.open_gate();
        assert_eq!(task.await.unwrap().unwrap().connection, 0);
    }
    origin.until_open(1).await;
    assert_eq!(client.pool.stats().pool.closes[CloseReason::Lifetime], 1);
    client.end(&origin).await;
}

/// A caller that goes away ends its stream, and the others go on.
#[tokio::test]
async fn callers_go_away() {
    let (origin, client) = setup(8, 1).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(client.hold().await);
    }
    origin.until_holding(8).await;
    let waiting = client.hold().await;
    client.until(|status| status.waiting == 1).await;
    held.drain(..4).for_each(|task| task.abort());
    origin.until_holding(5).await;
    client.until(|status| status.streams == 5).await;
    for _ in 0..5 {
        origin.open_gate();
    }
    for task in held.into_iter().chain([waiting]) {
        assert_eq!(task.await.unwrap().unwrap().connection, 0);
    }
    assert_eq!(client.connects(), 1);
    client.end(&origin).await;
}

/// The server has agreed to HTTP/1 only: each request has its connection alone.
#[tokio::test]
async fn a_server_that_agrees_to_http1() {
    let identity = Identity::new("localhost");
    let origin = Origin::start_at(reserve(), &identity, &["http/1.1"]);
    let share = (100, ["h2", "http/1.1"].as_slice());
    let client = Client::sharing(origin.address, &identity, "localhost", share, |pool| {
        pool.max_connections_per_group(3)
    });
    let client = Arc::new(client);
    let held = [client.hold().await, client.hold().await, client.hold().await];
    origin.until_holding(3).await;
    assert_eq!((origin.open(), origin.peak()), (3, 1));
    let late = client.hold().await;
    client.until(|status| status.waiting == 1).await;
    for _ in 0..4 {
        origin.open_gate();
    }
    for task in held.into_iter().chain([late]) {
        assert_eq!(task.await.unwrap().unwrap().text, "/hold");
    }
    for _ in 0..10 {
        assert_eq!(client.ask("/again").await.unwrap().text, "/again");
    }
    assert_eq!((client.connects(), origin.peak()), (3, 1));
    let status = client.pool.status();
    assert_eq!((status.idle, status.leased, status.streams), (3, 0, 0), "{status:?}");
    client.end(&origin).await;
}

/// The pool is drained with streams out.
#[tokio::test]
async fn the_end_waits_for_streams() {
    let (origin, client) = setup(8, 4).await;
    let held = [client.hold().await, client.hold().await];
    origin.until_holding(2).await;
    let draining = tokio::spawn(client.pool.drain(PATIENCE));
    assert!(client.pool.is_closed() && !draining.is_finished());
    for task in held {
        origin.open_gate();
        assert_eq!(task.await.unwrap().unwrap().text, "/hold");
    }
    assert!(draining.await.unwrap().is_complete());
    client.end(&origin).await;
}
