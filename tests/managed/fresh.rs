//! Who wants a connection that nobody has used: `acquire_fresh`, and within a time of its own.

use std::time::Duration;

use slabpool::managed::{AcquireError, OnMiss};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{
    MS, Mode, Outcome, Peer, SECOND, TestPool, assert_group, builder, poll_times, settle, spawn,
};

fn spawn_fresh(pool: &TestPool) -> JoinHandle<Outcome> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire_fresh_owned(&1).await })
}

/// What is idle stays idle, however a miss is met.
#[tokio::test(start_paused = true)]
async fn opens_one_although_others_are_idle() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(SECOND), OnMiss::Connect] {
        let peer = Peer::new();
        let pool = builder(&peer).on_miss(on_miss).build().unwrap();
        pool.prewarm(&1, 2).await.unwrap();
        let fresh = pool.acquire_fresh(&1).await.unwrap();
        assert_eq!(fresh.id, 2);
        assert!(!fresh.meta().reused && fresh.meta().connected, "{:?}", fresh.meta());
        assert_group(&pool, 2, 1, 0, 0);
        fresh.release();
        assert_group(&pool, 3, 0, 0, 0);
        assert_eq!(pool.acquire(&1).await.unwrap().id, 2);
    }
}

/// At the limit an idle one makes room: it, and no other.
#[tokio::test(start_paused = true)]
async fn at_the_limit_it_replaces_what_is_idle() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(2).build().unwrap();
    pool.prewarm(&1, 2).await.unwrap();
    let fresh = pool.acquire_fresh_owned(&1).await.unwrap();
    assert!(!fresh.meta().reused);
    assert_eq!((fresh.id, peer.open(), peer.peak()), (2, 2, 2));
    assert_group(&pool, 1, 1, 0, 0);
}

/// So it is with one that is in use, when it comes back.
#[tokio::test(start_paused = true)]
async fn at_the_limit_it_waits_its_turn() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let first = spawn(&pool, 1);
    settle().await;
    let fresh = spawn_fresh(&pool);
    settle().await;
    let last = spawn(&pool, 1);
    settle().await;
    assert_group(&pool, 0, 1, 0, 3);
    lease.release();
    // Whoever was first takes it as it is.
    let first = first.await.unwrap().unwrap();
    assert!(first.id == 0 && !fresh.is_finished());
    first.release();
    // This one closes what it is handed. The next in the line has the place that this frees,
    // and so it was not the only one that gained by it.
    let last = last.await.unwrap().unwrap();
    assert_eq!((last.id, peer.open()), (1, 1));
    assert!(!fresh.is_finished());
    last.release();
    let fresh = fresh.await.unwrap().unwrap();
    assert!(fresh.id == 2 && fresh.meta().connected, "{:?}", fresh.meta());
    assert_eq!((peer.open(), peer.peak()), (1, 1));
    fresh.release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// The capacity of the pool counts as well.
#[tokio::test(start_paused = true)]
async fn where_the_pool_is_full() {
    let peer = Peer::new();
    let pool = builder(&peer).settings(|pool| pool.capacity(1)).build().unwrap();
    pool.acquire(&1).await.unwrap().release();
    let fresh = pool.acquire_fresh_owned(&1).await.unwrap();
    assert_eq!((fresh.id, peer.peak()), (1, 1));
    fresh.release();
    // Another peer's makes room for this one.
    pool.acquire(&2).await.unwrap().release();
    assert_eq!(pool.acquire_fresh(&1).await.unwrap().id, 3);
    assert_eq!((peer.open(), peer.peak()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn its_errors_are_those_of_acquire() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let error = pool.acquire_fresh(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
    lease.close();
    peer.set(Mode::Fail(Duration::ZERO));
    let error = pool.acquire_fresh(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::Connect(_)), "{error:?}");
    pool.drain_group(&1);
    let error = pool.acquire_fresh(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::GroupDown), "{error:?}");
    pool.close();
    let error = pool.acquire_fresh(&1).await.unwrap_err();
    assert!(matches!(error, AcquireError::Closed), "{error:?}");
    assert_eq!(pool.status().groups, 0);
}

/// The time of the caller, in the place of the pool's: shorter, longer, and none at all.
#[tokio::test(start_paused = true)]
async fn within_a_time() {
    let peer = Peer::new();
    let pool = builder(&peer)
        .max_connections_per_group(1)
        .acquire_timeout(2 * SECOND)
        .connect_timeout(SECOND)
        .build()
        .unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    for timeout in [Duration::ZERO, MS, SECOND, 10 * SECOND] {
        let start = Instant::now();
        let error = pool.acquire_fresh_timeout(&1, timeout).await.unwrap_err();
        let AcquireError::Timeout { waited, .. } = error else { panic!("{error:?}") };
        let elapsed = start.elapsed();
        assert!(elapsed >= timeout && elapsed < timeout + 2 * MS, "{elapsed:?}");
        assert!(waited >= timeout && waited <= elapsed, "{waited:?}");
    }
    assert_eq!(pool.stats().timeouts, 4);
    assert_group(&pool, 0, 1, 0, 0);
    lease.release();

    // What was idle goes for it, but not for one who has no time.
    let error = pool.acquire_fresh_timeout_owned(&1, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
    assert_eq!(peer.started(), 1);
    assert_group(&pool, 1, 0, 0, 0);
    peer.set(Mode::Open(MS));
    let fresh = pool.acquire_fresh_timeout_owned(&1, 10 * MS).await.unwrap();
    assert!(!fresh.meta().reused && fresh.id == 1, "{:?}", fresh.meta());
    // Its time is over while the connect goes on: that is for others.
    fresh.close();
    peer.set(Mode::Open(20 * MS));
    let error = pool.acquire_fresh_timeout(&1, 10 * MS).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
    tokio::time::sleep(20 * MS).await;
    assert_group(&pool, 1, 0, 0, 0);
    assert!(pool.acquire(&1).await.unwrap().meta().reused);
}

/// B: dropped at every await point; nothing is left that nobody has.
#[tokio::test(start_paused = true)]
async fn whoever_goes_away_leaves_nothing_behind() {
    for limit in [1, 2] {
        for times in 0..6 {
            let peer = Peer::new();
            let pool = builder(&peer).max_connections_per_group(limit).build().unwrap();
            let held = pool.acquire_owned(&1).await.unwrap();
            peer.set(Mode::Open(2 * MS));
            let mut held = Some(held);
            let outcome = {
                let held = std::cell::RefCell::new(&mut held);
                let back = |time| {
                    if time == 1 {
                        held.borrow_mut().take().into_iter().for_each(|lease| lease.release());
                    }
                };
                poll_times(pool.acquire_fresh_owned(&1), times, back).await
            };
            if let Some(lease) = outcome {
                assert!(!lease.unwrap().meta().reused);
            }
            drop(held);
            tokio::time::sleep(SECOND).await;
            let status = pool.group_status(&1);
            assert_eq!((status.leased, status.connecting, status.waiting), (0, 0, 0), "{status:?}");
            assert_eq!((status.connections, peer.open()), (status.idle, status.idle));
            assert!(peer.peak() <= limit);
        }
    }
}
