//! Connections that are opened by hand, before anybody needs them.

use std::time::Duration;

use slabpool::managed::AcquireError;
use slabpool::{Clock, RejectReason};
use tokio::time::Instant;

use crate::support::{MS, Mode, Refused, SECOND, settle};
use crate::watched::{Watched, assert_peer, builder, pass, with_min};

#[tokio::test(start_paused = true)]
async fn prewarm_opens_what_is_missing() {
    let peer = Watched::new();
    let pool = builder(&peer).max_connecting_per_group(3).build().unwrap();
    peer.peer.set(Mode::Open(SECOND));
    let start = Instant::now();
    assert_eq!(pool.prewarm(&1, 8).await.unwrap(), 8);
    assert_eq!(start.elapsed(), 3 * SECOND, "three at a time");
    assert_peer(&pool, 1, (8, 0, 0));
    let leases: Vec<_> = (0..3).map(|_| pool.try_acquire(&1).unwrap()).collect();
    assert_eq!(pool.prewarm(&1, 8).await.unwrap(), 0, "what is leased counts");
    assert_eq!(pool.prewarm(&1, 3).await.unwrap(), 0);
    assert_eq!(pool.prewarm(&1, 9).await.unwrap(), 1);
    leases.into_iter().for_each(|lease| lease.release());
    assert_peer(&pool, 1, (9, 0, 0));
    assert_eq!(pool.prewarm(&2, 0).await.unwrap(), 0);
    assert_eq!((peer.peer.started(), pool.status().groups), (9, 1));
}

#[tokio::test(start_paused = true)]
async fn prewarm_many_peers_at_once() {
    let peer = Watched::new();
    let pool = builder(&peer).max_connecting_per_group(2).build().unwrap();
    peer.peer.set(Mode::Open(10 * MS));
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let pool = pool.clone();
            // Two for each peer, which share what there is to do.
            tokio::spawn(async move { pool.prewarm(&(n / 2), 5).await.unwrap() })
        })
        .collect();
    let mut opened = 0;
    for task in tasks {
        opened += task.await.unwrap();
    }
    assert_eq!((opened, peer.peer.started(), peer.peer.open()), (500, 500, 500));
    (0..100).for_each(|key| assert_peer(&pool, key, (5, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn prewarm_beyond_the_limits() {
    let peer = Watched::new();
    let pool =
        with_min(&peer, 0, 20, &Clock::manual()).max_connections_per_group(10).build().unwrap();
    let AcquireError::TooManyConnections { connections, connections_max, capacity } =
        pool.prewarm(&1, 11).await.unwrap_err()
    else {
        panic!("it is too many")
    };
    let error =
        AcquireError::<String>::TooManyConnections { connections, connections_max, capacity };
    assert_eq!(
        error.to_string(),
        "11 connections to one peer are not possible: it may have 10, and the pool 20"
    );
    pool.reconfigure(|settings| settings.pool.capacity = 5).unwrap();
    for connections in [6, usize::MAX] {
        let error = pool.prewarm(&1, connections).await.unwrap_err();
        assert!(matches!(error, AcquireError::TooManyConnections { capacity: 5, .. }), "{error:?}");
    }
    assert_eq!(peer.peer.started(), 0);
    assert_eq!(pool.prewarm(&1, 5).await.unwrap(), 5);
    let leases: Vec<_> = (0..5).map(|_| pool.try_acquire(&1).unwrap()).collect();
    let error = pool.prewarm(&2, 1).await.unwrap_err();
    assert!(
        matches!(error, AcquireError::Rejected(RejectReason::Full { capacity: 5 })),
        "{error:?}"
    );
    drop(leases);
}

/// What was opened stays, the first cause is told, and no more is begun.
#[tokio::test(start_paused = true)]
async fn prewarm_that_fails() {
    let peer = Watched::new();
    let pool = builder(&peer).max_connecting_per_group(2).build().unwrap();
    peer.peer.set(Mode::Open(SECOND));
    let task = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.prewarm(&1, 10).await })
    };
    pass(500 * MS).await;
    peer.peer.set(Mode::Fail(SECOND));
    let Err(AcquireError::Connect(cause)) = task.await.unwrap() else { panic!("it fails") };
    assert_eq!(*cause, Refused(2));
    pass(10 * SECOND).await;
    assert_eq!(peer.peer.started(), 4);
    assert_peer(&pool, 1, (2, 0, 0));
}

