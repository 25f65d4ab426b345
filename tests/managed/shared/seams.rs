//! What else may happen to streams: peers that are down, times that end, managers that panic,
//! runtimes that go.

use slabpool::Clock;
use tokio::time::Instant;

use super::*;

/// A peer that is down: streams go on, no other begins, and the connection is closed when the
/// last ends.
#[tokio::test(start_paused = true)]
async fn a_peer_that_is_down_keeps_its_streams() {
    let mux = Mux::new(3);
    let pool = builder(&mux).down_after(1).backoff(SECOND, SECOND).build().unwrap();
    let (first, second) = (share(&pool).await, share(&pool).await);
    mux.0.fails.store(true, SeqCst);
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::Connect(_))));
    assert!(matches!(pool.acquire(&1).await, Err(AcquireError::GroupDown)));
    assert!(matches!(pool.acquire_shared(&1).await, Err(AcquireError::GroupDown)));
    assert_peer(&pool, [0, 1, 0, 0], [1, 2]);
    drop(first);
    assert_eq!(mux.open(), 1);
    drop(second);
    assert_eq!(mux.open(), 0);
    // It is tried again, by one connect for all.
    mux.0.fails.store(false, SeqCst);
    mux.connects_take(10 * MS);
    tokio::time::sleep(SECOND).await;
    let tasks: Vec<_> = (0..3).map(|_| spawn(&pool)).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().id, 2);
    }
    // What is known of the peer is forgotten.
    pool.maintain();
    assert_all_gone(pool, &mux);
}

/// Who waits for a stream of a connection whose lifetime is over gets a new one.
#[tokio::test(start_paused = true)]
async fn a_lifetime_that_ends_while_others_wait() {
    let mux = Mux::new(2);
    let handle = Clock::manual();
    let clock = handle.clone();
    let pool = builder(&mux)
        .settings(move |pool| pool.max_lifetime(60 * SECOND).lifetime_jitter(0.0).clock(clock))
        .max_connections_per_group(1)
        .build()
        .unwrap();
    let (first, second) = (share(&pool).await, share(&pool).await);
    let waiting = [spawn(&pool), spawn(&pool)];
    settle().await;
    handle.advance(61 * SECOND);
    drop(first);
    settle().await;
    assert!(waiting.iter().all(|task| !task.is_finished()));
    assert_peer(&pool, [0, 1, 0, 2], [1, 1]);
    drop(second);
    for task in waiting {
        assert_eq!(task.await.unwrap().unwrap().id, 1);
    }
    assert_eq!(pool.stats().pool.closes[CloseReason::Lifetime], 1);
    assert_all_gone(pool, &mux);
}

/// What is invalidated while others wait for it is closed when it comes back, and they get a
/// new one.
#[tokio::test(start_paused = true)]
async fn invalidated_while_others_wait() {
    for clears in [false, true] {
        let mux = Mux::new(2);
        let pool = builder(&mux).max_connections_per_group(1).build().unwrap();
        let lease = pool.acquire_owned(&1).await.unwrap();
        let waiting = [spawn(&pool), spawn(&pool)];
        settle().await;
        pool.invalidate_group(&1);
        lease.release();
        let [first, second] = waiting;
        let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        assert_eq!((first.id, second.id), (1, 1));
        let third = spawn(&pool);
        settle().await;
        if clears {
            pool.clear()
        } else {
            pool.invalidate()
        }
        drop(first);
        settle().await;
        assert!(!third.is_finished());
        drop(second);
        assert_eq!(third.await.unwrap().unwrap().id, 2);
        assert_all_gone(pool, &mux);
    }
}

/// A drain with streams out tells of them, and of none when they have ended.
#[tokio::test(start_paused = true)]
async fn drained_at_a_deadline() {
    let mux = Mux::new(4);
    let pool = pool_of(&mux);
    let streams = [share(&pool).await, share(&pool).await];
    let start = Instant::now();
    let drained = pool.drain(SECOND).await;
    assert_eq!((drained.remaining, drained.connecting), (1, 0));
    assert!(start.elapsed() <= SECOND + MS);
    let again = tokio::spawn(pool.drain(SECOND));
    settle().await;
    drop(streams);
    assert!(again.await.unwrap().is_complete());
    assert_all_gone(pool, &mux);
}

