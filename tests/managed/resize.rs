//! Limits and times that change while the pool is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use slabpool::CloseReason;
use slabpool::managed::{AcquireError, ConfigError};
use tokio::time::Instant;

use crate::support::{MS, Mode, Peer, SECOND, TestPool, assert_group, builder, settle, spawn};

fn set_limit(pool: &TestPool, connections: usize) {
    pool.reconfigure(|settings| settings.max_connections_per_group = connections).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_lets_those_connect_who_wait() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let tasks: Vec<_> = (0..3).map(|_| spawn(&pool, 1)).collect();
    let (other, next) = (pool.acquire_owned(&2).await.unwrap(), spawn(&pool, 2));
    settle().await;
    let start = Instant::now();
    set_limit(&pool, 3);
    settle().await;
    assert_group(&pool, 0, 3, 0, 1);
    let mut leases = Vec::new();
    for task in tasks.into_iter().take(2) {
        leases.push(task.await.unwrap().unwrap());
    }
    assert!(next.await.unwrap().unwrap().meta().connected, "at the other peer as well");
    assert!(start.elapsed() < MS);
    drop((lease, leases, other));
}

#[tokio::test(start_paused = true)]
async fn more_may_be_opened_at_a_time() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connecting_per_group(1).build().unwrap();
    peer.set(Mode::Open(SECOND));
    let tasks: Vec<_> = (0..5).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    assert_group(&pool, 0, 0, 1, 5);
    pool.reconfigure(|settings| settings.max_connecting_per_group = 3).unwrap();
    settle().await;
    assert_group(&pool, 0, 0, 3, 5);
    pool.reconfigure(|settings| settings.max_connecting_per_group = 1).unwrap();
    for task in tasks {
        task.await.unwrap().unwrap().release();
    }
    assert!(peer.started() <= 5);
}

/// B.23: nobody loses a connection; what is idle goes at once, what is leased when it is
/// released; and none is opened in the place of one above the limit.
#[tokio::test(start_paused = true)]
async fn a_lowered_limit_takes_what_is_too_many() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(8).build().unwrap();
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(pool.acquire_owned(&1).await.unwrap());
    }
    leases.drain(..4).for_each(|lease| lease.release());
    let other = pool.acquire_owned(&2).await.unwrap();
    other.release();
    assert_group(&pool, 4, 4, 0, 0);
    set_limit(&pool, 6);
    assert_group(&pool, 2, 4, 0, 0);
    set_limit(&pool, 2);
    assert_group(&pool, 0, 4, 0, 0);
    assert_eq!(pool.stats().pool.closes[CloseReason::GroupFull], 4);
    let next = spawn(&pool, 1);
    settle().await;
    leases.pop().unwrap().close();
    leases.pop().unwrap().release();
    settle().await;
    assert_group(&pool, 0, 2, 0, 1);
    leases.pop().unwrap().release();
    let lease = next.await.unwrap().unwrap();
    assert_group(&pool, 0, 2, 0, 0);
    assert_eq!(peer.started(), 9, "none was opened since");
    lease.release();
    leases.pop().unwrap().release();
    assert_group(&pool, 2, 0, 0, 0);
    assert_eq!(pool.group_status(&2).idle, 1);
    assert_eq!(pool.stats().hits, 0, "what was closed was nobody's hit");
}

/// However a lease ends, and if what is opened comes too late, the surplus goes.
#[tokio::test(start_paused = true)]
async fn a_late_connection_above_the_limit_is_closed() {
    for release_on_drop in [false, true] {
        let peer = Peer::new();
        let pool = builder(&peer)
            .settings(move |pool| pool.idle_timeout(None).release_on_drop(release_on_drop))
            .build()
            .unwrap();
        let lease = pool.acquire_owned(&1).await.unwrap();
        peer.set(Mode::Open(SECOND));
        let (first, second) = (spawn(&pool, 1), spawn(&pool, 1));
        settle().await;
        assert_group(&pool, 0, 1, 2, 2);
        set_limit(&pool, 1);
        first.abort();
        second.abort();
        tokio::time::sleep(2 * SECOND).await;
        assert_group(&pool, 0, 1, 0, 0);
        assert_eq!((peer.open(), pool.stats().connects.kept), (1, 2));
        set_limit(&pool, 2);
        let other = pool.acquire_owned(&1).await.unwrap();
        set_limit(&pool, 1);
        drop(other);
        assert_group(&pool, 0, 1, 0, 0);
        lease.release_with(slabpool::PutOptions::new());
        assert_group(&pool, 1, 0, 0, 0);
    }
}

