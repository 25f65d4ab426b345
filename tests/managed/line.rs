//! Who waits, and in what order.

use std::sync::{Arc, Mutex};

use slabpool::managed::AcquireError;

use crate::support::{Peer, SECOND, assert_group, builder, settle, spawn};

/// A.6, A.14: waiters are served in the order in which they came.
#[tokio::test(start_paused = true)]
async fn first_come_first_served() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..10 {
        let (pool, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let lease = pool.acquire(&1).await.unwrap();
            order.lock().unwrap().push(number);
            tokio::task::yield_now().await;
            lease.release();
        }));
        settle().await;
    }
    assert_group(&pool, 0, 1, 0, 10);
    lease.release();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
    assert_group(&pool, 1, 0, 0, 0);
    assert_eq!(peer.started(), 1);
}

/// A.8: a newcomer does not overtake, also if it meets an idle connection first.
#[tokio::test(start_paused = true)]
async fn a_newcomer_leaves_what_it_meets_to_those_who_wait() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let first = spawn(&pool, 1);
    settle().await;
    lease.release();
    assert!(pool.try_acquire(&1).is_none(), "it is the first one's");
    let second = spawn(&pool, 1);
    settle().await;
    let lease = first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    lease.release();
    second.await.unwrap().unwrap().release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// One more than may wait is turned away at once, and the next one may wait again when one
/// has gone.
#[tokio::test(start_paused = true)]
async fn only_so_many_may_wait() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connections_per_group(1).max_waiters_per_group(2).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let (first, second) = (spawn(&pool, 1), spawn(&pool, 1));
    settle().await;
    match pool.acquire(&1).await {
        Err(AcquireError::TooManyWaiters { waiters_max: 2 }) => {}
        other => panic!("{other:?}"),
    }
    assert_group(&pool, 0, 1, 0, 2);
    first.abort();
    settle().await;
    let third = spawn(&pool, 1);
    settle().await;
    assert_group(&pool, 0, 1, 0, 2);
    lease.release();
    second.await.unwrap().unwrap().release();
    third.await.unwrap().unwrap().release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// Where nobody may wait, whoever can have a connect still gets one.
#[tokio::test(start_paused = true)]
async fn where_nobody_may_wait_connects_are_still_made() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connections_per_group(1).max_waiters_per_group(0).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let refused = pool.acquire(&1).await;
    assert!(matches!(refused, Err(AcquireError::TooManyWaiters { waiters_max: 0 })));
    lease.release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// A.3: a connection that is closed wakes a waiter just as one that is released does; and
/// so does one that leaves.
#[tokio::test(start_paused = true)]
async fn however_a_lease_ends_the_next_one_hears_of_it() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    for end in 0..5 {
        let lease = pool.acquire_owned(&1).await.unwrap();
        let next = spawn(&pool, 1);
        settle().await;
        match end {
            0 => lease.close(),
            1 => drop(lease),
            2 => drop(lease.detach()),
            3 => lease.close_dead(),
            _ => lease.release_with(slabpool::PutOptions::new()),
        }
        let lease = next.await.unwrap().unwrap();
        assert_eq!(lease.meta().connected, end != 4);
        lease.close();
        assert_group(&pool, 0, 0, 0, 0);
    }
    assert_eq!(peer.open(), 0);
}

/// A.3: all connections break at once, and all who wait are served by new ones.
#[tokio::test(start_paused = true)]
async fn all_connections_break_at_once() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(8).build().unwrap();
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(pool.acquire_owned(&1).await.unwrap());
    }
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(&1).await.unwrap().close() })
        })
        .collect();
    settle().await;
    assert_group(&pool, 0, 8, 0, 32);
    drop(leases);
    for task in tasks {
        task.await.unwrap();
    }
    assert_group(&pool, 0, 0, 0, 0);
    assert_eq!((peer.open(), peer.peak()), (0, 8));
}

/// A.3: the same with a thousand in line, and no time that passes: each closed connection is
/// the next one's turn.
#[tokio::test(start_paused = true)]
async fn all_connections_break_at_once_with_a_thousand_in_line() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(8).build().unwrap();
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(pool.acquire_owned(&1).await.unwrap());
    }
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let lease = pool.acquire(&1).await.unwrap();
                // Most of them break again.
                if number % 10 == 0 { lease.release() } else { lease.close() }
            })
        })
        .collect();
    settle().await;
    assert_group(&pool, 0, 8, 0, 1_000);
    let start = tokio::time::Instant::now();
    drop(leases);
    for task in tasks {
        task.await.unwrap();
    }
    assert!(start.elapsed() < SECOND / 1_000, "{:?}", start.elapsed());
    let idle = peer.open();
    assert_group(&pool, idle, 0, 0, 0);
    assert!(peer.peak() <= 8);
    assert_eq!((pool.stats().timeouts, pool.stats().served), (0, 1_008));
}

/// Idle ones that are found dead on the way are replaced.
#[tokio::test(start_paused = true)]
async fn what_the_probe_refuses_is_replaced() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(2).build().unwrap();
    let mut leases = [pool.acquire_owned(&1).await.unwrap(), pool.acquire_owned(&1).await.unwrap()];
    leases.iter_mut().for_each(|lease| lease.alive = false);
    leases.into_iter().for_each(|lease| lease.release());
    assert_group(&pool, 2, 0, 0, 0);
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!(lease.id, 2);
    assert_group(&pool, 0, 1, 0, 0);
    lease.release();
}

/// Where dropping a lease releases it, that too wakes who waits.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_released_when_dropped() {
    let peer = Peer::new();
    let pool = builder(&peer)
        .settings(|pool| pool.release_on_drop(true))
        .max_connections_per_group(1)
        .build()
        .unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let next = spawn(&pool, 1);
    settle().await;
    drop(lease);
    drop(next.await.unwrap().unwrap());
    assert_group(&pool, 1, 0, 0, 0);
    assert_eq!(peer.started(), 1);
}

/// What a caller learns of its lease.
#[tokio::test(start_paused = true)]
async fn a_lease_says_how_it_came() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    peer.set(crate::support::Mode::Open(SECOND));
    let lease = pool.acquire_owned(&1).await.unwrap();
    let meta = lease.meta();
    assert!(meta.connected && !meta.reused);
    assert!((SECOND..SECOND * 2).contains(&meta.waited), "{meta:?}");
    assert_eq!((meta.uses, *lease.key()), (1, 1));
    lease.release();
    let lease = pool.acquire(&1).await.unwrap();
    let meta = lease.meta();
    assert!(!meta.connected && meta.reused);
    assert_eq!((meta.uses, meta.waited), (2, std::time::Duration::ZERO));
    assert_eq!(lease.id, 0);
    lease.release();
}
