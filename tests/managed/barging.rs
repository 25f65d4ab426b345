//! Barging: who goes past whom, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slabpool::managed::{AcquireError, Fairness, OnMiss};
use tokio::time::sleep;

use crate::fairness::Log;
use crate::support::{
    MS, Mode, Peer, SECOND, TestPool, assert_group, builder, poll_once, settle, spawn,
};

const BYPASSES: usize = Fairness::BYPASSES as usize;

fn barging(peer: &Peer, connections: usize) -> TestPool {
    let builder = builder(peer).fairness(Fairness::Barging);
    builder.max_connections_per_group(connections).build().unwrap()
}

/// A.9, A.7 (outside): whoever has returned a connection may have it again at once, although
/// others wait; so often, and not once more.
#[tokio::test(start_paused = true)]
async fn so_many_go_past_the_first_and_no_more() {
    let peer = Peer::new();
    let pool = barging(&peer, 1);
    let mut lease = pool.acquire_owned(&1).await.unwrap();
    let mut waiters = [spawn(&pool, 1), spawn(&pool, 1)];
    settle().await;
    for (waiting, waiter) in [2, 1].into_iter().zip(&mut waiters) {
        for _ in 0..BYPASSES {
            lease.release();
            assert_group(&pool, 1, 0, 0, waiting);
            // This is not a time for others to run.
            lease = match poll_once(pool.acquire_owned(&1)) {
                Some(lease) => lease.unwrap(),
                None => panic!("one is idle"),
            };
        }
        lease.release();
        assert_group(&pool, 0, 1, 0, waiting - 1);
        assert!(pool.try_acquire(&1).is_none(), "it was handed over");
        lease = waiter.await.unwrap().unwrap();
    }
    lease.release();
    assert!(pool.try_acquire(&1).is_some(), "nobody waits");
}

/// The newcomer that is one too many hands over what it has found.
#[tokio::test(start_paused = true)]
async fn a_newcomer_too_many_leaves_what_it_has_found() {
    let peer = Peer::new();
    let pool = barging(&peer, 2);
    let (a, b) = (pool.acquire_owned(&1).await.unwrap(), pool.acquire_owned(&1).await.unwrap());
    let (first, second) = (spawn(&pool, 1), spawn(&pool, 1));
    settle().await;
    b.release();
    a.release();
    for _ in 1..BYPASSES {
        pool.try_acquire(&1).unwrap().release();
    }
    let held = pool.try_acquire(&1).unwrap();
    assert_group(&pool, 1, 1, 0, 2);
    assert!(pool.try_acquire(&1).is_none());
    assert_group(&pool, 0, 2, 0, 1);
    // The second is the first now.
    held.release();
    let held = pool.try_acquire(&1).unwrap();
    first.await.unwrap().unwrap().release();
    second.await.unwrap().unwrap().release();
    held.release();
    assert_group(&pool, 2, 0, 0, 0);
}

/// A.7: who is woken and finds nothing keeps its place, and is woken again; who goes away when
/// it was nudged, or whose time is up, passes that on.
#[tokio::test(start_paused = true)]
async fn who_finds_nothing_keeps_its_place() {
    let peer = Peer::new();
    let pool = barging(&peer, 1);
    let lease = pool.acquire_owned(&1).await.unwrap();
    let first = spawn(&pool, 1);
    settle().await;
    let second = spawn(&pool, 1);
    settle().await;
    lease.release();
    let lease = pool.try_acquire(&1).unwrap();
    settle().await;
    assert_group(&pool, 0, 1, 0, 2);
    lease.release();
    let lease = first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    let third = spawn(&pool, 1);
    settle().await;
    lease.release();
    assert_group(&pool, 1, 0, 0, 2);
    second.abort();
    let lease = third.await.unwrap().unwrap();
    let hurried = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire_timeout_owned(&1, MS).await })
    };
    settle().await;
    let last = spawn(&pool, 1);
    settle().await;
    // It takes what it finds, even if it is told of that when its time is up.
    tokio::time::advance(2 * MS).await;
    lease.release();
    match hurried.await.unwrap() {
        Ok(lease) => lease.release(),
        Err(error) => assert!(matches!(error, AcquireError::Timeout { .. })),
    }
    last.await.unwrap().unwrap().release();
    assert_group(&pool, 1, 0, 0, 0);
    assert_eq!(peer.started(), 1);
}

