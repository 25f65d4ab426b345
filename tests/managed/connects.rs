//! Connects: shared, failing, hanging, panicking.

use std::sync::Arc;
use std::time::Duration;

use slabpool::managed::AcquireError;
use tokio::time::{Instant, advance};

use crate::support::{MS, Mode, Peer, Refused, SECOND, assert_group, builder, settle, spawn};

/// B.18: all who wait for one connect learn its cause, and C.30: it is one.
#[tokio::test(start_paused = true)]
async fn one_failed_connect_is_told_to_all_who_waited_for_it() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connecting_per_group(1).build().unwrap();
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
    assert_eq!(*causes[0], Refused(0));
    assert_eq!(peer.started(), 1);
    assert_group(&pool, 0, 0, 0, 0);
    assert_eq!(pool.status().groups, 0, "nothing is left of the peer");
}

/// Every connect fails: with one for each, each learns of its own; nobody hangs.
#[tokio::test(start_paused = true)]
async fn all_connects_fail() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(4).build().unwrap();
    peer.set(Mode::Fail(10 * MS));
    let tasks: Vec<_> = (0..50).map(|_| spawn(&pool, 1)).collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(AcquireError::Connect(_))));
    }
    assert_group(&pool, 0, 0, 0, 0);
    assert_eq!((peer.open(), peer.started(), peer.peak()), (0, 4, 4));
}

/// B.25: a hung handshake with a hundred waiters is over when it has to be, and the next
/// caller finds a fresh start.
#[tokio::test(start_paused = true)]
async fn a_hung_connect_with_a_hundred_waiters() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connecting_per_group(1).connect_timeout(2 * SECOND).build().unwrap();
    peer.set(Mode::Hang);
    let start = Instant::now();
    let tasks: Vec<_> = (0..100).map(|_| spawn(&pool, 1)).collect();
    for task in tasks {
        let outcome = task.await.unwrap();
        assert!(
            matches!(outcome, Err(AcquireError::ConnectTimeout { connect_timeout }) if connect_timeout == 2 * SECOND)
        );
    }
    let took = start.elapsed();
    assert!((2 * SECOND..3 * SECOND).contains(&took), "{took:?}");
    assert_eq!((peer.started(), peer.open()), (1, 0));
    peer.set(Mode::Open(MS));
    pool.acquire(&1).await.unwrap().release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// While the peer has a connection, a failed connect is its caller's alone, and the others
/// wait on.
#[tokio::test(start_paused = true)]
async fn a_failed_connect_beside_a_connection_is_one_callers() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(2).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Fail(SECOND));
    let first = spawn(&pool, 1);
    settle().await;
    let second = spawn(&pool, 1);
    settle().await;
    assert_group(&pool, 0, 1, 1, 2);
    let outcome = first.await.unwrap();
    assert!(matches!(outcome, Err(AcquireError::Connect(cause)) if *cause == Refused(1)));
    settle().await;
    // The next one has its turn.
    assert_group(&pool, 0, 1, 1, 1);
    lease.release();
    let lease = second.await.unwrap().unwrap();
    assert_eq!(lease.id, 0);
    lease.release();
    tokio::time::sleep(2 * SECOND).await;
    assert_group(&pool, 1, 0, 0, 0);
}

