//! How many streams a connection has, when that changes.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use slabpool::{Clock, CloseReason};
use tokio::task::JoinHandle;

use super::*;

/// A newcomer does not overtake those who wait to share.
#[tokio::test(start_paused = true)]
async fn newcomers_do_not_overtake() {
    let mux = Mux::new(1_000);
    let pool = builder(&mux).max_connections_per_group(1).build().unwrap();
    let first = share(&pool).await;
    first.limit.store(1, SeqCst);
    let early: Vec<_> = (0..3).map(|_| spawn(&pool)).collect();
    settle().await;
    assert_peer(&pool, [0, 1, 0, 3], [1, 1]);
    // It has risen, and nobody has heard of it.
    first.limit.store(2, SeqCst);
    let late = spawn(&pool);
    settle().await;
    assert_peer(&pool, [0, 1, 0, 4], [1, 1]);
    pool.refresh_streams(&1);
    settle().await;
    let finished: Vec<_> = early.iter().map(JoinHandle::is_finished).collect();
    assert_eq!(finished, [true, false, false]);
    first.limit.store(4, SeqCst);
    pool.refresh_streams(&1);
    settle().await;
    assert!(early.iter().all(JoinHandle::is_finished) && !late.is_finished());
    drop(first);
    drop(late.await.unwrap().unwrap());
    drop(early);
    assert_all_gone(pool, &mux);
}

/// A limit that falls harms nobody; 0 is legal, and nothing is opened instead.
#[tokio::test(start_paused = true)]
async fn no_streams_for_now() {
    let mux = Mux::new(3);
    let pool = pool_of(&mux);
    let (first, second) = (share(&pool).await, share(&pool).await);
    let limit = Arc::clone(&first.limit);
    limit.store(0, SeqCst);
    pool.refresh_streams(&1);
    assert_eq!(first.streams(), (2, 0));
    drop(first);
    drop(second);
    assert_peer(&pool, [0, 1, 0, 0], [1, 0]);
    let waiter = spawn(&pool);
    settle().await;
    assert_peer(&pool, [0, 1, 0, 1], [1, 0]);
    pool.refresh_streams(&1);
    settle().await;
    assert!(!waiter.is_finished());
    limit.store(1_000_000, SeqCst);
    pool.refresh_streams(&1);
    let stream = waiter.await.unwrap().unwrap();
    assert_eq!((stream.id, stream.streams(), mux.started()), (0, (1, 65_535), 1));
    // Asked anew whenever a stream begins.
    limit.store(1, SeqCst);
    let other = share(&pool).await;
    assert_eq!((other.id, stream.streams()), (1, (1, 1)));
    // And whoever comes finds out by himself that there is room again.
    limit.store(0, SeqCst);
    pool.refresh_streams(&1);
    drop(stream);
    assert_peer(&pool, [0, 2, 0, 0], [2, 1]);
    limit.store(2, SeqCst);
    other.limit.store(0, SeqCst);
    assert_eq!(share(&pool).await.id, 0);
    drop(other);
    // An idle one that has none for now is put aside.
    let lease = pool.acquire(&1).await.unwrap();
    let limit = Arc::clone(&lease.limit);
    limit.store(0, SeqCst);
    lease.release();
    pool.maintain();
    let before = pool.group_status(&1);
    let stream = spawn(&pool);
    settle().await;
    assert_eq!(pool.group_status(&1).connections, before.connections);
    limit.store(7, SeqCst);
    pool.maintain();
    drop(stream.await.unwrap().unwrap());
    assert_all_gone(pool, &mux);
}

/// One that could have no streams is looked at: dead, overdue, or in a pool that is closed,
/// it goes. And it does not keep the pool.
#[tokio::test(start_paused = true)]
async fn what_is_suspended_is_not_forgotten() {
    for end in 0..6 {
        let mux = Mux::new(2);
        let handle = Clock::manual();
        let clock = handle.clone();
        let pool = builder(&mux)
            .settings(move |pool| {
                pool.idle_timeout(None)
                    .max_lifetime(60 * SECOND)
                    .lifetime_jitter(0.0)
                    .clock(clock)
                    .spawn_reaper(false)
            })
            .build()
            .unwrap();
        let stream = share(&pool).await;
        let alive = Arc::clone(&stream.alive);
        stream.limit.store(0, SeqCst);
        pool.refresh_streams(&1);
        drop(stream);
        pool.maintain();
        assert_peer(&pool, [0, 1, 0, 0], [1, 0]);
        let reason = match end {
            0 => {
                alive.store(false, SeqCst);
                pool.maintain();
                CloseReason::Dead
            }
            1 => {
                handle.advance(61 * SECOND);
                pool.maintain();
                CloseReason::Lifetime
            }
            2 => {
                pool.close();
                CloseReason::Closed
            }
            3 => {
                pool.drain_group(&1);
                pool.resume_group(&1);
                CloseReason::Drained
            }
            4 => {
                pool.invalidate();
                CloseReason::Invalidated
            }
            _ => {
                drop(pool);
                assert_eq!((mux.open(), Arc::strong_count(&mux.0)), (0, 1));
                continue;
            }
        };
        assert_eq!((mux.open(), pool.stats().pool.closes[reason]), (0, 1), "{end}");
        assert_all_gone(pool, &mux);
    }
}
