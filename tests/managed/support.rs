//! A peer that does as it is told, and counts.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slabpool::Liveness;
use slabpool::managed::{AcquireError, Builder, GroupStatus, Manager, Pool, PooledOwned};
use tokio::task::JoinHandle;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MS: Duration = Duration::from_millis(1);

/// What the next connects do.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Succeed after a while.
    Open(Duration),
    /// Fail after a while.
    Fail(Duration),
    /// Never come to an end.
    Hang,
    Panic,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub usize);

#[derive(Debug)]
struct Counts {
    mode: Mutex<Mode>,
    started: AtomicUsize,
    /// Connections, and connects under way.
    open: AtomicUsize,
    peak: AtomicUsize,
    checks: AtomicUsize,
    /// Whether connections pass the check, and whether it comes to an end.
    sound: AtomicBool,
    check_hangs: AtomicBool,
}

/// The manager. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Counts>);

/// A connection, or one that is to be.
#[derive(Debug)]
pub struct Conn {
    pub id: usize,
    pub alive: bool,
    peer: Peer,
}

impl Peer {
    pub fn new() -> Self {
        Self(Arc::new(Counts {
            mode: Mutex::new(Mode::Open(Duration::ZERO)),
            started: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
            sound: AtomicBool::new(true),
            check_hangs: AtomicBool::new(false),
        }))
    }

    pub fn set(&self, mode: Mode) {
        *self.0.mode.lock().unwrap() = mode;
    }

    pub fn set_check(&self, sound: bool, hangs: bool) {
        self.0.sound.store(sound, Ordering::SeqCst);
        self.0.check_hangs.store(hangs, Ordering::SeqCst);
    }

    pub fn started(&self) -> usize {
        self.0.started.load(Ordering::SeqCst)
    }

    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }

    /// The most connections and connects at a time.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }

    pub fn checks(&self) -> usize {
        self.0.checks.load(Ordering::SeqCst)
    }

    fn begin(&self) -> Conn {
        let id = self.0.started.fetch_add(1, Ordering::SeqCst);
        let open = self.0.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.peak.fetch_max(open, Ordering::SeqCst);
        Conn { id, alive: true, peer: self.clone() }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.peer.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Manager<u32> for Peer {
    type Connection = Conn;
    type Error = Refused;

    async fn connect(&self, _: &u32) -> Result<Conn, Refused> {
        let mode = *self.0.mode.lock().unwrap();
        let conn = self.begin();
        match mode {
            Mode::Open(Duration::ZERO) => Ok(conn),
            Mode::Open(time) => {
                tokio::time::sleep(time).await;
                Ok(conn)
            }
            Mode::Fail(time) => {
                tokio::time::sleep(time).await;
                Err(Refused(conn.id))
            }
            Mode::Hang => std::future::pending().await,
            Mode::Panic => panic!("a connect that panics"),
        }
    }

    fn probe(&self, conn: &mut Conn) -> Liveness {
        if conn.alive { Liveness::Alive } else { Liveness::Closed }
    }

    async fn check(&self, _: &mut Conn) -> bool {
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        if self.0.check_hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.sound.load(Ordering::SeqCst)
    }
}

pub type TestPool = Pool<u32, Peer>;
pub type Leased = PooledOwned<u32, Peer>;
pub type Outcome = Result<Leased, AcquireError<Refused>>;

/// A pool without a reaper of its own.
pub fn builder(peer: &Peer) -> Builder<u32, Peer> {
    Pool::builder(peer.clone())
        .settings(|pool| pool.capacity(1_000).idle_timeout(None).spawn_reaper(false))
}

/// A caller in a task of its own.
pub fn spawn(pool: &TestPool, key: u32) -> JoinHandle<Outcome> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire_owned(&key).await })
}

/// Lets all tasks go as far as they get without time passing.
pub async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Asserts what there is of peer 1: idle, leased, connecting, waiting; and that all that
/// counts is there (B.22).
#[track_caller]
pub fn assert_group(pool: &TestPool, idle: usize, leased: usize, connecting: usize, wait: usize) {
    let status: GroupStatus = pool.group_status(&1);
    assert_eq!(
        (status.idle, status.leased, status.connecting, status.waiting),
        (idle, leased, connecting, wait),
        "{status:?}"
    );
    assert_eq!(status.connections, idle + leased + connecting, "{status:?}");
}

/// Polls a future once.
pub fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Polls a future so many times, with `between` and a millisecond after each, and drops it.
/// `None` if it did not come to an end. It is not woken: it is polled anyway.
pub async fn poll_times<F: Future>(
    future: F,
    times: usize,
    between: impl Fn(usize),
) -> Option<F::Output> {
    let mut future = pin!(future);
    for time in 0..times {
        if let Some(output) = poll_once(future.as_mut()) {
            return Some(output);
        }
        between(time);
        settle().await;
        tokio::time::advance(MS).await;
        settle().await;
    }
    None
}