/// A manager that panics when it is asked how many streams there are, wherever that is:
/// nothing is lost, and nobody is forgotten.
#[tokio::test(start_paused = true)]
async fn a_panic_where_streams_are_counted() {
    let mux = Mux::new(2);
    let pool = builder(&mux).max_connections_per_group(1).build().unwrap();
    let first = share(&pool).await;
    mux.0.streams_panic.store(true, SeqCst);
    // The warmest has room.
    assert!(spawn(&pool).await.is_err_and(|error| error.is_panic()));
    assert_eq!(first.streams(), (1, 2));
    let asked = pool.clone();
    assert!(tokio::spawn(async move { asked.refresh_streams(&1) }).await.is_err());
    assert_eq!(first.streams(), (1, 2));
    mux.0.streams_panic.store(false, SeqCst);
    let second = share(&pool).await;
    let waiting = [spawn(&pool), spawn(&pool)];
    settle().await;
    // One of those who wait gets a stream, and panics; the other one gets it.
    mux.0.streams_panic.store(true, SeqCst);
    drop(second);
    settle().await;
    mux.0.streams_panic.store(false, SeqCst);
    assert_peer(&pool, [0, 1, 0, 0], [1, 1]);
    let [one, two] = waiting;
    let panicked = [one.await, two.await].map(|ended| ended.is_err_and(|error| error.is_panic()));
    assert_eq!(panicked, [true, true]);
    // The last stream ends while somebody waits, and what is idle is looked at with a panic.
    let second = share(&pool).await;
    let waiting = spawn(&pool);
    settle().await;
    first.limit.store(0, SeqCst);
    pool.refresh_streams(&1);
    drop((first, second));
    settle().await;
    mux.0.streams_panic.store(true, SeqCst);
    pool.maintain();
    mux.0.streams_panic.store(false, SeqCst);
    assert_eq!(waiting.await.unwrap().unwrap().id, 1, "the first was condemned");
    assert_all_gone(pool, &mux);
}

/// Where a drop releases, one that is had alone is released too, and a stream is as ever.
#[tokio::test(start_paused = true)]
async fn a_drop_that_releases() {
    let mux = Mux::new(1);
    let pool = builder(&mux)
        .settings(|pool| pool.release_on_drop(true))
        .max_connections_per_group(1)
        .build()
        .unwrap();
    let alone = share(&pool).await;
    let waiting = spawn(&pool);
    settle().await;
    drop(alone);
    let alone = waiting.await.unwrap().unwrap();
    assert_eq!(alone.id, 0);
    // One that was not seen, as well.
    let waiting = spawn(&pool);
    settle().await;
    drop(alone);
    waiting.abort();
    settle().await;
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    mux.0.limit.store(2, SeqCst);
    assert_eq!(share(&pool).await.id, 0);
    share(&pool).await.close_dead();
    drop((share(&pool).await, share(&pool).await));
    assert_eq!(mux.started(), 2);
    assert_all_gone(pool, &mux);
}

/// A runtime goes with callers in line, a connect under way and streams out: another one goes
/// on with the pool.
#[test]
fn a_runtime_that_ends_with_streams_out() {
    let runtime = || {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let mux = Mux::new(2);
    let pool = builder(&mux).max_connections_per_group(2).build().unwrap();
    let first = runtime();
    let streams = first.block_on(async { [share(&pool).await, share(&pool).await] });
    mux.connects_take(SECOND);
    first.block_on(async {
        let _tasks = (spawn(&pool), spawn(&pool), spawn(&pool));
        settle().await;
        assert_peer(&pool, [0, 1, 1, 3], [1, 2]);
    });
    drop(first);
    assert_peer(&pool, [0, 1, 0, 0], [1, 2]);
    runtime().block_on(async {
        let waiting = spawn(&pool);
        settle().await;
        assert_peer(&pool, [0, 1, 1, 1], [1, 2]);
        assert_eq!(waiting.await.unwrap().unwrap().id, 2);
    });
    drop(streams);
    assert_peer(&pool, [2, 0, 0, 0], [0, 0]);
    assert_all_gone(pool, &mux);
}

/// What is forgotten is lost, with its share of the limits; nothing else is.
#[tokio::test(start_paused = true)]
async fn what_is_forgotten() {
    let mux = Mux::new(2);
    let pool = builder(&mux).max_connections_per_group(2).build().unwrap();
    let stream = share(&pool).await;
    std::mem::forget(stream);
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!(lease.id, 1);
    std::mem::forget(lease);
    // A stream of the first, and then none.
    let stream = share(&pool).await;
    assert_eq!((stream.id, stream.streams()), (0, (2, 2)));
    assert!(pool.acquire_shared_timeout(&1, SECOND).await.is_err());
    drop(stream);
    assert_peer(&pool, [0, 2, 0, 0], [1, 1]);
    let drained = pool.drain(SECOND).await;
    assert_eq!((drained.remaining, drained.connecting, mux.open()), (2, 0, 2));
}

/// An idle connection that has no streams for now when it is asked is no hit of the caller.
#[tokio::test(start_paused = true)]
async fn what_is_of_no_use_is_no_hit() {
    let mux = Mux::new(2);
    let pool = pool_of(&mux);
    let stream = share(&pool).await;
    let limit = Arc::clone(&stream.limit);
    drop(stream);
    limit.store(0, SeqCst);
    let waiting = spawn(&pool);
    settle().await;
    limit.store(1, SeqCst);
    pool.refresh_streams(&1);
    drop(waiting.await.unwrap().unwrap());
    let stats = pool.stats();
    assert_eq!((stats.hits, stats.served, stats.gets()), (0, 2, 2), "{stats:?}");
    assert_all_gone(pool, &mux);
}
