//! Connections that a miss opens besides the one that it needs.

use slabpool::Clock;
use slabpool::managed::{AcquireError, OnMiss};

use crate::support::{MS, Mode, SECOND, settle};
use crate::watched::{Watched, assert_peer, builder, with_min};

#[tokio::test(start_paused = true)]
async fn a_miss_opens_as_many_as_the_pool_grows_by() {
    for on_miss in [OnMiss::Race, OnMiss::Connect, OnMiss::Wait(MS)] {
        let peer = Watched::new();
        let pool = builder(&peer).grow_by(4).on_miss(on_miss).build().unwrap();
        peer.peer.set(Mode::Open(SECOND));
        let lease = pool.acquire(&1).await.unwrap();
        settle().await;
        assert_peer(&pool, 1, (3, 1, 0));
        let more: Vec<_> = (0..3).map(|_| pool.try_acquire(&1).unwrap()).collect();
        assert_eq!(peer.peer.started(), 4);
        lease.release();
        drop(more);
    }
}

/// Callers that wait count: ten of them have ten connects, not forty.
#[tokio::test(start_paused = true)]
async fn growth_is_not_for_each_caller() {
    let peer = Watched::new();
    let pool = builder(&peer).grow_by(4).build().unwrap();
    peer.peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire_owned(&1).await.unwrap() })
        })
        .collect();
    let mut leases = Vec::new();
    for task in tasks {
        leases.push(task.await.unwrap());
    }
    settle().await;
    assert_eq!(peer.peer.started(), 10);
    assert_peer(&pool, 1, (0, 10, 0));
}

#[tokio::test(start_paused = true)]
async fn growth_within_the_limits() {
    let peer = Watched::new();
    let grown = async |max, connecting, capacity| {
        let pool = with_min(&peer, 0, capacity, &Clock::manual())
            .grow_by(8)
            .max_connections_per_group(max)
            .max_connecting_per_group(connecting)
            .build()
            .unwrap();
        pool.prewarm(&2, 2).await.unwrap();
        let lease = pool.acquire(&1).await.unwrap();
        settle().await;
        let status = pool.group_status(&1);
        assert_eq!(pool.group_status(&2).idle, 2, "nothing is evicted for growth");
        lease.release();
        status.connections
    };
    assert_eq!(grown(5, 100, 100).await, 5);
    assert_eq!(grown(100, 3, 100).await, 3);
    assert_eq!(grown(100, 100, 6).await, 4);
    assert_eq!(grown(100, 100, 3).await, 1);
}

/// A surplus connect that fails is told to nobody, and is remembered for who times out; the
/// caller's own is what it waits for.
#[tokio::test(start_paused = true)]
async fn growth_that_fails() {
    let peer = Watched::new();
    let pool = builder(&peer).grow_by(3).build().unwrap();
    peer.peer.set(Mode::Fail(SECOND));
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Connect(_))));
    settle().await;
    assert_peer(&pool, 1, (0, 0, 0));
    assert_eq!((peer.peer.started(), peer.peer.open(), pool.status().groups), (3, 0, 0));
}