/// Where another connect is under way and no more may be, it waits for that; and for those
/// that are given up, hang or fail.
#[tokio::test(start_paused = true)]
async fn prewarm_waits_for_other_connects() {
    let peer = Watched::new();
    let pool = builder(&peer).max_connecting_per_group(1).connect_timeout(SECOND).build().unwrap();
    for mode in [Mode::Open(500 * MS), Mode::Fail(500 * MS), Mode::Hang] {
        pool.clear_group(&1);
        peer.peer.set(mode);
        let other = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire_owned(&1).await.map(|lease| lease.release()) })
        };
        settle().await;
        peer.peer.set(Mode::Open(500 * MS));
        assert!(pool.prewarm(&1, 2).await.is_ok());
        let _outcome = other.await.unwrap();
        assert_peer(&pool, 1, (2, 0, 0));
    }
}

/// Also for one that was permitted to a caller who goes away before he begins it.
#[tokio::test(start_paused = true)]
async fn prewarm_waits_for_connects_that_are_given_up() {
    let peer = Watched::new();
    let pool = builder(&peer).max_connecting_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.peer.set(Mode::Fail(SECOND));
    let spawned = pool.clone();
    let first = tokio::spawn(async move { spawned.acquire_owned(&1).await.map(drop) });
    settle().await;
    let mut second = Box::pin(pool.acquire(&1));
    assert!(tokio::time::timeout(Duration::ZERO, &mut second).await.is_err());
    let spawned = pool.clone();
    let prewarm = tokio::spawn(async move { spawned.prewarm(&1, 3).await });
    pass(500 * MS).await;
    peer.peer.set(Mode::Open(MS));
    assert!(first.await.unwrap().is_err());
    pass(SECOND).await;
    // The second one may connect, and does not know it yet.
    assert_peer(&pool, 1, (0, 1, 1));
    assert_eq!(peer.peer.started(), 2);
    drop(second);
    assert_eq!(prewarm.await.unwrap().unwrap(), 2);
    assert_peer(&pool, 1, (2, 1, 0));
    lease.release();
}

/// A caller that goes away ends what was not begun, and nothing else, wherever it was.
#[tokio::test(start_paused = true)]
async fn prewarm_that_is_cancelled() {
    for polls in 0..3 {
        let peer = Watched::new();
        let pool = builder(&peer).max_connecting_per_group(2).build().unwrap();
        peer.peer.set(Mode::Open(SECOND));
        let mut prewarm = Box::pin(pool.prewarm(&1, 4));
        for _ in 0..polls {
            let _pending = tokio::time::timeout(SECOND, &mut prewarm).await;
            settle().await;
        }
        drop(prewarm);
        pass(5 * SECOND).await;
        let begun = 2 * polls;
        assert_eq!((peer.peer.started(), peer.peer.open()), (begun, begun));
        assert_peer(&pool, 1, (begun, 0, 0));
        assert_eq!(pool.status().groups, usize::from(begun > 0));
    }
}