/// J.69: a caller that times out learns how the last connect failed.
#[tokio::test(start_paused = true)]
async fn a_timeout_names_the_last_error() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(2).build().unwrap();
    let _lease = pool.acquire(&1).await.unwrap();
    peer.set(Mode::Fail(SECOND));
    let first = spawn(&pool, 1);
    settle().await;
    // No connect is started for this one: there is one, and one that waits for it.
    let second = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire_timeout_owned(&1, 1_500 * MS).await })
    };
    settle().await;
    peer.set(Mode::Hang);
    assert!(matches!(first.await.unwrap(), Err(AcquireError::Connect(_))));
    match second.await.unwrap() {
        Err(AcquireError::Timeout { waited, last: Some(cause) }) => {
            assert_eq!(*cause, Refused(1));
            assert!((1_500 * MS..2 * SECOND).contains(&waited), "{waited:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// A connect that panics is told as such, and leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn a_connect_that_panics() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    peer.set(Mode::Panic);
    let (first, second) = (spawn(&pool, 1), spawn(&pool, 1));
    for task in [first, second] {
        assert!(matches!(task.await.unwrap(), Err(AcquireError::ConnectAborted)));
    }
    assert_group(&pool, 0, 0, 0, 0);
    peer.set(Mode::Open(Duration::ZERO));
    pool.acquire(&1).await.unwrap().release();
    assert_eq!(peer.open(), 1);
}

/// A.10: no connect is started for a caller that has waited until there is no time left for
/// one; whoever has the time gets it.
#[tokio::test(start_paused = true)]
async fn no_connect_that_could_not_end_in_time() {
    let peer = Peer::new();
    let pool = builder(&peer)
        .max_connections_per_group(1)
        .acquire_timeout(5 * SECOND)
        .connect_timeout(2 * SECOND)
        .build()
        .unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let late = spawn(&pool, 1);
    settle().await;
    advance(4 * SECOND).await;
    lease.close();
    settle().await;
    assert_eq!(peer.started(), 1, "one second is left, a connect may take two");
    let early = spawn(&pool, 1);
    settle().await;
    assert_eq!(peer.started(), 2);
    // It was started for the one that has the time, and goes to the one who came first.
    late.await.unwrap().unwrap().release();
    early.await.unwrap().unwrap().release();
    assert_eq!(peer.started(), 2);
    assert_group(&pool, 1, 0, 0, 0);
}

/// Who never had time for a whole connect may have one within half of its time; who has
/// none at all may not.
#[tokio::test(start_paused = true)]
async fn a_caller_in_a_hurry() {
    let peer = Peer::new();
    let pool = builder(&peer).connect_timeout(2 * SECOND).build().unwrap();
    peer.set(Mode::Open(10 * MS));
    pool.acquire_timeout(&1, SECOND).await.unwrap().close();
    assert_eq!(peer.started(), 1);
    match pool.acquire_timeout(&1, Duration::ZERO).await {
        Err(AcquireError::Timeout { last: None, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.started(), 1);
    pool.acquire(&1).await.unwrap().release();
    pool.acquire_timeout(&1, Duration::ZERO).await.unwrap().release();
    // Longer than any clock.
    pool.acquire_timeout(&1, Duration::MAX).await.unwrap().release();
}

/// Cold start, one connect at a time: no more connections are opened than are needed.
#[tokio::test(start_paused = true)]
async fn a_cold_start_in_single_file() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connecting_per_group(1).build().unwrap();
    peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(&1).await.unwrap().release() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    tokio::time::sleep(3 * SECOND).await;
    assert!(peer.started() <= 2, "{} connects for users that take no time", peer.started());
    assert_eq!(pool.group_status(&1).connections, peer.open());
}

/// A check that a connection does not pass leads to the next one; one that hangs is over
/// when the caller's time is.
#[tokio::test(start_paused = true)]
async fn connections_that_were_idle_for_long_are_checked() {
    let peer = Peer::new();
    let clock = slabpool::Clock::manual();
    let of_pool = clock.clone();
    let pool = builder(&peer)
        .settings(move |pool| pool.clock(of_pool).idle_timeout(None).max_lifetime(None))
        .check_after(10 * SECOND)
        .build()
        .unwrap();
    pool.acquire(&1).await.unwrap().release();
    clock.advance(9 * SECOND);
    pool.acquire(&1).await.unwrap().release();
    assert_eq!(peer.checks(), 0);
    clock.advance(10 * SECOND);
    pool.acquire(&1).await.unwrap().release();
    assert_eq!(peer.checks(), 1);
    clock.advance(10 * SECOND);
    peer.set_check(false, false);
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((peer.checks(), lease.id, peer.open()), (2, 1, 1));
    lease.release();
    clock.advance(10 * SECOND);
    peer.set_check(true, true);
    let outcome = pool.acquire(&1).await;
    assert!(matches!(outcome, Err(AcquireError::Timeout { .. })));
    assert_eq!(peer.open(), 0, "half a ping may be left in it");
    assert_group(&pool, 0, 0, 0, 0);
}
