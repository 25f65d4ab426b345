//! Those who share and go away, or wait too long.

use slabpool::managed::OnMiss;

use super::*;

/// What a waiter was given, and did not see, goes to the next one.
#[tokio::test(start_paused = true)]
async fn a_stream_that_was_not_seen_goes_on() {
    let mux = Mux::new(1_000);
    let pool = builder(&mux).max_connections_per_group(1).build().unwrap();
    let first = share(&pool).await;
    first.limit.store(2, SeqCst);
    let second = share(&pool).await;
    let (goes, stays) = (spawn(&pool), spawn(&pool));
    settle().await;
    drop(second);
    assert_peer(&pool, [0, 1, 0, 1], [1, 2]);
    goes.abort();
    let stays = stays.await.unwrap().unwrap();
    assert_eq!(stays.meta().uses, 3, "nobody has used what was given up");
    // The same with a whole connection.
    let (goes, next) = (spawn(&pool), spawn(&pool));
    settle().await;
    drop((first, stays));
    goes.abort();
    drop(next.await.unwrap().unwrap());
    assert_eq!(mux.started(), 1);
    assert_all_gone(pool, &mux);
}

/// Dropped after any number of polls, in every situation, an acquire leaves all numbers right.
#[tokio::test(start_paused = true)]
async fn cancelled_anywhere() {
    use std::task::{Context, Poll, Waker};
    for on_miss in [OnMiss::Race, OnMiss::Wait(3 * MS), OnMiss::Connect] {
        for (limit, situation) in [1, 2, 3].into_iter().flat_map(|l| (0..4).map(move |s| (l, s))) {
            for polls in 0..10 {
                let mux = Mux::new(limit);
                let pool = builder(&mux)
                    .on_miss(on_miss)
                    .check_after(Duration::ZERO)
                    .max_connections_per_group(1)
                    .build()
                    .unwrap();
                mux.connects_take(2 * MS);
                let mut held = match situation {
                    0 => None,
                    _ => Some(share(&pool).await),
                };
                if situation == 1 {
                    held.take().into_iter().for_each(Share::release);
                }
                let mut second = None;
                if situation == 3 && limit > 1 {
                    second = Some(share(&pool).await);
                }
                let mut behind = None;
                {
                    let mut acquire = std::pin::pin!(pool.acquire_shared(&1));
                    for poll in 0..polls {
                        let mut cx = Context::from_waker(Waker::noop());
                        if let Poll::Ready(outcome) = acquire.as_mut().poll(&mut cx) {
                            outcome.unwrap().release();
                            break;
                        }
                        behind.get_or_insert_with(|| spawn(&pool));
                        if poll == 3 {
                            drop(second.take());
                        }
                        if poll == 5 {
                            held.take().into_iter().for_each(Share::release);
                        }
                        settle().await;
                        tokio::time::advance(MS).await;
                        settle().await;
                    }
                }
                drop((held, second));
                if let Some(behind) = behind {
                    behind.await.unwrap().unwrap().release();
                }
                tokio::time::sleep(SECOND).await;
                assert!(mux.0.peak.load(SeqCst) <= 1);
                let status = pool.group_status(&1);
                assert_eq!((status.leased, status.connecting, status.waiting), (0, 0, 0));
                assert_eq!((status.streams, status.connections), (0, status.idle));
                assert_all_gone(pool, &mux);
            }
        }
    }
}

/// Time is up while the streams are all in use.
#[tokio::test(start_paused = true)]
async fn in_time_or_not_at_all() {
    let mux = Mux::new(2);
    let pool = builder(&mux).max_connections_per_group(1).max_waiters_per_group(1).build().unwrap();
    let (first, second) = (share(&pool).await, share(&pool).await);
    let outcome = pool.acquire_shared_timeout_owned(&1, SECOND).await;
    assert!(matches!(outcome, Err(AcquireError::Timeout { waited, .. }) if waited == SECOND));
    let outcome = pool.acquire_shared_timeout_owned(&1, Duration::ZERO).await;
    assert!(matches!(outcome, Err(AcquireError::Timeout { .. })));
    let waiter = spawn(&pool);
    settle().await;
    let outcome = pool.acquire_shared_owned(&1).await;
    assert!(matches!(outcome, Err(AcquireError::TooManyWaiters { waiters_max: 1 })));
    drop(first);
    let stream = pool.acquire_shared_timeout_owned(&1, Duration::ZERO).await;
    assert!(stream.is_err(), "it is the other one's");
    let third = waiter.await.unwrap().unwrap();
    assert!(third.meta().waited > Duration::ZERO || third.meta().reused);
    drop((second, third));
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    assert_all_gone(pool, &mux);
}

/// A ping that hangs holds the others up no longer than a connect that hangs.
#[tokio::test(start_paused = true)]
async fn a_check_that_hangs() {
    let mux = Mux::new(10);
    let pool = builder(&mux)
        .check_after(Duration::ZERO)
        .connect_timeout(SECOND)
        .acquire_timeout(60 * SECOND)
        .build()
        .unwrap();
    drop(share(&pool).await);
    mux.0.check_hangs.store(true, SeqCst);
    let start = tokio::time::Instant::now();
    let tasks: Vec<_> = (0..10).map(|_| spawn(&pool)).collect();
    let mut streams = Vec::new();
    for task in tasks {
        streams.push(task.await.unwrap().unwrap());
    }
    assert_eq!((start.elapsed(), mux.started(), mux.open()), (SECOND, 2, 1));
    assert!(streams.iter().all(|stream| stream.id == 1));
    streams.clear();
    mux.0.check_hangs.store(false, SeqCst);
    // The caller who checks goes away: another one goes on.
    mux.0.check_hangs.store(true, SeqCst);
    let checks = spawn(&pool);
    settle().await;
    let waits = spawn(&pool);
    settle().await;
    assert_peer(&pool, [0, 1, 0, 1], [0, 0]);
    checks.abort();
    assert_eq!(waits.await.unwrap().unwrap().id, 2);
    assert_all_gone(pool, &mux);
}

/// A manager that panics when it is asked for the number of streams loses nothing.
#[tokio::test(start_paused = true)]
async fn a_manager_that_panics() {
    let mux = Mux::new(3);
    let pool = pool_of(&mux);
    mux.0.streams_panic.store(true, SeqCst);
    // Of a connection that nobody shares yet: it is closed.
    assert!(spawn(&pool).await.is_err_and(|error| error.is_panic()));
    assert_peer(&pool, [0; 4], [0; 2]);
    mux.0.streams_panic.store(false, SeqCst);
    let first = share(&pool).await;
    mux.0.streams_panic.store(true, SeqCst);
    // Of one that is in use: nobody is harmed.
    assert!(spawn(&pool).await.is_err_and(|error| error.is_panic()));
    assert_peer(&pool, [0, 1, 0, 0], [1, 1]);
    let refresh = std::panic::AssertUnwindSafe(|| pool.refresh_streams(&1));
    assert!(std::panic::catch_unwind(refresh).is_err());
    assert_eq!(first.streams(), (1, 3));
    // Of one that is suspended: it is closed.
    mux.0.streams_panic.store(false, SeqCst);
    first.limit.store(0, SeqCst);
    pool.refresh_streams(&1);
    drop(first);
    mux.0.streams_panic.store(true, SeqCst);
    pool.maintain();
    mux.0.streams_panic.store(false, SeqCst);
    assert_peer(&pool, [0; 4], [0; 2]);
    assert_eq!(pool.stats().pool.panics, 1);
    assert_all_gone(pool, &mux);
}
