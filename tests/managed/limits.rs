//! Limits, settings, and memory.

use std::time::Duration;

use slabpool::managed::{AcquireError, Builder, ConfigError, Pool};

use crate::support::{Mode, Peer, SECOND, assert_group, builder, settle, spawn};

/// C.34: idle, leased and connecting together, and connecting by itself.
#[tokio::test(start_paused = true)]
async fn both_limits_hold() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connections_per_group(4).max_connecting_per_group(2).build().unwrap();
    peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..10).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    assert_group(&pool, 0, 0, 2, 10);
    tokio::time::sleep(SECOND + SECOND / 2).await;
    assert_group(&pool, 0, 2, 2, 8);
    tokio::time::sleep(SECOND).await;
    assert_group(&pool, 0, 4, 0, 6);
    for task in tasks {
        task.await.unwrap().unwrap().release();
    }
    assert_group(&pool, 4, 0, 0, 0);
    assert_eq!(peer.peak(), 4);
}

/// An idle connection of another peer makes room before anyone waits; if none is idle, the
/// caller waits.
#[tokio::test(start_paused = true)]
async fn the_capacity_is_over_all_peers() {
    let peer = Peer::new();
    let pool = builder(&peer).settings(|pool| pool.capacity(1)).build().unwrap();
    pool.acquire(&2).await.unwrap().release();
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((peer.open(), pool.status().groups), (1, 1));
    match pool.acquire(&2).await {
        Err(AcquireError::Timeout { last: None, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.open(), 1);
    lease.release();
    assert_group(&pool, 1, 0, 0, 0);
    assert_eq!(pool.group_status(&2).connections, 0);
}

/// A connection that may never be idle is used once, and leaves no trace.
#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_idle() {
    let peer = Peer::new();
    let pool = builder(&peer)
        .settings(|pool| pool.idle_timeout(Duration::ZERO))
        .max_connections_per_group(1)
        .build()
        .unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let next = spawn(&pool, 1);
    settle().await;
    lease.release();
    let lease = next.await.unwrap().unwrap();
    assert_eq!(lease.id, 1);
    lease.release();
    // A late connection that nobody takes.
    peer.set(Mode::Open(SECOND));
    let late = spawn(&pool, 1);
    settle().await;
    late.abort();
    tokio::time::sleep(2 * SECOND).await;
    assert_group(&pool, 0, 0, 0, 0);
    assert_eq!((peer.open(), pool.status().groups), (0, 0));
}

/// G.59: peers that come and go leave nothing.
#[tokio::test(start_paused = true)]
async fn peers_without_connections_go() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    for key in 0..3_000 {
        pool.acquire(&key).await.unwrap().close();
    }
    assert_eq!((pool.status().groups, peer.open()), (0, 0));
    for key in 0..500 {
        pool.acquire(&key).await.unwrap().release();
    }
    assert_eq!(pool.status().groups, 500);
    pool.clear();
    assert_eq!((pool.status().groups, peer.open()), (0, 0));
}

/// Lifetime and idle timeout free the permits of what they end.
#[tokio::test(start_paused = true)]
async fn what_expires_no_longer_counts() {
    let peer = Peer::new();
    let clock = slabpool::Clock::manual();
    let of_pool = clock.clone();
    let pool = builder(&peer)
        .settings(move |pool| pool.clock(of_pool).idle_timeout(30 * SECOND))
        .max_connections_per_group(2)
        .build()
        .unwrap();
    let (a, b) = (pool.acquire(&1).await.unwrap(), pool.acquire(&1).await.unwrap());
    a.release();
    b.release();
    clock.advance(31 * SECOND);
    assert_eq!(pool.maintain(), 2);
    assert_group(&pool, 0, 0, 0, 0);
    // The lifetime: 30 minutes, unless it is set.
    let lease = pool.acquire_owned(&1).await.unwrap();
    clock.advance(30 * 60 * SECOND);
    let (next, third) = (pool.acquire_owned(&1).await.unwrap(), spawn(&pool, 1));
    settle().await;
    assert_group(&pool, 0, 2, 0, 1);
    lease.release();
    let third = third.await.unwrap().unwrap();
    assert_eq!(third.id, 4, "the first one was too old");
    next.release();
    third.release();
    assert_group(&pool, 2, 0, 0, 0);
}

#[test]
fn impossible_settings_are_named() {
    let build = |set: fn(Builder<u32, Peer>) -> Builder<u32, Peer>| {
        set(builder(&Peer::new())).build().unwrap_err()
    };
    assert_eq!(
        build(|b| b.max_connections_per_group(0)),
        ConfigError::OutOfRange {
            setting: "max_connections_per_group",
            value: 0,
            min: 1,
            max: 1 << 23
        }
    );
    let error = build(|b| b.max_connecting_per_group(65_536));
    assert_eq!(
        error.to_string(),
        "max_connecting_per_group is 65536, it must lie between 1 and 65535"
    );
    assert!(build(|b| b.max_waiters_per_group(usize::MAX)).to_string().contains("4194304"));
    assert_eq!(
        build(|b| b.acquire_timeout(Duration::ZERO)),
        ConfigError::Zero { setting: "acquire_timeout" }
    );
    assert_eq!(
        build(|b| b.connect_timeout(Duration::ZERO)),
        ConfigError::Zero { setting: "connect_timeout" }
    );
    let error = build(|b| b.acquire_timeout(SECOND).connect_timeout(2 * SECOND));
    assert!(error.to_string().contains("2s, at most the 1s"), "{error}");
    assert_eq!(
        build(|b| b.settings(|pool| pool.max_uses(0))),
        ConfigError::Pool(slabpool::ConfigError::MaxUsesZero)
    );
}

/// A pool is built and dropped without a runtime, and closures are managers.
#[test]
fn no_runtime_is_needed_to_build() {
    let pool = Pool::builder(|key: &u32| std::future::ready(Ok::<_, ()>(*key)))
        .max_connections_per_group(2)
        .build()
        .unwrap();
    assert!(pool.try_acquire(&1).is_none());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let lease = pool.acquire(&7).await.unwrap();
        assert_eq!(*lease, 7);
        lease.release();
    });
    drop(runtime);
    // What is there needs no runtime either.
    let lease = pool.try_acquire(&7).unwrap();
    lease.release();
    assert_eq!(pool.status().idle, 1);
}
