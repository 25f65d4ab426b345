//! What the pool tells of its callers and connects: every number, and that they add up.

use std::time::Duration;

use slabpool::Miss;
use slabpool::managed::{AcquireError, OnMiss, Stats};

use crate::support::{MS, Mode, Peer, SECOND, TestPool, assert_group, builder, settle, spawn};

/// What holds of a pool at rest, whatever has happened.
#[track_caller]
fn assert_at_rest(stats: &Stats) {
    let connects = &stats.connects;
    assert_eq!((stats.waiting, connects.connecting), (0, 0), "{stats:#?}");
    assert_eq!(stats.wait_time.count(), stats.waits(), "{stats:#?}");
    let ended = connects.opened + connects.errors + connects.timeouts + connects.aborted;
    assert_eq!(connects.started, ended, "{stats:#?}");
    assert_eq!(connects.time.count(), ended - connects.aborted, "{stats:#?}");
    assert!(connects.rejected + connects.kept <= connects.opened, "{stats:#?}");
    assert_eq!(stats.pool.inserts, connects.opened - connects.rejected, "{stats:#?}");
    assert_eq!(stats.pool.rejects, connects.rejected, "{stats:#?}");
    assert!(stats.pool.hits >= stats.hits, "{stats:#?}");
    // Who does not wait, and is not served at once, has missed; and some who wait have met
    // a connection that was not for them.
    let others = stats.gets() - stats.hits;
    assert!(stats.pool.misses.total() <= others, "{stats:#?}");
    assert!(stats.pool.gets() >= stats.gets(), "{stats:#?}");
}

/// J.68: who waits, how long, and with what end; who gave up as well (outside A.3).
#[tokio::test(start_paused = true)]
async fn each_end_of_a_wait_is_counted() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connections_per_group(1).max_waiters_per_group(1).build().unwrap();
    peer.set(Mode::Open(100 * MS));
    let lease = pool.acquire_owned(&1).await.unwrap();
    let stats = pool.stats();
    assert_eq!((stats.served, stats.handed_over, stats.hits, stats.gets()), (1, 0, 0, 1));
    let at_most = 130 * MS;
    assert!((100 * MS..at_most).contains(&stats.wait_time.max()), "{:?}", stats.wait_time);
    assert!((100 * MS..at_most).contains(&stats.connects.time.quantile(1.0)));
    // One waits in vain, and one more may not.
    let late = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire_timeout_owned(&1, 2 * SECOND).await })
    };
    settle().await;
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::TooManyWaiters { .. })));
    assert_eq!((pool.stats().waiting, pool.stats().turned_away), (1, 1));
    assert!(matches!(late.await.unwrap(), Err(AcquireError::Timeout { .. })));
    // One goes away after a second, and one is served after another one.
    let gone = spawn(&pool, 1);
    tokio::time::sleep(SECOND).await;
    gone.abort();
    settle().await;
    let next = spawn(&pool, 1);
    tokio::time::sleep(SECOND).await;
    lease.release();
    next.await.unwrap().unwrap().release();
    // At once, and not at all.
    let lease = pool.acquire(&1).await.unwrap();
    assert!(pool.try_acquire(&1).is_none());
    lease.release();
    pool.try_acquire(&1).unwrap().close();
    peer.set(Mode::Fail(MS));
    assert!(pool.acquire(&1).await.is_err());
    pool.close();
    assert!(pool.acquire(&1).await.is_err());
    let stats = pool.stats();
    assert_eq!((stats.served, stats.timeouts, stats.cancelled), (2, 1, 1));
    assert_eq!((stats.handed_over, stats.turned_away, stats.missed), (1, 1, 1));
    assert_eq!((stats.failed, stats.refused, stats.hits), (1, 1, 2));
    assert_eq!((stats.gets(), stats.waits()), (10, 6));
    let (sum, max) = (stats.wait_time.sum(), stats.wait_time.max());
    assert!((4_100 * MS..4_200 * MS).contains(&sum), "{sum:?}");
    assert!((2 * SECOND..2_050 * MS).contains(&max), "{max:?}");
    let (half, all) = (stats.wait_time.quantile(0.5), stats.wait_time.quantile(1.0));
    assert!(half >= 100 * MS && half <= 130 * MS && all == max, "{:?}", stats.wait_time);
    assert_at_rest(&stats);
}

