//! A peer that also notes when it is connected to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use slabpool::managed::{Builder, Health, Manager, Pool, PooledOwned};
use slabpool::{Clock, Liveness, ManualClock};
use tokio::time::Instant;

use crate::support::{Conn, Peer, Refused, settle};

#[derive(Clone, Debug)]
pub struct Watched {
    pub peer: Peer,
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Watched {
    pub fn new() -> Self {
        Self { peer: Peer::new(), times: Arc::default() }
    }

    /// When connects began.
    pub fn times(&self) -> Vec<Instant> {
        self.times.lock().unwrap().clone()
    }
}

impl Manager<u32> for Watched {
    type Connection = Conn;
    type Error = Refused;

    async fn connect(&self, key: &u32) -> Result<Conn, Refused> {
        self.times.lock().unwrap().push(Instant::now());
        self.peer.connect(key).await
    }

    fn probe(&self, conn: &mut Conn) -> Liveness {
        self.peer.probe(conn)
    }
}

pub type WatchedPool = Pool<u32, Watched>;
pub type WatchedLease = PooledOwned<u32, Watched>;

/// A pool without a reaper, on a manual clock.
pub fn builder(peer: &Watched) -> Builder<u32, Watched> {
    with_min(peer, 0, 1_000, &Clock::manual())
}

/// As [`builder`], with a minimum for each peer, this capacity, and this clock.
pub fn with_min(
    peer: &Watched,
    min: usize,
    capacity: usize,
    clock: &ManualClock,
) -> Builder<u32, Watched> {
    let clock = clock.clone();
    Pool::builder(peer.clone()).settings(move |pool| {
        pool.capacity(capacity)
            .min_idle_per_group(min)
            .idle_timeout(None)
            .clock(clock)
            .spawn_reaper(false)
    })
}

/// Lets time pass, bit by bit, so that nothing is late.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
    settle().await;
}

/// How long until the next try, of a peer that is down.
#[track_caller]
pub fn retry_in(pool: &WatchedPool, key: u32) -> Duration {
    match pool.group_status(&key).health {
        Health::Down { retry_in, .. } => retry_in,
        other => panic!("{other:?}"),
    }
}

/// Asserts what there is of a peer: idle, leased, being opened.
#[track_caller]
pub fn assert_peer(
    pool: &WatchedPool,
    key: u32,
    (idle, leased, connecting): (usize, usize, usize),
) {
    let status = pool.group_status(&key);
    assert_eq!((status.idle, status.leased, status.connecting), (idle, leased, connecting));
    assert_eq!(status.connections, idle + leased + connecting, "{status:?}");
}