/// What `retain` looks at while the limit is lowered goes when it has been looked at.
#[tokio::test(start_paused = true)]
async fn a_surplus_that_is_being_looked_at() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    let (a, b) = (pool.acquire_owned(&1).await.unwrap(), pool.acquire_owned(&1).await.unwrap());
    a.release();
    b.release();
    let mut lowered = false;
    pool.retain(|_, _, _| {
        if !std::mem::replace(&mut lowered, true) {
            let pool = pool.clone();
            // A thread of its own, which waits for nobody.
            std::thread::spawn(move || set_limit(&pool, 1)).join().unwrap();
        }
        true
    });
    assert_group(&pool, 1, 0, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn times_and_the_line_can_be_changed() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    let before = spawn(&pool, 1);
    settle().await;
    pool.reconfigure(|settings| {
        settings.max_waiters_per_group = 1;
        settings.acquire_timeout = SECOND;
        settings.connect_timeout = SECOND / 2;
    })
    .unwrap();
    let start = Instant::now();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::TooManyWaiters { waiters_max: 1 })));
    peer.set(Mode::Hang);
    match pool.acquire(&2).await {
        Err(AcquireError::ConnectTimeout { connect_timeout }) => {
            assert_eq!(connect_timeout, SECOND / 2);
        }
        other => panic!("{other:?}"),
    }
    assert!((SECOND / 2..SECOND).contains(&start.elapsed()));
    assert!(matches!(before.await.unwrap(), Err(AcquireError::Timeout { .. })));
    assert!(start.elapsed() > 4 * SECOND, "it came with five");
    let start = Instant::now();
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Timeout { .. })));
    assert!((SECOND..SECOND + 10 * MS).contains(&start.elapsed()));
    drop(lease);
}

/// All settings are checked, those of the pool below as well, before any is changed.
#[test]
fn what_cannot_work_changes_nothing() {
    let pool = builder(&Peer::new()).max_connections_per_group(4).build().unwrap();
    let before = pool.settings();
    assert_eq!((before.max_connections_per_group, before.max_waiters_per_group), (4, 1_024));
    assert_eq!((before.pool.capacity, before.pool.idle_timeout), (1_000, None));
    let wrong = pool.reconfigure(|settings| {
        settings.pool.capacity = 5;
        settings.max_connections_per_group = 0;
    });
    let setting = "max_connections_per_group";
    assert_eq!(wrong, Err(ConfigError::OutOfRange { setting, value: 0, min: 1, max: 1 << 23 }));
    let wrong = pool.reconfigure(|settings| {
        settings.max_connections_per_group = 7;
        settings.pool.max_uses = 0;
    });
    assert_eq!(wrong, Err(ConfigError::Pool(slabpool::ConfigError::MaxUsesZero)));
    let wrong = pool.reconfigure(|settings| settings.acquire_timeout = SECOND);
    assert!(wrong.unwrap_err().to_string().contains("3s, at most the 1s"));
    let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.reconfigure(|settings| {
            settings.max_connections_per_group = 9;
            panic!("in a closure");
        })
    }));
    assert!(wrong.is_err());
    assert_eq!(pool.settings(), before);
    pool.reconfigure(|settings| {
        settings.pool.capacity = 5;
        settings.max_connections_per_group = 3;
    })
    .unwrap();
    assert_eq!((pool.status().capacity, pool.settings().max_connections_per_group), (5, 3));
}