/// A caller that waits is one miss of the pool below, however often it is looked for a
/// connection meanwhile.
#[tokio::test(start_paused = true)]
async fn a_wait_is_one_miss() {
    let peer = Peer::new();
    let pool = builder(&peer).max_connections_per_group(1).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    assert_eq!(pool.stats().pool.misses[Miss::Cold], 1);
    let tasks: Vec<_> = (0..10).map(|_| spawn(&pool, 1)).collect();
    settle().await;
    lease.release();
    for task in tasks {
        task.await.unwrap().unwrap().release();
        settle().await;
    }
    let stats = pool.stats();
    assert_eq!((stats.pool.misses.total(), stats.pool.misses[Miss::AllLeased]), (11, 10));
    assert_eq!((stats.hits, stats.handed_over, stats.served), (0, 10, 11));
    assert_eq!(stats.pool.hits, 10, "hand-overs");
    pool.acquire(&1).await.unwrap().release();
    assert_eq!(pool.stats().hits, 1);
    assert_at_rest(&pool.stats());
}

/// The same where a check fails, which is a wait without a place in the line.
#[tokio::test(start_paused = true)]
async fn a_check_is_a_wait() {
    let peer = Peer::new();
    let pool = builder(&peer).check_after(Duration::ZERO).build().unwrap();
    pool.acquire(&1).await.unwrap().release();
    pool.acquire(&1).await.unwrap().release();
    let stats = pool.stats();
    assert_eq!((stats.hits, stats.served, stats.handed_over), (0, 2, 0));
    peer.set_check(false, false);
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((lease.id, lease.meta().connected), (1, true));
    lease.release();
    let stats = pool.stats();
    assert_eq!((stats.served, stats.pool.misses.total(), stats.pool.hits), (3, 1, 2));
    assert_at_rest(&stats);
}

/// Connects: in time, failing, hanging, aborted, too late, and not taken.
#[tokio::test(start_paused = true)]
async fn each_end_of_a_connect_is_counted() {
    let peer = Peer::new();
    let pool = builder(&peer).connect_timeout(2 * SECOND).build().unwrap();
    for mode in [Mode::Open(MS), Mode::Fail(MS), Mode::Hang, Mode::Panic] {
        peer.set(mode);
        let outcome = pool.acquire(&1).await;
        outcome.into_iter().for_each(|lease| lease.close());
    }
    peer.set(Mode::Open(SECOND));
    let gone = spawn(&pool, 1);
    settle().await;
    gone.abort();
    settle().await;
    assert_eq!(pool.stats().connects.connecting, 1);
    tokio::time::sleep(2 * SECOND).await;
    pool.clear();
    let gone = spawn(&pool, 1);
    settle().await;
    pool.close();
    assert!(gone.await.unwrap().is_err());
    tokio::time::sleep(2 * SECOND).await;
    let stats = pool.stats();
    let connects = &stats.connects;
    assert_eq!((connects.started, connects.opened, connects.errors), (6, 3, 1));
    assert_eq!((connects.timeouts, connects.aborted), (1, 1));
    assert_eq!((connects.rejected, connects.kept), (1, 1));
    let longest = connects.time.max();
    assert!((2 * SECOND..2_050 * MS).contains(&longest), "{longest:?}");
    assert_at_rest(&stats);
}

/// `connected` is for whom a connection was opened, and not for whoever gets it first.
#[tokio::test(start_paused = true)]
async fn a_lease_says_for_whom_it_was_opened() {
    let peer = Peer::new();
    let pool =
        builder(&peer).max_connections_per_group(1).on_miss(OnMiss::Wait(SECOND)).build().unwrap();
    let lease = pool.acquire_owned(&1).await.unwrap();
    assert!(lease.meta().connected);
    let patient = spawn(&pool, 1);
    settle().await;
    lease.close();
    // There is nothing to wait for: the second one has a connection opened at once, which
    // goes to the first.
    let second = spawn(&pool, 1);
    let lease = patient.await.unwrap().unwrap();
    let meta = lease.meta();
    assert_eq!((lease.id, meta.connected, meta.reused, meta.uses), (1, false, false, 1));
    lease.release();
    let lease = second.await.unwrap().unwrap();
    let meta = lease.meta();
    assert_eq!((lease.id, meta.connected, meta.reused, meta.uses), (1, false, true, 2));
    // One that was opened for somebody who has gone is nobody's own.
    peer.set(Mode::Open(SECOND));
    lease.close();
    let gone = spawn(&pool, 1);
    settle().await;
    tokio::time::sleep(SECOND / 2).await;
    let stays = spawn(&pool, 1);
    settle().await;
    gone.abort();
    let lease = stays.await.unwrap().unwrap();
    let meta = lease.meta();
    assert_eq!((lease.id, meta.connected, meta.reused), (2, false, false));
    assert!(meta.waited >= SECOND / 2 && meta.waited < SECOND, "{:?}", meta.waited);
    lease.release();
    let meta = pool.acquire(&1).await.unwrap().meta();
    assert_eq!((meta.connected, meta.reused, meta.waited), (false, true, Duration::ZERO));
}

