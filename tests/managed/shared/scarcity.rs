//! Those who share, where the pool has too little room.

use slabpool::managed::Fairness;

use super::*;

const BOTH: [Fairness; 2] = [Fairness::Fair, Fairness::Barging];

fn scarce(mux: &Mux, fairness: Fairness) -> MuxPool {
    let pool = builder(mux).fairness(fairness);
    pool.settings(|pool| pool.capacity(1).spawn_reaper(false)).build().unwrap()
}

fn spawn_at(pool: &MuxPool, key: u32) -> JoinHandle<Outcome> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire_shared_owned(&key).await })
}

/// Who waits for room gets a stream of his own peer's connection if that comes first, and
/// stands before nobody from then on.
#[tokio::test(start_paused = true)]
async fn a_stream_instead_of_room() {
    for fairness in BOTH {
        let mux = Mux::new(2);
        let pool = scarce(&mux, fairness);
        let (first, second) = (share(&pool).await, share(&pool).await);
        let third = spawn(&pool);
        settle().await;
        let other = spawn_at(&pool, 2);
        settle().await;
        assert_peer(&pool, [0, 1, 0, 1], [1, 2]);
        drop(first);
        let third = third.await.unwrap().unwrap();
        assert_eq!((third.id, mux.started()), (0, 1));
        assert!(!other.is_finished());
        drop(second);
        settle().await;
        assert!(!other.is_finished());
        // The last stream: what becomes idle makes room for the other peer.
        drop(third);
        let other = other.await.unwrap().unwrap();
        assert_eq!((other.key_of, mux.started(), mux.open()), (2, 2, 1));
        assert_eq!(mux.0.peak.load(SeqCst), 1);
        drop(other);
        assert_all_gone(pool, &mux);
    }
}

/// A limit that rises serves who waits for room.
#[tokio::test(start_paused = true)]
async fn more_streams_instead_of_room() {
    for fairness in BOTH {
        let mux = Mux::new(2);
        let pool = scarce(&mux, fairness);
        let streams = [share(&pool).await, share(&pool).await];
        let waiting = [spawn(&pool), spawn(&pool)];
        settle().await;
        streams[0].limit.store(3, SeqCst);
        pool.refresh_streams(&1);
        settle().await;
        assert_peer(&pool, [0, 1, 0, 1], [1, 3]);
        streams[0].limit.store(4, SeqCst);
        pool.refresh_streams(&1);
        for task in waiting {
            assert_eq!(task.await.unwrap().unwrap().id, 0);
        }
        drop(streams);
        assert_all_gone(pool, &mux);
    }
}

/// Both kinds of callers of two peers wait for the one place there is: all come to their turn.
#[tokio::test(start_paused = true)]
async fn all_come_to_their_turn() {
    for fairness in BOTH {
        let mux = Mux::new(3);
        mux.connects_take(MS);
        let pool = scarce(&mux, fairness);
        let mut tasks = Vec::new();
        for number in 0..40_u32 {
            let pool = pool.clone();
            tasks.push(tokio::spawn(async move {
                let key = number % 2 + 1;
                if number % 3 == 0 {
                    let lease = pool.acquire(&key).await.unwrap();
                    tokio::time::sleep(MS).await;
                    lease.release();
                } else {
                    let stream = pool.acquire_shared(&key).await.unwrap();
                    tokio::time::sleep(MS).await;
                    stream.release();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(mux.0.peak.load(SeqCst), 1);
        assert_all_gone(pool, &mux);
    }
}

/// Connections above a limit that was lowered while they have streams go when these end.
#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lowered_under_streams() {
    let mux = Mux::new(2);
    let pool = pool_of(&mux);
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(share(&pool).await);
    }
    pool.reconfigure(|settings| settings.max_connections_per_group = 1).unwrap();
    let waiting = spawn(&pool);
    settle().await;
    assert_peer(&pool, [0, 3, 0, 1], [3, 6]);
    // Whoever waits gets the first stream that ends, wherever that is.
    drop(streams.pop());
    let stream = waiting.await.unwrap().unwrap();
    assert_eq!(stream.id, 2);
    drop((streams.pop(), stream));
    // Two too many: what becomes idle is closed.
    assert_peer(&pool, [0, 2, 0, 0], [2, 4]);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire_owned(&1).await }
    });
    settle().await;
    streams.truncate(2);
    settle().await;
    // ... and not handed over.
    assert_peer(&pool, [0, 1, 0, 1], [1, 2]);
    streams.clear();
    let lease = waiting.await.unwrap().unwrap();
    assert_eq!(lease.id, 0);
    lease.release();
    drop(streams);
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    assert_eq!(pool.stats().pool.closes[CloseReason::GroupFull], 2);
    assert_all_gone(pool, &mux);
}

/// One connect at a time to begin with, and no more than it takes.
#[tokio::test(start_paused = true)]
async fn the_first_connect_decides_for_all_who_share() {
    for (limit, connects) in [(100, 1), (3, 4), (1, 10)] {
        let mux = Mux::new(limit);
        mux.connects_take(10 * MS);
        let pool = builder(&mux).single_flight(true).build().unwrap();
        mux.0.fails.store(true, SeqCst);
        let tasks: Vec<_> = (0..10).map(|_| spawn(&pool)).collect();
        for task in tasks {
            assert!(matches!(task.await.unwrap(), Err(AcquireError::Connect(_))));
        }
        assert_eq!(mux.started(), 1);
        mux.0.fails.store(false, SeqCst);
        let tasks: Vec<_> = (0..10).map(|_| spawn(&pool)).collect();
        let mut streams = Vec::new();
        for task in tasks {
            streams.push(task.await.unwrap().unwrap());
        }
        assert_eq!(mux.started(), 1 + connects);
        streams.drain(..).for_each(Share::release);
        assert_all_gone(pool, &mux);
    }
}

/// A miss opens three, and no more than these are opened for those who share.
#[tokio::test(start_paused = true)]
async fn growth_for_those_who_share() {
    let mux = Mux::new(2);
    mux.connects_take(10 * MS);
    let pool = builder(&mux).grow_by(3).build().unwrap();
    let tasks: Vec<_> = (0..2).map(|_| spawn(&pool)).collect();
    let mut streams = Vec::new();
    for task in tasks {
        streams.push(task.await.unwrap().unwrap());
    }
    tokio::time::sleep(20 * MS).await;
    let status = pool.group_status(&1);
    assert_eq!((status.connections, status.streams, mux.started()), (3, 2, 3), "{status:?}");
    for _ in 0..4 {
        streams.push(share(&pool).await);
    }
    assert_peer(&pool, [0, 3, 0, 0], [3, 6]);
    assert_eq!(mux.started(), 3);
    drop(streams);
    assert_all_gone(pool, &mux);
}
