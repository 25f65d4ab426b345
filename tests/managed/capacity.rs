//! Room in the whole pool: who makes it, who waits for it, and in which order.

use std::time::Duration;

use slabpool::managed::{AcquireError, Builder, OnMiss};
use slabpool::{Clock, GroupSettings, RejectReason};
use tokio::time::Instant;

use crate::support::{Leased, MS, Mode, Peer, Refused, SECOND, TestPool, builder, settle, spawn};

/// A pool that holds so many, and never closes any for its age.
pub fn of(peer: &Peer, capacity: usize) -> Builder<u32, Peer> {
    builder(peer)
        .settings(move |pool| pool.capacity(capacity).idle_timeout(None).spawn_reaper(false))
}

pub fn pool_of(peer: &Peer, capacity: usize) -> TestPool {
    of(peer, capacity).build().unwrap()
}

pub async fn lease(pool: &TestPool, key: u32) -> Leased {
    pool.acquire_owned(&key).await.unwrap()
}

/// What is in the pool: idle, leased, connecting, waiting.
#[track_caller]
pub fn assert_pool(pool: &TestPool, idle: usize, leased: usize, connecting: usize, waiting: usize) {
    let status = pool.status();
    assert_eq!(
        (status.idle, status.leased, status.connecting, status.waiting),
        (idle, leased, connecting, waiting),
        "{status:?}"
    );
}

/// Whether peer `key` has an idle connection.
pub fn is_idle(pool: &TestPool, key: u32) -> bool {
    pool.group_status(&key).idle > 0
}

/// The idle connection released longest ago goes, whosever it is, before anyone waits.
#[tokio::test(start_paused = true)]
async fn room_is_made_by_the_oldest_of_all_peers() {
    let (peer, clock) = (Peer::new(), Clock::manual());
    let of_pool = clock.clone();
    let pool = of(&peer, 3)
        .settings(move |pool| {
            pool.capacity(3).idle_timeout(None).spawn_reaper(false).clock(of_pool)
        })
        .build()
        .unwrap();
    for key in [1, 2, 3] {
        clock.advance(SECOND);
        lease(&pool, key).await.release();
    }
    clock.advance(SECOND);
    lease(&pool, 1).await.release();
    let start = Instant::now();
    let fourth = lease(&pool, 4).await;
    assert!(!is_idle(&pool, 2), "released longest ago");
    let fifth = lease(&pool, 5).await;
    assert!(!is_idle(&pool, 3) && is_idle(&pool, 1));
    assert_eq!((start.elapsed(), peer.peak()), (Duration::ZERO, 3));
    fourth.release();
    fifth.release();
    assert_pool(&pool, 3, 0, 0, 0);
}

/// The place is made before the connect begins, not when the connection comes.
#[tokio::test(start_paused = true)]
async fn a_connect_counts_before_it_begins() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 2);
    lease(&pool, 1).await.release();
    lease(&pool, 2).await.release();
    peer.set(Mode::Open(SECOND));
    let third = spawn(&pool, 3);
    settle().await;
    assert_eq!((peer.open(), is_idle(&pool, 1), is_idle(&pool, 2)), (2, false, true));
    assert_pool(&pool, 1, 0, 1, 1);
    let fourth = spawn(&pool, 4);
    settle().await;
    assert_pool(&pool, 0, 0, 2, 2);
    let fifth = spawn(&pool, 5);
    settle().await;
    assert_pool(&pool, 0, 0, 2, 3);
    tokio::time::sleep(SECOND + MS).await;
    let (third, fourth) = (third.await.unwrap().unwrap(), fourth.await.unwrap().unwrap());
    assert_pool(&pool, 0, 2, 0, 1);
    third.release();
    fifth.await.unwrap().unwrap().release();
    fourth.release();
    assert_eq!(peer.peak(), 2);
}