/// Limits that go up and down under load: no permit is lost or made, nobody is forgotten,
/// and when all is over, no more is left than the last limit allows.
#[test]
fn resize_under_load() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build();
    let (runtime, peer) = (runtime.unwrap(), Peer::new());
    let pool = builder(&peer)
        .max_connections_per_group(8)
        // Who waits for so long was forgotten.
        .acquire_timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let sizer = {
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut draw = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (connections, connecting) = (draw >> 61, draw >> 40 & 3);
                pool.reconfigure(|settings| {
                    settings.max_connections_per_group = 1 + connections as usize;
                    settings.max_connecting_per_group = 1 + connecting as usize;
                })
                .unwrap();
                std::thread::yield_now();
            }
        })
    };
    runtime.block_on(async {
        let tasks: Vec<_> = (0..16_u32)
            .map(|task| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    for round in 0..1_000_u32 {
                        let lease = pool.acquire(&1).await.expect("connects succeed");
                        if (task + round) % 3 == 0 {
                            tokio::task::yield_now().await;
                        }
                        if (task + round) % 7 == 0 { lease.close() } else { lease.release() }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    stop.store(true, Ordering::Relaxed);
    sizer.join().unwrap();
    runtime.block_on(async {
        while pool.group_status(&1).connecting > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert!(peer.peak() <= 8, "{} connections at a time", peer.peak());
    let status = pool.group_status(&1);
    assert!(status.idle <= pool.settings().max_connections_per_group, "{status:?}");
    assert_group(&pool, peer.open(), 0, 0, 0);
    set_limit(&pool, 1);
    assert!(pool.group_status(&1).connections <= 1 && peer.open() <= 1);
    let stats = pool.stats();
    assert_eq!((stats.gets(), stats.served + stats.hits), (16_000, 16_000));
    assert_eq!(stats.connects.opened as usize, peer.started());
}

/// J.65: a drain waits for connects as well, and says what is left at its deadline.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_is_being_opened() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(2).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    peer.set(Mode::Open(2 * SECOND));
    let (waits, other) = (spawn(&pool, 1), spawn(&pool, 2));
    settle().await;
    let start = Instant::now();
    let drained = pool.drain(Duration::ZERO).await;
    assert_eq!((drained.remaining, drained.connecting, drained.is_complete()), (1, 2, false));
    assert!(matches!(waits.await.unwrap(), Err(AcquireError::Closed)));
    assert!(matches!(other.await.unwrap(), Err(AcquireError::Closed)));
    let drained = pool.drain(SECOND).await;
    assert_eq!((drained.remaining, drained.connecting), (1, 2));
    assert!(drained.to_string().contains("1 connections were still out, and 2 connects"));
    assert!((SECOND..SECOND + 10 * MS).contains(&start.elapsed()));
    lease.release();
    let drained = pool.drain(60 * SECOND).await;
    assert!(drained.is_complete(), "{drained}");
    assert!((2 * SECOND..2 * SECOND + 10 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!((peer.open(), pool.stats().connects.rejected), (0, 2));
    assert!(pool.drain(Duration::ZERO).await.is_complete());
}

/// ... however a connect ends; and the lease that came of one just before.
#[tokio::test(start_paused = true)]
async fn a_drain_hears_of_every_end_of_a_connect() {
    for mode in [Mode::Open(SECOND), Mode::Fail(SECOND), Mode::Hang] {
        let peer = Peer::new();
        let pool = builder(&peer).connect_timeout(SECOND).build().unwrap();
        peer.set(mode);
        let caller = spawn(&pool, 1);
        settle().await;
        let start = Instant::now();
        assert!(pool.drain(Duration::MAX).await.is_complete());
        assert!((SECOND..SECOND + 10 * MS).contains(&start.elapsed()), "{mode:?}");
        assert!(caller.await.unwrap().is_err());
        assert_eq!(peer.open(), 0);
    }
}

/// A connect keeps the pool until it has ended, and what it has opened goes with the pool.
#[tokio::test(start_paused = true)]
async fn a_connect_keeps_the_pool_and_no_longer() {
    let peer = Peer::new();
    let pool = builder(&peer).build().unwrap();
    pool.acquire(&1).await.unwrap().release();
    peer.set(Mode::Open(SECOND));
    let caller = spawn(&pool, 2);
    settle().await;
    caller.abort();
    drop(pool);
    settle().await;
    assert_eq!(peer.open(), 2);
    tokio::time::sleep(SECOND + MS).await;
    assert_eq!(peer.open(), 0);
}