#[tokio::test(start_paused = true)]
async fn prewarm_of_what_is_out_of_service() {
    let peer = Watched::new();
    let pool = builder(&peer).build().unwrap();
    pool.drain_group(&1);
    assert!(matches!(pool.prewarm(&1, 2).await, Err(AcquireError::GroupDown)));
    pool.resume_group(&1);
    peer.peer.set(Mode::Open(SECOND));
    let prewarm = |key: u32| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.prewarm(&key, 2).await })
    };
    let start = Instant::now();
    let (drained, closed) = (prewarm(1), prewarm(2));
    settle().await;
    pool.drain_group(&1);
    assert!(matches!(drained.await.unwrap(), Err(AcquireError::GroupDown)));
    let late = prewarm(2);
    settle().await;
    pool.close();
    assert!(matches!(closed.await.unwrap(), Err(AcquireError::Closed)));
    assert!(matches!(late.await.unwrap(), Ok(0)), "others had begun them all");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(matches!(pool.prewarm(&3, 2).await, Err(AcquireError::Closed)));
    pass(5 * SECOND).await;
    assert_eq!((peer.peer.open(), pool.status().groups), (0, 0));
}

/// Those who wait get what is prewarmed.
#[tokio::test(start_paused = true)]
async fn prewarm_serves_who_waits() {
    let peer = Watched::new();
    let pool = builder(&peer).max_connecting_per_group(1).build().unwrap();
    peer.peer.set(Mode::Open(SECOND));
    let prewarm = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.prewarm(&1, 1).await })
    };
    settle().await;
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((peer.peer.started(), prewarm.await.unwrap().unwrap()), (1, 1));
    lease.release();
}

/// In a full pool a peer does not close its own to have more, and two peers do not take each
/// other's for ever.
#[tokio::test(start_paused = true)]
async fn prewarm_in_a_full_pool_comes_to_an_end() {
    let peer = Watched::new();
    let pool = builder(&peer)
        .settings(|pool| pool.capacity(3).idle_timeout(None).spawn_reaper(false))
        .max_connecting_per_group(1)
        .build()
        .unwrap();
    let lease = pool.acquire_owned(&2).await.unwrap();
    let full = pool.prewarm(&1, 3).await;
    assert!(
        matches!(full, Err(AcquireError::Rejected(RejectReason::Full { capacity: 3 }))),
        "{full:?}"
    );
    assert_peer(&pool, 1, (2, 0, 0));
    assert_eq!(peer.peer.started(), 3);
    // What others have idle makes room.
    lease.release();
    assert_eq!(pool.prewarm(&1, 3).await.unwrap(), 1);
    assert_peer(&pool, 1, (3, 0, 0));
    assert_eq!(peer.peer.started(), 4);
    peer.peer.set(Mode::Open(MS));
    let prewarm = |key: u32| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.prewarm(&key, 2).await })
    };
    let both = [prewarm(3), prewarm(4)];
    pass(100 * MS).await;
    for task in both {
        assert!(task.is_finished());
        assert!(task.await.unwrap().is_ok_and(|opened| opened <= 2));
    }
    assert_eq!(peer.peer.started(), 8);
    assert_eq!((peer.peer.open(), pool.status().idle), (3, 3));
}

/// Limits that are lowered meanwhile are told, and not waited for.
#[tokio::test(start_paused = true)]
async fn prewarm_of_more_than_may_be_any_more() {
    let peer = Watched::new();
    let pool = builder(&peer).max_connecting_per_group(1).build().unwrap();
    for lowers_capacity in [false, true] {
        peer.peer.set(Mode::Open(SECOND));
        let prewarm = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.prewarm(&1, 3).await })
        };
        settle().await;
        pool.reconfigure(|settings| match lowers_capacity {
            true => settings.pool.capacity = 2,
            false => settings.max_connections_per_group = 2,
        })
        .unwrap();
        settle().await;
        assert!(prewarm.is_finished());
        let error = prewarm.await.unwrap().unwrap_err();
        assert!(matches!(error, AcquireError::TooManyConnections { connections: 3, .. }));
        pool.reconfigure(|settings| {
            (settings.pool.capacity, settings.max_connections_per_group) = (9, 9);
        })
        .unwrap();
        pass(2 * SECOND).await;
        assert_peer(&pool, 1, (1, 0, 0));
        pool.clear();
    }
}
