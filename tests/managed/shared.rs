//! Connections that serve several at a time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slabpool::managed::{AcquireError, Builder, Manager, OnMiss, Pool, SharedOwned};
use slabpool::{Clock, CloseReason, Liveness};
use tokio::task::JoinHandle;

use crate::support::{MS, SECOND, settle};

/// A peer whose connections serve as many as it says.
#[derive(Clone)]
struct Mux(Arc<Inner>);

struct Inner {
    /// Of connections that are opened from now on.
    limit: AtomicU32,
    connect_takes: Mutex<Duration>,
    fails: AtomicBool,
    started: AtomicUsize,
    open: AtomicUsize,
    peak: AtomicUsize,
    checks: AtomicUsize,
}

struct Conn {
    id: usize,
    limit: Arc<AtomicU32>,
    alive: Arc<AtomicBool>,
    running: AtomicU32,
    peak: AtomicU32,
    mux: Mux,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.mux.0.open.fetch_sub(1, SeqCst);
    }
}

impl Manager<u32> for Mux {
    type Connection = Conn;
    type Error = usize;

    async fn connect(&self, _: &u32) -> Result<Conn, usize> {
        let id = self.0.started.fetch_add(1, SeqCst);
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.peak.fetch_max(open, SeqCst);
        let conn = Conn {
            id,
            limit: Arc::new(AtomicU32::new(self.0.limit.load(SeqCst))),
            alive: Arc::new(AtomicBool::new(true)),
            running: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            mux: self.clone(),
        };
        let takes = *self.0.connect_takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        if self.0.fails.load(SeqCst) { Err(id) } else { Ok(conn) }
    }

    fn probe(&self, conn: &mut Conn) -> Liveness {
        if conn.alive.load(SeqCst) { Liveness::Alive } else { Liveness::Closed }
    }

    async fn check(&self, conn: &mut Conn) -> bool {
        assert_eq!(conn.running.load(SeqCst), 0, "it is never checked while it is used");
        self.0.checks.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        true
    }

    fn streams(&self, conn: &Conn) -> u32 {
        conn.limit.load(SeqCst)
    }
}

impl Mux {
    fn new(limit: u32) -> Self {
        Self(Arc::new(Inner {
            limit: AtomicU32::new(limit),
            connect_takes: Mutex::default(),
            fails: AtomicBool::new(false),
            started: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
        }))
    }

    fn started(&self) -> usize {
        self.0.started.load(SeqCst)
    }

    fn open(&self) -> usize {
        self.0.open.load(SeqCst)
    }

    fn connects_take(&self, time: Duration) {
        *self.0.connect_takes.lock().unwrap() = time;
    }
}

type MuxPool = Pool<u32, Mux>;
type Share = SharedOwned<u32, Mux>;
type Outcome = Result<Share, AcquireError<usize>>;

fn builder(mux: &Mux) -> Builder<u32, Mux> {
    Pool::builder(mux.clone())
        .settings(|pool| pool.capacity(1_000).idle_timeout(None).spawn_reaper(false))
}

fn pool_of(mux: &Mux) -> MuxPool {
    builder(mux).build().unwrap()
}

async fn share(pool: &MuxPool) -> Share {
    pool.acquire_shared_owned(&1).await.unwrap()
}

fn spawn(pool: &MuxPool) -> JoinHandle<Outcome> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire_shared_owned(&1).await })
}

/// Peer 1: idle, leased, connecting, waiting; connections that are shared, and streams.
#[track_caller]
fn assert_peer(pool: &MuxPool, numbers: [usize; 4], shared: [usize; 2]) {
    let status = pool.group_status(&1);
    assert_eq!(
        [status.idle, status.leased, status.connecting, status.waiting],
        numbers,
        "{status:?}"
    );
    assert_eq!([status.shared, status.streams], shared, "{status:?}");
    assert_eq!(status.connections, status.idle + status.leased + status.connecting, "{status:?}");
}

