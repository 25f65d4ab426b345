//! The first connect to a peer: `single_flight`.

use std::sync::Arc;

use slabpool::managed::{AcquireError, Builder, OnMiss};
use tokio::time::Instant;

use crate::support::{MS, Mode, Peer, Refused, SECOND, assert_group, builder, settle, spawn};

const POLICIES: [OnMiss; 3] = [OnMiss::Race, OnMiss::Wait(MS), OnMiss::Connect];

fn single(peer: &Peer, on_miss: OnMiss) -> Builder<u32, Peer> {
    builder(peer).on_miss(on_miss).single_flight(true)
}

/// C.31: a hundred callers of a cold peer have one connection opened; when it is there, others
/// are opened for those who still wait.
#[tokio::test(start_paused = true)]
async fn a_hundred_cold_callers() {
    for on_miss in POLICIES {
        let peer = Peer::new();
        let pool = single(&peer, on_miss).max_connections_per_group(10).build().unwrap();
        peer.set(Mode::Open(SECOND));
        let tasks: Vec<_> = (0..100).map(|_| spawn(&pool, 1)).collect();
        settle().await;
        assert_group(&pool, 0, 0, 1, 100);
        tokio::time::sleep(SECOND + MS).await;
        assert_eq!(peer.started(), 10, "as many as there may be");
        assert_group(&pool, 0, 1, 9, 99);
        for task in tasks {
            task.await.unwrap().unwrap().release();
        }
        tokio::time::sleep(SECOND).await;
        assert_eq!((peer.started(), peer.peak()), (10, 10));
        assert_group(&pool, 10, 0, 0, 0);
        // Cold again.
        pool.clear();
        let tasks: Vec<_> = (0..3).map(|_| spawn(&pool, 1)).collect();
        settle().await;
        assert_group(&pool, 0, 0, 1, 3);
        for task in tasks {
            task.await.unwrap().unwrap().release();
        }
    }
}

/// B.18, C.30: it fails, once, and all are told the same.
#[tokio::test(start_paused = true)]
async fn a_hundred_cold_callers_in_vain() {
    for on_miss in POLICIES {
        let peer = Peer::new();
        let pool = single(&peer, on_miss).build().unwrap();
        peer.set(Mode::Fail(SECOND));
        let tasks: Vec<_> = (0..100).map(|_| spawn(&pool, 1)).collect();
        settle().await;
        assert_group(&pool, 0, 0, 1, 100);
        let mut causes = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Err(AcquireError::Connect(cause)) => causes.push(cause),
                other => panic!("{other:?}"),
            }
        }
        assert!(causes.iter().all(|cause| Arc::ptr_eq(cause, &causes[0])));
        assert_eq!((&*causes[0], peer.started()), (&Refused(0), 1));
        assert_group(&pool, 0, 0, 0, 0);
        assert_eq!(pool.status().groups, 0);
    }
}

/// B.25: one that hangs is over when it has to be, and the next caller has the next one.
#[tokio::test(start_paused = true)]
async fn the_first_connect_hangs() {
    for on_miss in POLICIES {
        let peer = Peer::new();
        let pool = single(&peer, on_miss).connect_timeout(2 * SECOND).build().unwrap();
        peer.set(Mode::Hang);
        let start = Instant::now();
        let tasks: Vec<_> = (0..100).map(|_| spawn(&pool, 1)).collect();
        settle().await;
        peer.set(Mode::Open(MS));
        for task in tasks {
            assert!(matches!(task.await.unwrap(), Err(AcquireError::ConnectTimeout { .. })));
        }
        let took = start.elapsed();
        assert!((2 * SECOND..3 * SECOND).contains(&took), "{took:?}");
        assert_eq!((peer.started(), peer.open()), (1, 0));
        let lease = pool.acquire(&1).await.unwrap();
        assert_eq!((lease.id, peer.started()), (1, 2));
        lease.release();
        assert_group(&pool, 1, 0, 0, 0);
    }
}