/// All that makes room serves who waits for it, at once.
#[tokio::test(start_paused = true)]
async fn whatever_makes_room_serves_who_waits() {
    type End = fn(&TestPool, Leased);
    let ends: [(&str, End); 8] = [
        ("closed", |_, lease| lease.close()),
        ("dropped", |_, lease| drop(lease)),
        ("found dead", |_, lease| lease.close_dead()),
        ("released", |_, lease| lease.release()),
        ("released with", |_, lease| {
            lease.release_with(slabpool::PutOptions::default());
        }),
        ("detached", |_, lease| drop(lease.detach())),
        ("outdated", |pool, lease| {
            pool.invalidate();
            lease.release();
        }),
        ("more", |pool, lease| {
            pool.reconfigure(|settings| settings.pool.capacity = 2).unwrap();
            // Not before somebody has come.
            tokio::spawn(async move {
                tokio::time::sleep(SECOND).await;
                lease.close();
            });
        }),
    ];
    for (how, end) in ends {
        let peer = Peer::new();
        let pool = pool_of(&peer, 1);
        let held = lease(&pool, 1).await;
        let waiter = spawn(&pool, 2);
        settle().await;
        assert_pool(&pool, 0, 1, 0, 1);
        assert_eq!(peer.started(), 1, "{how}: none is started without a place");
        let start = Instant::now();
        end(&pool, held);
        let got = waiter.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "{how}");
        assert_eq!(*got.key(), 2);
        got.release();
        tokio::time::sleep(2 * SECOND).await;
        assert_pool(&pool, 1, 0, 0, 0);
        assert_eq!(peer.peak(), if how == "more" { 2 } else { 1 }, "{how}");
    }
}

/// Where dropping a lease releases it, that serves as well.
#[tokio::test(start_paused = true)]
async fn a_drop_that_releases_makes_room() {
    let peer = Peer::new();
    let pool = of(&peer, 1)
        .settings(|pool| pool.capacity(1).release_on_drop(true).spawn_reaper(false))
        .build()
        .unwrap();
    let held = lease(&pool, 1).await;
    let waiter = spawn(&pool, 2);
    settle().await;
    drop(held);
    drop(waiter.await.unwrap().unwrap());
    assert!(is_idle(&pool, 2) && !is_idle(&pool, 1));
}

/// A connect that comes to nothing gives its place to who waits for one.
#[tokio::test(start_paused = true)]
async fn a_connect_that_fails_makes_room() {
    for mode in [Mode::Fail(SECOND), Mode::Hang] {
        let peer = Peer::new();
        let pool = of(&peer, 1).acquire_timeout(20 * SECOND).build().unwrap();
        peer.set(mode);
        let (first, second) = (spawn(&pool, 1), spawn(&pool, 2));
        settle().await;
        assert_pool(&pool, 0, 0, 1, 2);
        peer.set(Mode::Open(Duration::ZERO));
        assert!(first.await.unwrap().is_err());
        second.await.unwrap().unwrap().close();
        assert_pool(&pool, 0, 0, 0, 0);
        assert_eq!((peer.peak(), peer.open(), pool.status().groups), (1, 0, 0));
    }
}

/// ... also if it panics.
#[tokio::test(start_paused = true)]
async fn a_connect_that_panics_makes_room() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let held = lease(&pool, 1).await;
    let (first, second) = (spawn(&pool, 2), spawn(&pool, 3));
    settle().await;
    peer.set(Mode::Panic);
    held.close();
    // One after the other, in the one place that there is.
    assert!(matches!(first.await.unwrap(), Err(AcquireError::ConnectAborted)));
    assert!(matches!(second.await.unwrap(), Err(AcquireError::ConnectAborted)));
    assert_eq!((peer.started(), peer.peak()), (3, 1));
    assert_eq!((peer.open(), pool.status().groups), (0, 0));
    peer.set(Mode::Open(Duration::ZERO));
    lease(&pool, 4).await.close();
}

