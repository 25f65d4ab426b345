//! Closing, draining, and going away altogether.

use std::sync::mpsc;

use slabpool::managed::AcquireError;
use tokio::time::Instant;

use crate::support::{MS, Mode, Peer, SECOND, assert_group, builder, settle, spawn};

/// J.65: who waits is told at once, what comes back is closed, what is opened as well.
#[tokio::test(start_paused = true)]
async fn close_while_others_wait() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(2).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..10).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    assert_group(&pool, 0, 1, 1, 10);
    let start = Instant::now();
    pool.close();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(AcquireError::Closed)));
    }
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Closed)));
    assert!(start.elapsed() < MS);
    lease.release();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(peer.open(), 0);
    assert_group(&pool, 0, 0, 0, 0);
    assert!(pool.drain(SECOND).await.is_complete());
    assert_eq!(pool.status().groups, 0);
}

/// A peer that is out of service has nobody wait for it.
#[tokio::test(start_paused = true)]
async fn drain_a_group_while_others_wait() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(2).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..10).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    let start = Instant::now();
    pool.drain_group(&1);
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(AcquireError::GroupDown)));
    }
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::GroupDown)));
    assert!(start.elapsed() < MS);
    pool.acquire(&2).await.unwrap().release();
    lease.release();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(peer.open(), 1, "that of the other peer");
    pool.resume_group(&1);
    pool.acquire(&1).await.unwrap().release();
    assert_group(&pool, 1, 0, 0, 0);
}

/// The pool does not keep itself alive by what is in it.
#[tokio::test(start_paused = true)]
async fn what_is_idle_goes_with_the_last_handle() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    let (a, b) = (pool.acquire_owned(&1).await.unwrap(), pool.acquire_owned(&2).await.unwrap());
    a.release();
    drop(pool);
    assert_eq!(peer.open(), 2, "a lease is a handle");
    b.release();
    assert_eq!(peer.open(), 0);
}

/// B.26: a runtime that goes away takes its connects with it, and nothing else.
#[test]
fn a_runtime_that_ends_while_connecting() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    peer.set(Mode::Hang);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let _caller = spawn(&pool, 1);
        settle().await;
        assert_group(&pool, 0, 0, 1, 1);
    });
    drop(runtime);
    assert_group(&pool, 0, 0, 0, 0);
    assert_eq!(peer.open(), 0);
    peer.set(Mode::Open(MS));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { pool.acquire(&1).await.unwrap().release() });
    assert_group(&pool, 1, 0, 0, 0);
}

/// A.11: a connection that is being looked at when somebody starts to wait is handed over
/// when that is over.
#[test]
fn a_connection_that_is_looked_at_meanwhile() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime().block_on(async { pool.acquire(&1).await.unwrap().release() });
    let (looking, looks) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let looker = {
        let pool = pool.clone();
        std::thread::spawn(move || {
            pool.retain(|_, _, _| {
                looking.send(()).unwrap();
                goes_on.recv().unwrap();
                true
            });
        })
    };
    looks.recv().unwrap();
    let waiter = {
        let pool = pool.clone();
        std::thread::spawn(move || {
            let lease = runtime().block_on(pool.acquire_owned(&1)).unwrap();
            assert_eq!(lease.id, 0);
            lease.release();
        })
    };
    while pool.group_status(&1).waiting == 0 {
        std::thread::yield_now();
    }
    go_on.send(()).unwrap();
    looker.join().unwrap();
    waiter.join().unwrap();
    assert_group(&pool, 1, 0, 0, 0);
    assert_eq!(peer.started(), 1);
}

/// Who comes to a full line of a pool that is closed, or a peer that is out of service, is
/// told that, and not that the line is full.
#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_a_full_line_where_all_is_over() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connections_per_group(1).max_waiters_per_group(0).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::TooManyWaiters { .. })));
    pool.drain_group(&1);
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::GroupDown)));
    assert!(matches!(pool.acquire_shared(&1).await, Err(AcquireError::GroupDown)));
    pool.resume_group(&1);
    pool.close();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Closed)));
    assert!(matches!(pool.acquire_shared(&1).await, Err(AcquireError::Closed)));
    drop(lease);
}