/// Whose own time is up sooner than that of the connect does not wait for its end.
#[tokio::test(start_paused = true)]
async fn a_hung_connect_and_a_caller_in_a_hurry() {
    let peer = Peer::new();
    let pool = single(&peer, OnMiss::Race).build().unwrap();
    peer.set(Mode::Hang);
    let first = spawn(&pool, 1);
    settle().await;
    let start = Instant::now();
    let outcome = pool.acquire_timeout(&1, SECOND).await;
    assert!(matches!(outcome, Err(AcquireError::Timeout { .. })));
    assert!(start.elapsed() < 2 * SECOND);
    assert!(matches!(first.await.unwrap(), Err(AcquireError::ConnectTimeout { .. })));
    assert_eq!(peer.started(), 1);
    assert_group(&pool, 0, 0, 0, 0);
}

/// B.17: the caller that it was started for goes away; the connect goes on, for the others.
#[tokio::test(start_paused = true)]
async fn whoever_began_it_goes_away() {
    for on_miss in POLICIES {
        let peer = Peer::new();
        let pool = single(&peer, on_miss).max_connections_per_group(1).build().unwrap();
        peer.set(Mode::Open(SECOND));
        let first = spawn(&pool, 1);
        settle().await;
        let others: Vec<_> = (0..10).map(|_| spawn(&pool, 1)).collect();
        settle().await;
        first.abort();
        settle().await;
        assert_group(&pool, 0, 0, 1, 10);
        for other in others {
            other.await.unwrap().unwrap().release();
        }
        assert_eq!(peer.started(), 1);
        assert_group(&pool, 1, 0, 0, 0);
    }
}

/// ... and one that was permitted it, and goes before it has begun, leaves that to the next.
#[tokio::test(start_paused = true)]
async fn whoever_should_begin_it_goes_away() {
    let peer = Peer::new();
    let pool = single(&peer, OnMiss::Race).max_connections_per_group(3).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let others = [pool.acquire_owned(&1).await.unwrap(), pool.acquire_owned(&1).await.unwrap()];
    let waiters: Vec<_> = (0..5).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    drop(others);
    // One is still open, so two may be opened at a time.
    assert_group(&pool, 0, 1, 2, 5);
    settle().await;
    assert_eq!(peer.started(), 5);
    for waiter in waiters {
        waiter.await.unwrap().unwrap().release();
    }
    pool.clear();
    lease.close();
    peer.set(Mode::Hang);
    let (first, second) = (spawn(&pool, 1), spawn(&pool, 1));
    settle().await;
    assert_group(&pool, 0, 0, 1, 2);
    first.abort();
    second.abort();
    settle().await;
    // It goes on, although nobody wants it; and nobody has another one opened meanwhile.
    let third = spawn(&pool, 1);
    settle().await;
    assert_group(&pool, 0, 0, 1, 1);
    assert!(matches!(third.await.unwrap(), Err(AcquireError::ConnectTimeout { .. })));
    assert_group(&pool, 0, 0, 0, 0);
}

/// The last open one is closed while others are opened: they go on, and none is begun until
/// one of them is open.
#[tokio::test(start_paused = true)]
async fn the_last_one_is_closed_meanwhile() {
    let peer = Peer::new();
    let pool = single(&peer, OnMiss::Race).max_connections_per_group(4).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Open(SECOND));
    let waiters: Vec<_> = (0..2).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    assert_group(&pool, 0, 1, 2, 2);
    lease.close();
    let more: Vec<_> = (0..2).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    assert_group(&pool, 0, 0, 2, 4);
    tokio::time::sleep(SECOND + MS).await;
    assert_group(&pool, 0, 2, 2, 2);
    for waiter in waiters.into_iter().chain(more) {
        waiter.await.unwrap().unwrap().release();
    }
    assert_eq!((peer.started(), peer.peak()), (5, 4));
}

/// Each peer by itself.
#[tokio::test(start_paused = true)]
async fn one_for_each_peer() {
    let peer = Peer::new();
    let pool = single(&peer, OnMiss::Race).build().unwrap();
    peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..40).map(|number| spawn(&pool, number % 4)).collect();
    settle().await;
    assert_eq!((peer.started(), pool.status().connecting), (4, 4));
    for task in tasks {
        task.await.unwrap().unwrap().release();
    }
}