/// A pool that may hold nothing says so at once, to who comes and to who waits.
#[tokio::test(start_paused = true)]
async fn a_pool_that_may_hold_nothing() {
    let full = |outcome: &Result<_, _>| {
        let full = RejectReason::Full { capacity: 0 };
        matches!(outcome, Err(AcquireError::Rejected(reason)) if *reason == full)
    };
    for on_miss in [OnMiss::Race, OnMiss::Wait(SECOND), OnMiss::Connect] {
        let peer = Peer::new();
        let pool = of(&peer, 0).on_miss(on_miss).build().unwrap();
        let start = Instant::now();
        assert!(full(&pool.acquire_owned(&1).await));
        pool.reconfigure(|settings| settings.pool.capacity = 1).unwrap();
        let held = lease(&pool, 1).await;
        let waiters = [spawn(&pool, 2), spawn(&pool, 3)];
        settle().await;
        assert_pool(&pool, 0, 1, 0, 2);
        pool.reconfigure(|settings| settings.pool.capacity = 0).unwrap();
        for waiter in waiters {
            assert!(full(&waiter.await.unwrap()));
        }
        assert!(full(&pool.acquire_owned(&2).await));
        assert_eq!(start.elapsed(), Duration::ZERO);
        held.close();
        assert_eq!((peer.started(), peer.open(), pool.status().groups), (1, 0, 0));
    }
}