/// Nothing is left when the pool goes.
#[track_caller]
fn assert_all_gone(pool: MuxPool, mux: &Mux) {
    pool.clear();
    assert_peer(&pool, [0; 4], [0; 2]);
    assert_eq!((mux.open(), pool.status().groups, pool.status().leased), (0, 0, 0));
    drop(pool);
    // The manager of the pool has gone: nothing keeps the pool.
    assert_eq!(Arc::strong_count(&mux.0), 1);
}

#[tokio::test(start_paused = true)]
async fn streams_share_one_connection_and_leave_it_idle() {
    let mux = Mux::new(3);
    let pool = pool_of(&mux);
    let first = share(&pool).await;
    assert!(first.meta().connected && !first.meta().reused);
    let second = share(&pool).await;
    let third = pool.acquire_shared(&1).await.unwrap();
    assert_eq!([first.id, second.id, third.id], [0; 3]);
    assert_eq!((first.token(), *third.key()), (third.token(), 1));
    assert_eq!(second.streams(), (3, 3));
    assert_eq!((third.meta().uses, third.meta().reused, third.meta().connected), (3, true, false));
    assert_peer(&pool, [0, 1, 0, 0], [1, 3]);
    drop(first);
    second.release();
    assert_peer(&pool, [0, 1, 0, 0], [1, 1]);
    drop(third);
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    // The exclusive ones get it when it is idle, and know how often it was used.
    let lease = pool.acquire(&1).await.unwrap();
    assert_eq!((lease.meta().uses, lease.id), (4, 0));
    lease.release();
    let again = share(&pool).await;
    assert_eq!((again.meta().uses, again.meta().reused, mux.started()), (5, true, 1));
    drop(again);
    assert_all_gone(pool, &mux);
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_is_had_alone() {
    let mux = Mux::new(1);
    let pool = pool_of(&mux);
    let mut alone = share(&pool).await;
    assert!(alone.exclusive().is_some());
    assert_eq!(alone.streams(), (1, 1));
    assert_peer(&pool, [0, 1, 0, 0], [0, 0]);
    alone.release();
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    // Dropped with an answer still to come.
    drop(share(&pool).await);
    assert_peer(&pool, [0; 4], [0; 2]);
    let alone = share(&pool).await;
    alone.drain();
    alone.release();
    assert_eq!(pool.stats().closes[CloseReason::Removed], 1);
    share(&pool).await.close_dead();
    assert_eq!(pool.stats().closes[CloseReason::Dead], 1);
    // By what was negotiated for each.
    mux.0.limit.store(2, SeqCst);
    let mut stream = share(&pool).await;
    assert!(stream.exclusive().is_none());
    drop(stream);
    assert_all_gone(pool, &mux);
}

/// F.56: several connections for a peer; the one that is in use for longest is filled first,
/// so that the others run dry.
#[tokio::test(start_paused = true)]
async fn the_warmest_is_filled_first() {
    let mux = Mux::new(2);
    let pool = pool_of(&mux);
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(share(&pool).await);
    }
    assert_eq!(streams.iter().map(|s| s.id).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    assert_peer(&pool, [0, 3, 0, 0], [3, 6]);
    drop(streams.remove(4));
    drop(streams.remove(2));
    drop(streams.remove(0));
    // One free in each: the first is filled, then the second, then the third.
    for expected in [0, 1, 2] {
        let stream = share(&pool).await;
        assert_eq!(stream.id, expected);
        streams.push(stream);
    }
    streams.retain(|stream| stream.id != 0);
    assert_peer(&pool, [1, 2, 0, 0], [2, 4]);
    streams.pop();
    // What is in use and has room comes before what is idle.
    assert_eq!(share(&pool).await.id, 2);
    streams.clear();
    assert_peer(&pool, [3, 0, 0, 0], [0, 0]);
    assert_all_gone(pool, &mux);
}

/// One connect for all who share, as long as nothing is known of the peer; then as many as it
/// takes.
#[tokio::test(start_paused = true)]
async fn as_few_connects_as_it_takes() {
    for (limit, connects) in [(100, 1), (40, 3), (1, 100)] {
        let mux = Mux::new(limit);
        mux.connects_take(10 * MS);
        let pool = pool_of(&mux);
        let tasks: Vec<_> = (0..100).map(|_| spawn(&pool)).collect();
        settle().await;
        assert_peer(&pool, [0, 0, 1, 100], [0, 0]);
        let mut streams = Vec::new();
        for task in tasks {
            streams.push(task.await.unwrap().unwrap());
        }
        assert_eq!(mux.started(), connects);
        streams.drain(..).for_each(Share::release);
        assert_peer(&pool, [connects, 0, 0, 0], [0, 0]);
        // An idle connection: nobody connects while the first one opens it to the others.
        if limit > 1 {
            let tasks: Vec<_> = (0..limit).map(|_| spawn(&pool)).collect();
            for task in tasks {
                streams.push(task.await.unwrap().unwrap());
            }
            streams.clear();
            assert_eq!(mux.started(), connects);
        }
        assert_all_gone(pool, &mux);
    }
}

/// A connect that fails is told to all who were to share it.
#[tokio::test(start_paused = true)]
async fn a_failed_connect_is_told_to_all_who_share() {
    let mux = Mux::new(2);
    let pool = pool_of(&mux);
    mux.connects_take(10 * MS);
    let (first, second) = (share(&pool).await, share(&pool).await);
    mux.0.fails.store(true, SeqCst);
    let tasks: Vec<_> = (0..2).map(|_| spawn(&pool)).collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(AcquireError::Connect(id)) if *id == 1));
    }
    assert_eq!(mux.started(), 2);
    drop((first, second));
    assert_all_gone(pool, &mux);
}

