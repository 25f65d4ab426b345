//! Peers that do as the script says, and count.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use slabpool::Liveness;
use slabpool::managed::Manager;

use crate::script::{Bounds, Check, KEYS, Mode};

/// All peers. The manager is a handle to it, and so are connections.
pub struct Net(Mutex<State>);

pub struct State {
    pub modes: [Mode; KEYS],
    pub check: Check,
    /// Of connections that are opened from now on.
    pub streams: u32,
    pub bounds: Bounds,
    pub open: [usize; KEYS],
    pub connecting: [usize; KEYS],
    pub checking: [usize; KEYS],
    pub connects: usize,
    /// What must not be, as it was seen.
    pub faults: Vec<String>,
}

pub struct Conn {
    pub key: usize,
    pub limit: AtomicU32,
    pub alive: AtomicBool,
    /// Whether no stream should begin any more.
    pub unfit: AtomicBool,
    /// Leases and streams.
    pub users: AtomicU32,
    counts: bool,
    net: Arc<Net>,
}

pub struct Peers(pub Arc<Net>);

impl Net {
    pub fn new(bounds: Bounds, streams: u32) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            modes: [Mode::Open(0); KEYS],
            check: Check::Pass,
            streams,
            bounds,
            open: [0; KEYS],
            connecting: [0; KEYS],
            checking: [0; KEYS],
            connects: 0,
            faults: Vec::new(),
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// What a connect that begins must find.
    fn begin(&mut self, key: usize) {
        self.connects += 1;
        self.connecting[key] += 1;
        let Bounds { capacity, connections, connecting, .. } = self.bounds;
        let all = (0..KEYS).map(|key| self.open[key] + self.connecting[key]).sum::<usize>();
        if all > capacity {
            self.faults.push(format!("{all} connections in a pool of {capacity}"));
        }
        let of_peer = self.open[key] + self.connecting[key];
        if of_peer > connections {
            self.faults.push(format!("{of_peer} connections to a peer of {connections}"));
        }
        if self.connecting[key] > connecting {
            self.faults.push(format!("{} connects, not {connecting}", self.connecting[key]));
        }
    }
}

impl Conn {
    /// One more user, who has it alone or not.
    pub fn enter(&self, alone: bool) {
        let users = self.users.fetch_add(1, SeqCst) + 1;
        let limit = if alone { 1 } else { self.limit.load(SeqCst) };
        if users > limit {
            self.net.lock().faults.push(format!("{users} users at a time, not {limit}"));
        }
    }

    pub fn leave(&self) {
        self.users.fetch_sub(1, SeqCst);
    }

    /// It was taken out of the pool.
    pub fn detached(mut self) {
        self.counts = false;
        self.net.lock().open[self.key] -= 1;
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.counts {
            self.net.lock().open[self.key] -= 1;
        }
        if *self.users.get_mut() > 0 {
            self.net.lock().faults.push("closed while it is used".to_owned());
        }
    }
}

struct Count<'a>(&'a Net, fn(&mut State) -> &mut [usize; KEYS], usize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.1(&mut self.0.lock())[self.2] -= 1;
    }
}

impl Manager<usize> for Peers {
    type Connection = Conn;
    type Error = usize;

    async fn connect(&self, &key: &usize) -> Result<Conn, usize> {
        let (mode, number, limit) = {
            let mut state = self.0.lock();
            state.begin(key);
            (state.modes[key], state.connects, state.streams)
        };
        let _count = Count(&self.0, |state| &mut state.connecting, key);
        match mode {
            Mode::Open(0) => {}
            Mode::Open(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Mode::Fail(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                return Err(number);
            }
            Mode::Hang => std::future::pending().await,
            Mode::Panic => std::panic::resume_unwind(Box::new("a connect that panics")),
        }
        self.0.lock().open[key] += 1;
        Ok(Conn {
            key,
            limit: AtomicU32::new(limit),
            alive: AtomicBool::new(true),
            unfit: AtomicBool::new(false),
            users: AtomicU32::new(0),
            counts: true,
            net: Arc::clone(&self.0),
        })
    }

    fn probe(&self, conn: &mut Conn) -> Liveness {
        if conn.alive.load(SeqCst) { Liveness::Alive } else { Liveness::Closed }
    }

    async fn check(&self, conn: &mut Conn) -> bool {
        let (key, check) = {
            let mut state = self.0.lock();
            if conn.users.load(SeqCst) > 0 {
                state.faults.push("checked while it is used".to_owned());
            }
            state.checking[conn.key] += 1;
            (conn.key, state.check)
        };
        let _count = Count(&self.0, |state| &mut state.checking, key);
        match check {
            Check::Pass => true,
            Check::Slow(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                true
            }
            Check::Fail => false,
            Check::Hang => std::future::pending().await,
            Check::Panic => std::panic::resume_unwind(Box::new("a check that panics")),
        }
    }

    fn streams(&self, conn: &Conn) -> u32 {
        conn.limit.load(SeqCst)
    }
}
