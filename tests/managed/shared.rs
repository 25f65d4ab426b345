//! Connections that serve several at a time.

mod cancel;
mod everything;
mod limits;
mod scarcity;
mod seams;
mod service;
mod threads;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slabpool::managed::{AcquireError, Builder, Manager, Pool, SharedOwned};
use slabpool::{CloseReason, Liveness};
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
    check_hangs: AtomicBool,
    streams_panic: AtomicBool,
    started: AtomicUsize,
    open: AtomicUsize,
    peak: AtomicUsize,
    checks: AtomicUsize,
}

struct Conn {
    id: usize,
    key_of: u32,
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

    async fn connect(&self, key: &u32) -> Result<Conn, usize> {
        let id = self.0.started.fetch_add(1, SeqCst);
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.peak.fetch_max(open, SeqCst);
        let conn = Conn {
            id,
            key_of: *key,
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
        if self.0.check_hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        true
    }

    fn streams(&self, conn: &Conn) -> u32 {
        assert!(!self.0.streams_panic.load(SeqCst), "a manager that panics");
        conn.limit.load(SeqCst)
    }
}

impl Mux {
    fn new(limit: u32) -> Self {
        Self(Arc::new(Inner {
            limit: AtomicU32::new(limit),
            connect_takes: Mutex::default(),
            fails: AtomicBool::new(false),
            check_hangs: AtomicBool::new(false),
            streams_panic: AtomicBool::new(false),
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
    assert_eq!(pool.stats().pool.closes[CloseReason::Removed], 1);
    share(&pool).await.close_dead();
    assert_eq!(pool.stats().pool.closes[CloseReason::Dead], 1);
    // By what was negotiated for each.
    mux.0.limit.store(2, SeqCst);
    let mut stream = share(&pool).await;
    assert!(stream.exclusive().is_none());
    drop(stream);
    assert_all_gone(pool, &mux);
}

/// H.56: several connections for a peer; the one that is in use for longest is filled first,
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

/// C.31: one connect for all who share, as long as nothing is known of the peer; then as many as it
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

/// C.29: only a connection that was idle is checked, and by one alone, while the others wait
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