/// A stream that ends goes to the first who shares, a connection that becomes idle to the
/// first of either kind.
#[tokio::test(start_paused = true)]
async fn who_gets_what() {
    let mux = Mux::new(2);
    let pool = builder(&mux).max_connections_per_group(1).build().unwrap();
    let (first, second) = (share(&pool).await, share(&pool).await);
    let alone = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire_owned(&1).await }
    });
    settle().await;
    let third = spawn(&pool);
    settle().await;
    let fourth = spawn(&pool);
    settle().await;
    assert_peer(&pool, [0, 1, 0, 3], [1, 2]);
    drop(first);
    let third = third.await.unwrap().unwrap();
    assert!(!fourth.is_finished());
    fourth.abort();
    settle().await;
    drop(second);
    settle().await;
    assert!(!alone.is_finished());
    // A newcomer shares: he takes nothing that the other waits for.
    drop(share(&pool).await);
    drop(third);
    let lease = alone.await.unwrap().unwrap();
    let fifth = spawn(&pool);
    settle().await;
    assert_peer(&pool, [0, 1, 0, 1], [0, 0]);
    lease.release();
    let fifth = fifth.await.unwrap().unwrap();
    assert_eq!((fifth.id, fifth.meta().uses, mux.started()), (0, 6, 1));
    drop(fifth);
    assert_all_gone(pool, &mux);
}

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
        assert_eq!((mux.open(), pool.stats().closes[reason]), (0, 1), "{end}");
        assert_all_gone(pool, &mux);
    }
}

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
    assert_eq!((mux.open(), pool.stats().closes[CloseReason::Drained]), (1, 1));
    drop(other);
    assert_peer(&pool, [1, 0, 0, 0], [0, 0]);
    assert_all_gone(pool, &mux);
}

/// F.57, lifetime means drain; likewise uses, and all that takes connections out of service.
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
                assert_eq!((mux.open(), pool.stats().closes[CloseReason::Closed]), (0, 1));
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
        assert_eq!((mux.open(), pool.stats().closes[reason]), (1, 1), "{end}");
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
    assert_eq!(pool.stats().closes[CloseReason::Uses], 1);
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
    assert_eq!((mux.started(), pool.stats().closes[CloseReason::Dead]), (2, 1));
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