/// What one caller of [`storm`] has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    calls: u64,
    got: u64,
    missed: u64,
    turned_away: u64,
    timeouts: u64,
    failed: u64,
    cancelled: u64,
}

async fn storm(pool: TestPool, peer: Peer, seed: u64, hurried: bool) -> Seen {
    let (mut seen, mut draw) = (Seen::default(), seed);
    for _ in 0..60 {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed << 1 | 1);
        let time = Duration::from_millis(draw >> 52 & 0xff);
        if hurried {
            peer.set(match draw >> 60 {
                0 => Mode::Fail(time / 8),
                1 => Mode::Panic,
                2 => Mode::Hang,
                _ => Mode::Open(time / 16),
            });
            peer.set_check(draw >> 57 & 3 != 0, false);
        }
        seen.calls += 1;
        let outcome = match draw >> 33 & 7 {
            0 => match pool.try_acquire(&1) {
                Some(lease) => {
                    seen.got += 1;
                    lease.release();
                    continue;
                }
                None => {
                    seen.missed += 1;
                    tokio::time::sleep(time).await;
                    continue;
                }
            },
            1 | 2 => match tokio::time::timeout(time / 4, pool.acquire(&1)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    seen.cancelled += 1;
                    continue;
                }
            },
            3 => pool.acquire_timeout(&1, time / 4).await,
            _ => pool.acquire(&1).await,
        };
        match outcome {
            Ok(lease) => {
                seen.got += 1;
                tokio::time::sleep(time / 8).await;
                if draw >> 40 & 3 == 0 { lease.close() } else { lease.release() }
            }
            Err(AcquireError::TooManyWaiters { .. }) => seen.turned_away += 1,
            Err(AcquireError::Timeout { .. }) => seen.timeouts += 1,
            Err(_) => seen.failed += 1,
        }
    }
    seen
}

/// Whatever happens, no call and no connect is forgotten or counted twice.
#[tokio::test(start_paused = true)]
async fn the_numbers_add_up_after_a_storm() {
    for (round, on_miss) in [OnMiss::Race, OnMiss::Wait(5 * MS), OnMiss::Connect]
        .into_iter()
        .cycle()
        .take(9)
        .enumerate()
    {
        let (peer, round) = (Peer::new(), round as u64);
        let pool = builder(&peer)
            .on_miss(on_miss)
            .max_connections_per_group(4)
            .max_connecting_per_group(2)
            .max_waiters_per_group(8)
            .acquire_timeout(300 * MS)
            .connect_timeout(100 * MS)
            .check_after(if round % 2 == 0 { Duration::ZERO } else { 60 * SECOND })
            .build()
            .unwrap();
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let seed = round * 1_000 + number;
                tokio::spawn(storm(pool.clone(), peer.clone(), seed, number % 4 == 0))
            })
            .collect();
        let mut seen = Seen::default();
        for task in tasks {
            let one = task.await.unwrap();
            seen.calls += one.calls;
            seen.got += one.got;
            seen.missed += one.missed;
            seen.turned_away += one.turned_away;
            seen.timeouts += one.timeouts;
            seen.failed += one.failed;
            seen.cancelled += one.cancelled;
        }
        tokio::time::sleep(SECOND).await;
        let stats = pool.stats();
        let told = Seen {
            calls: stats.gets(),
            got: stats.hits + stats.served,
            missed: stats.missed,
            turned_away: stats.turned_away,
            timeouts: stats.timeouts,
            failed: stats.failed,
            cancelled: stats.cancelled,
        };
        assert_eq!(told, seen, "{stats:#?}");
        for (number, count) in [seen.got, seen.missed, seen.turned_away, seen.timeouts]
            .into_iter()
            .chain([seen.failed, seen.cancelled, stats.handed_over, stats.connects.aborted])
            .enumerate()
        {
            assert!(count > 0, "number {number} in round {round}: {stats:#?}");
        }
        assert_eq!(stats.connects.started as usize, peer.started());
        assert_at_rest(&stats);
        let idle = pool.status().idle;
        assert_group(&pool, idle, 0, 0, 0);
        assert_eq!(peer.open(), idle);
    }
}