/// Those who wait for room count as those who wait for anything else do.
#[tokio::test(start_paused = true)]
async fn only_so_many_wait_for_room() {
    for (on_miss, at_once) in
        [(OnMiss::Race, false), (OnMiss::Connect, false), (OnMiss::Race, true)]
    {
        let peer = Peer::new();
        let pool = of(&peer, 1).on_miss(on_miss).max_waiters_per_group(2).build().unwrap();
        let held = lease(&pool, 1).await;
        let mut waiters = Vec::new();
        for _ in 0..5 {
            waiters.push(spawn(&pool, 2));
            if !at_once {
                settle().await;
            }
        }
        settle().await;
        assert_pool(&pool, 0, 1, 0, 2);
        held.close();
        let (mut got, mut turned_away) = (0, 0);
        for waiter in waiters {
            match waiter.await.unwrap() {
                Ok(lease) => {
                    got += 1;
                    lease.release();
                }
                Err(AcquireError::TooManyWaiters { waiters_max: 2 }) => turned_away += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((got, turned_away, peer.peak()), (2, 3, 1));
    }
    let pool = of(&Peer::new(), 1).max_waiters_per_group(0).build().unwrap();
    let _held = lease(&pool, 1).await;
    let refused = pool.acquire(&2).await;
    assert!(matches!(refused, Err(AcquireError::TooManyWaiters { waiters_max: 0 })));
}

/// What is kept warm for one peer makes room for another as everything else does.
#[tokio::test(start_paused = true)]
async fn what_is_kept_idle_makes_room_too() {
    let peer = Peer::new();
    let pool = of(&peer, 1)
        .settings(|pool| {
            pool.capacity(1)
                .spawn_reaper(false)
                .group_settings(|_| GroupSettings::new().min_idle(1))
        })
        .build()
        .unwrap();
    let held = lease(&pool, 1).await;
    let waiter = spawn(&pool, 2);
    settle().await;
    held.release();
    waiter.await.unwrap().unwrap().release();
    assert_eq!((is_idle(&pool, 1), is_idle(&pool, 2)), (false, true));
}

/// A connection that is looked at when room is wanted is closed when that is over.
#[test]
fn a_connection_that_is_looked_at_makes_room_later() {
    let peer = Peer::new();
    let pool = pool_of(&peer, 1);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime().block_on(async { lease(&pool, 1).await.release() });
    let waiter = std::sync::Mutex::new(None);
    pool.retain(|_, _, _| {
        let of_waiter = pool.clone();
        *waiter.lock().unwrap() = Some(std::thread::spawn(move || {
            runtime().block_on(async { lease(&of_waiter, 2).await.release() });
        }));
        while pool.group_status(&2).waiting == 0 || pool.group_status(&2).connections > 0 {
            std::thread::yield_now();
        }
        true
    });
    waiter.into_inner().unwrap().unwrap().join().unwrap();
    assert!(is_idle(&pool, 2) && !is_idle(&pool, 1));
    assert_eq!((peer.peak(), peer.started()), (1, 2));
}

/// B.19: one wait for a place and for a returned connection, over many peers: the bound
/// holds at each moment, and everybody gets one.
#[tokio::test(start_paused = true)]
async fn a_thousand_tasks_at_fifty_peers() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(MS), OnMiss::Connect] {
        let peer = Peer::new();
        let pool = of(&peer, 8)
            .on_miss(on_miss)
            .acquire_timeout(600 * SECOND)
            .max_connections_per_group(3)
            .max_connecting_per_group(2)
            .build()
            .unwrap();
        peer.set(Mode::Open(5 * MS));
        let tasks: Vec<_> = (0..1_000_u32)
            .map(|task| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let lease = lease(&pool, task * 7 % 50).await;
                    tokio::time::sleep(MS * (task % 3)).await;
                    match task % 5 {
                        0 => lease.close(),
                        1 => drop(lease.detach()),
                        _ => lease.release(),
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        settle().await;
        tokio::time::sleep(SECOND).await;
        let status = pool.status();
        assert_eq!((status.leased, status.connecting, status.waiting), (0, 0, 0));
        assert_eq!((status.idle, peer.peak()), (peer.open(), 8));
        pool.clear();
        assert_eq!((peer.open(), pool.status().groups), (0, 0));
    }
}

/// The same where every connect fails: all are told, no place is lost.
#[tokio::test(start_paused = true)]
async fn where_every_connect_fails() {
    let peer = Peer::new();
    let pool = of(&peer, 4).acquire_timeout(600 * SECOND).build().unwrap();
    peer.set(Mode::Fail(5 * MS));
    let tasks: Vec<_> = (0..400).map(|task| spawn(&pool, task % 20)).collect();
    for task in tasks {
        assert!(
            matches!(task.await.unwrap(), Err(AcquireError::Connect(error)) if *error != Refused(usize::MAX))
        );
    }
    assert_eq!((peer.peak(), peer.open(), pool.status().groups), (4, 0, 0));
    peer.set(Mode::Open(Duration::ZERO));
    let leases = [lease(&pool, 1).await, lease(&pool, 2).await, lease(&pool, 3).await];
    lease(&pool, 4).await.close();
    leases.into_iter().for_each(Leased::close);
}

/// The capacity goes down and up under load: after each change the bound is the new one as
/// soon as what was above it has ended.
#[tokio::test(start_paused = true)]
async fn the_capacity_changes_under_load() {
    let peer = Peer::new();
    let pool = of(&peer, 10).acquire_timeout(600 * SECOND).build().unwrap();
    peer.set(Mode::Open(MS));
    let tasks: Vec<_> = (0..600_u32)
        .map(|task| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let lease = lease(&pool, task % 20).await;
                tokio::time::sleep(3 * MS).await;
                lease.release();
            })
        })
        .collect();
    for capacity in [3, 12, 1, 2, 7] {
        pool.reconfigure(|settings| settings.pool.capacity = capacity).unwrap();
        // What is out ends, and those that are idle above the bound are closed.
        tokio::time::sleep(10 * MS).await;
        pool.maintain();
        assert!(peer.open() <= capacity, "{} open, {capacity} may be", peer.open());
        tokio::time::sleep(10 * MS).await;
        assert_eq!(peer.open(), capacity, "all of it is used");
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(peer.peak() <= 12);
    let status = pool.status();
    assert_eq!((status.leased, status.connecting, status.waiting), (0, 0, 0));
    assert_eq!(status.idle, peer.open());
}