/// F.29: only a connection that was idle is checked, and by one alone, while the others wait
/// for it and open none.
#[tokio::test(start_paused = true)]
async fn checked_before_it_is_opened_to_others() {
    let mux = Mux::new(10);
    let pool = builder(&mux).check_after(Duration::ZERO).build().unwrap();
    drop(share(&pool).await);
    let tasks: Vec<_> = (0..10).map(|_| spawn(&pool)).collect();
    let mut streams = Vec::new();
    for task in tasks {
        streams.push(task.await.unwrap().unwrap());
    }
    assert_eq!((mux.started(), mux.0.checks.load(SeqCst)), (1, 1));
    assert_peer(&pool, [0, 1, 0, 0], [1, 10]);
    drop(streams);
    assert_all_gone(pool, &mux);
}

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

/// Another peer's channel is never mistaken for this one's, whatever numbers they had.
#[tokio::test(start_paused = true)]
async fn peers_come_and_go() {
    let mux = Mux::new(4);
    let pool = pool_of(&mux);
    for round in 0..50_u32 {
        let (one, two) = (round % 7, round % 5 + 100);
        let first = pool.acquire_shared(&one).await.unwrap();
        let second = pool.acquire_shared(&two).await.unwrap();
        assert_eq!((*first.key(), *second.key()), (one, two));
        let more = pool.acquire_shared(&one).await.unwrap();
        assert_eq!(more.token(), first.token());
        if round % 3 == 0 {
            more.drain();
            drop((first, second, more));
            pool.clear();
            assert_eq!(pool.status().groups, 0);
        }
    }
    assert_all_gone(pool, &mux);
}

async fn churn(pool: &MuxPool, seed: u64, rounds: u64) {
    let mut draw = seed;
    for _ in 0..rounds {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
        let choice = draw >> 59;
        if choice == 0 {
            let hurry = Duration::from_micros(draw >> 40 & 0xff);
            drop(tokio::time::timeout(hurry, pool.acquire_shared(&1)).await);
            continue;
        }
        if choice == 1 {
            pool.acquire(&1).await.expect("connects succeed").release();
            continue;
        }
        let share = pool.acquire_shared(&1).await.expect("connects succeed");
        let running = share.running.fetch_add(1, SeqCst) + 1;
        share.peak.fetch_max(running, SeqCst);
        assert!(running <= 4, "{running} streams");
        if choice & 1 == 0 {
            tokio::task::yield_now().await;
        }
        share.running.fetch_sub(1, SeqCst);
        match choice {
            2 => share.close_dead(),
            3 => share.drain(),
            4 => pool.refresh_streams(&1),
            5 => drop(pool.maintain()),
            6 => {
                share.limit.store((draw >> 33) as u32 % 4 + 1, SeqCst);
                share.release();
            }
            _ => share.release(),
        }
    }
}

/// Two connections of four streams at most, sixteen tasks on four threads: the limits are exact,
/// nobody sleeps for ever, and all counts are right in the end.
#[test]
fn all_at_once() {
    for on_miss in [OnMiss::Race, OnMiss::Wait(Duration::from_micros(50))] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_time()
            .build()
            .unwrap();
        let mux = Mux::new(4);
        let pool = builder(&mux)
            .on_miss(on_miss)
            .max_connections_per_group(2)
            // Who waits for so long was forgotten.
            .acquire_timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..16)
                .map(|seed| {
                    let pool = pool.clone();
                    tokio::spawn(async move { churn(&pool, seed, 400).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            while pool.group_status(&1).connecting > 0 {
                tokio::task::yield_now().await;
            }
        });
        assert!(mux.0.peak.load(SeqCst) <= 2);
        assert_peer(&pool, [mux.open(), 0, 0, 0], [0, 0]);
        drop(runtime);
        assert_all_gone(pool, &mux);
    }
}
