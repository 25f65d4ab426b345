//! Connections that go out of service while they have streams.

use slabpool::{Clock, CloseReason};

use super::*;

/// GOAWAY: no new streams, closed when the last one ends.
#[tokio::test(start_paused = true)]
async fn drained_with_streams() {
    let mux = Mux::new(10);
    let pool = pool_of(&mux);
    let streams = [share(&pool).await, share(&pool).await, share(&pool).await];
    streams[1].drain();
    let other = share(&pool).await;
    assert_eq!(other.id, 1);
    assert_peer(&pool, [0, 2, 0, 0], [2, 4]);
    let [first, second, third] = streams;
    drop(first);
    third.release();
    assert_eq!((share(&pool).await.id, mux.open()), (1, 2));
    drop(second);
    assert_eq!((mux.open(), pool.stats().pool.closes[CloseReason::Drained]), (1, 1));
    drop(other);
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    assert_all_gone(pool, &mux);
}

/// H.57, lifetime means drain; likewise uses, and all that takes connections out of service.
#[tokio::test(start_paused = true)]
async fn out_of_service_means_drain() {
    for end in 0..6 {
        let mux = Mux::new(100);
        let handle = Clock::manual();
        let clock = handle.clone();
        let pool = builder(&mux)
            .settings(move |pool| {
                pool.idle_timeout(None)
                    .max_lifetime(60 * SECOND)
                    .lifetime_jitter(0.0)
                    .max_uses(5)
                    .clock(clock)
                    .spawn_reaper(false)
            })
            .build()
            .unwrap();
        let first = share(&pool).await;
        let second = share(&pool).await;
        let mut more = Vec::new();
        let reason = match end {
            0 => {
                handle.advance(60 * SECOND);
                CloseReason::Lifetime
            }
            1 => {
                for number in 3..=5 {
                    more.push(share(&pool).await);
                    assert_eq!(more.last().unwrap().meta().uses, number);
                }
                CloseReason::Uses
            }
            2 => {
                pool.invalidate_group(&1);
                CloseReason::Invalidated
            }
            3 => {
                pool.drain_group(&1);
                assert!(matches!(pool.acquire_shared(&1).await, Err(AcquireError::GroupDown)));
                pool.resume_group(&1);
                CloseReason::Drained
            }
            4 => {
                pool.clear();
                CloseReason::Drained
            }
            _ => {
                pool.close();
                assert!(matches!(pool.acquire_shared(&1).await, Err(AcquireError::Closed)));
                drop((first, second));
                assert_eq!((mux.open(), pool.stats().pool.closes[CloseReason::Closed]), (0, 1));
                assert_all_gone(pool, &mux);
                continue;
            }
        };
        assert_eq!(mux.open(), 1, "nothing is cut off");
        let other = share(&pool).await;
        assert_eq!((other.id, more.iter().all(|s| s.id == 0)), (1, true), "{end}");
        drop((first, more));
        assert_eq!(mux.open(), 2);
        drop(second);
        assert_eq!((mux.open(), pool.stats().pool.closes[reason]), (1, 1), "{end}");
        drop(other);
        assert_all_gone(pool, &mux);
    }
}

/// Uses count over idle spells, and over both kinds of leases.
#[tokio::test(start_paused = true)]
async fn each_stream_is_one_use() {
    let mux = Mux::new(100);
    let pool = builder(&mux)
        .settings(|pool| pool.idle_timeout(None).max_uses(4).spawn_reaper(false))
        .build()
        .unwrap();
    let streams = [share(&pool).await, share(&pool).await];
    drop(streams);
    pool.acquire(&1).await.unwrap().release();
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    let last = share(&pool).await;
    assert_eq!((last.meta().uses, last.id), (4, 0));
    assert_eq!(share(&pool).await.id, 1);
    drop(last);
    assert_eq!(pool.stats().pool.closes[CloseReason::Uses], 1);
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    assert_all_gone(pool, &mux);
}

/// A connection that breaks with a hundred streams is closed once, and nobody else gets it.
#[tokio::test(start_paused = true)]
async fn broken_with_a_hundred_streams() {
    let mux = Mux::new(100);
    let pool = builder(&mux).max_connections_per_group(2).build().unwrap();
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(share(&pool).await);
    }
    let waiting: Vec<_> = (0..10).map(|_| spawn(&pool)).collect();
    settle().await;
    streams.into_iter().for_each(Share::close_dead);
    for task in waiting {
        assert_eq!(task.await.unwrap().unwrap().id, 1);
    }
    assert_eq!((mux.started(), pool.stats().pool.closes[CloseReason::Dead]), (2, 1));
    assert_all_gone(pool, &mux);
}

/// At the limit of connections too, the next one is opened when the last stream of a broken
/// one ends.
#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_free_wakes_who_shares() {
    let mux = Mux::new(2);
    let pool = builder(&mux).max_connections_per_group(1).build().unwrap();
    let (first, second) = (share(&pool).await, share(&pool).await);
    let waiting: Vec<_> = (0..2).map(|_| spawn(&pool)).collect();
    settle().await;
    first.close_dead();
    settle().await;
    assert_peer(&pool, [0, 1, 0, 2], [1, 1]);
    drop(second);
    for task in waiting {
        assert_eq!(task.await.unwrap().unwrap().id, 1);
    }
    assert_eq!(mux.0.peak.load(SeqCst), 1);
    assert_all_gone(pool, &mux);
}

/// With streams out, the pool goes when they do.
#[tokio::test(start_paused = true)]
async fn the_pool_is_dropped_with_streams_out() {
    let mux = Mux::new(5);
    let pool = pool_of(&mux);
    let streams = [share(&pool).await, share(&pool).await];
    drop(pool);
    assert_eq!(streams[0].id, 0);
    let [first, second] = streams;
    drop(first);
    assert_eq!(mux.open(), 1);
    drop(second);
    assert_eq!((mux.open(), Arc::strong_count(&mux.0)), (0, 1));
}

/// Each call counts once, whether it opened a connection, joined others, or waited.
#[tokio::test(start_paused = true)]
async fn every_stream_is_one_call() {
    let mux = Mux::new(3);
    let pool = builder(&mux).max_connections_per_group(1).build().unwrap();
    let gets = |pool: &MuxPool| {
        let stats = pool.stats();
        (stats.gets(), stats.hits, stats.joined, stats.served)
    };
    let first = share(&pool).await;
    assert_eq!(gets(&pool), (1, 0, 0, 1), "it had to connect");
    let (second, third) = (share(&pool).await, share(&pool).await);
    assert_eq!(gets(&pool), (3, 0, 2, 1));
    let fourth = spawn(&pool);
    settle().await;
    assert_eq!((gets(&pool), pool.stats().waiting), ((3, 0, 2, 1), 1));
    drop(second);
    let fourth = fourth.await.unwrap().unwrap();
    assert_eq!(gets(&pool), (4, 0, 2, 2), "it waited for a stream that others share");
    for stream in [first, third, fourth] {
        stream.release();
    }
    assert_eq!(gets(&pool), (4, 0, 2, 2));
    let again = share(&pool).await;
    drop(share(&pool).await);
    assert_eq!(gets(&pool), (6, 1, 3, 2), "an idle one, and its second stream");
    drop(again);
    assert_eq!((gets(&pool), pool.stats().pool.hits), ((6, 1, 3, 2), 1));
}