/// Whoever joins a line behind `n` others is passed by at most `(n + 1) * BYPASSES` callers,
/// in a crowd of those who come again and again.
#[tokio::test(start_paused = true)]
async fn nobody_is_passed_by_more_often_than_may_be() {
    let peer = Peer::new();
    let pool = barging(&peer, 4);
    // Of each acquire: its number when it came, and again when it was served.
    let log = Log::default();
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..40)
        .map(|task| {
            let (pool, log, next) = (pool.clone(), log.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                for round in 0..100 {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    log.add(number);
                    let lease = pool.acquire(&1).await.unwrap();
                    log.add(number);
                    if (task + round) % 3 > 0 {
                        tokio::task::yield_now().await;
                    }
                    lease.release();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (mut waiting, mut passed_most, mut waited) = (Vec::<(usize, usize, usize)>::new(), 0, 0);
    for number in log.take() {
        let Some(place) = waiting.iter().position(|&(waiter, ..)| waiter == number) else {
            waiting.push((number, waiting.len(), 0));
            continue;
        };
        let (_, before, passed) = waiting.remove(place);
        assert!(passed <= (before + 1) * BYPASSES, "{passed} went past one behind {before}");
        passed_most = passed_most.max(passed);
        waited += usize::from(before > 0);
        // It came after those before it in the list, and is served sooner.
        waiting[..place].iter_mut().for_each(|(.., passed)| *passed += 1);
    }
    assert!(passed_most > 0 && waited > 0, "nothing of this was tested");
    assert_group(&pool, peer.open(), 0, 0, 0);
}

/// As many as were released are taken by those who wait, also if not all of them are nudged
/// at once.
#[tokio::test(start_paused = true)]
async fn many_are_released_at_once() {
    let peer = Peer::new();
    let pool = barging(&peer, 100);
    let mut leases = Vec::new();
    for _ in 0..100 {
        leases.push(pool.acquire_owned(&1).await.unwrap());
    }
    let waiters: Vec<_> = (0..120).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    leases.into_iter().for_each(|lease| lease.release());
    assert_group(&pool, 100, 0, 0, 120);
    settle().await;
    assert_group(&pool, 0, 100, 0, 20);
    for waiter in waiters {
        waiter.await.unwrap().unwrap().release();
    }
    assert_group(&pool, 100, 0, 0, 0);
}

/// New connections, and what is closed, are dealt with as where all is fair; and whoever waits
/// apart is not nudged.
#[tokio::test(start_paused = true)]
async fn barging_where_connections_come_and_go() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(MS), OnMiss::Connect] {
        let peer = Peer::new();
        let pool = builder(&peer)
            .on_miss(on_miss)
            .fairness(Fairness::Barging)
            .max_connections_per_group(2)
            .build()
            .unwrap();
        peer.set(Mode::Open(MS));
        let tasks: Vec<_> = (0..30)
            .map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let lease = pool.acquire(&1).await.unwrap();
                    sleep(MS).await;
                    if number % 3 == 0 { lease.close() } else { lease.release() }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        sleep(SECOND).await;
        assert_group(&pool, peer.open(), 0, 0, 0);
        assert!(peer.peak() <= 2);
    }
}

/// Some that are nudged, and do not run, do not keep the others from what is idle.
#[tokio::test(start_paused = true)]
async fn some_waiters_that_do_not_run() {
    let peer = Peer::new();
    let pool = barging(&peer, 8);
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(pool.acquire_owned(&1).await.unwrap());
    }
    let mut stuck: Vec<_> = (0..7).map(|_| Box::pin(pool.acquire_owned(&1))).collect();
    stuck.iter_mut().for_each(|acquire| assert!(poll_once(acquire.as_mut()).is_none()));
    let behind: Vec<_> = (0..20).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    leases.into_iter().for_each(|lease| lease.release());
    for waiter in behind {
        waiter.await.unwrap().unwrap().release();
    }
    drop(stuck);
    assert_group(&pool, 8, 0, 0, 0);
}

/// Those who wait go past each other no more often than newcomers may.
#[tokio::test(start_paused = true)]
async fn the_first_is_slow_to_run() {
    let peer = Peer::new();
    let pool = barging(&peer, 2);
    let leases = [pool.acquire_owned(&1).await.unwrap(), pool.acquire_owned(&1).await.unwrap()];
    let mut slow = Box::pin(pool.acquire_owned(&1));
    assert!(poll_once(slow.as_mut()).is_none());
    let behind: Vec<_> = (0..BYPASSES + 10)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let lease = pool.acquire(&1).await.unwrap();
                // Whether this is the only lease.
                let passed = pool.group_status(&1).leased == 1;
                lease.release();
                passed
            })
        })
        .collect();
    settle().await;
    leases.into_iter().for_each(|lease| lease.release());
    let mut passed = 0;
    for waiter in behind {
        passed += usize::from(waiter.await.unwrap());
    }
    assert_eq!(passed, BYPASSES);
    assert_group(&pool, 1, 1, 0, 0);
    slow.await.unwrap().release();
    assert_group(&pool, 2, 0, 0, 0);
}

/// A waiter that is nudged, and does not run, leaves what is idle to newcomers; when it goes
/// away, to whoever comes after it in the line.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_does_not_run() {
    let peer = Peer::new();
    let pool = barging(&peer, 1);
    let lease = pool.acquire_owned(&1).await.unwrap();
    let mut stuck = Box::pin(pool.acquire_owned(&1));
    assert!(poll_once(stuck.as_mut()).is_none());
    let behind = spawn(&pool, 1);
    settle().await;
    lease.release();
    settle().await;
    assert_group(&pool, 1, 0, 0, 2);
    pool.acquire(&1).await.unwrap().release();
    assert!(!behind.is_finished());
    drop(stuck);
    behind.await.unwrap().unwrap().release();
    assert_group(&pool, 1, 0, 0, 0);
}
