//! Features that meet: what each of them promises must hold where another one does its
//! part. The peer is in the hands of the test, and the clock.

mod ageing;
mod closing;
#[path = "../common/mod.rs"]
mod common;
mod draining;
mod learning;
mod missing;

use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slabpool::{
    Builder, Clock, CloseMode, CloseReason, Connection, Liveness, ManualClock, Pool, PutOptions,
};

use common::SECOND;

const HOUR: Duration = Duration::from_secs(3_600);

/// One end of a connection; the test has the other.
#[derive(Clone)]
struct Line {
    id: u32,
    peer: Arc<Mutex<Peer>>,
}

#[derive(Default)]
struct Peer {
    fate: Option<Liveness>,
    reader: Option<Waker>,
    unwatchable: bool,
    /// What it was told before it was closed.
    told: Vec<CloseMode>,
    /// How often it was asked.
    asked: usize,
}

impl Line {
    /// Something happens at the peer, and the driver says so.
    fn suffer(&self, fate: Liveness) {
        let reader = {
            let mut peer = self.peer.lock().unwrap();
            peer.fate = Some(fate);
            peer.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Something happens at the peer, of which the driver has not heard yet.
    fn suffer_unheard(&self, fate: Liveness) {
        self.peer.lock().unwrap().fate = Some(fate);
    }

    fn unwatchable(self) -> Self {
        self.peer.lock().unwrap().unwatchable = true;
        self
    }

    fn is_watched(&self) -> bool {
        self.peer.lock().unwrap().reader.is_some()
    }

    fn asked(&self) -> usize {
        self.peer.lock().unwrap().asked
    }

    fn told(&self) -> Vec<CloseMode> {
        self.peer.lock().unwrap().told.clone()
    }
}

impl Connection for Line {
    fn liveness(&mut self) -> Liveness {
        let mut peer = self.peer.lock().unwrap();
        peer.asked += 1;
        peer.fate.unwrap_or(Liveness::Alive)
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        let mut peer = self.peer.lock().unwrap();
        peer.asked += 1;
        match peer.fate.filter(|&fate| fate != Liveness::Alive) {
            Some(fate) => Poll::Ready(fate),
            None if peer.unwatchable => Poll::Ready(Liveness::Alive),
            None => {
                peer.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        self.peer.lock().unwrap().told.push(mode);
    }
}

/// A clock, and what the pool has closed by it.
struct Bench {
    clock: ManualClock,
    closes: Arc<Mutex<Vec<(u32, CloseReason)>>>,
    lines: u32,
}

impl Bench {
    fn new() -> Self {
        Self { clock: Clock::manual(), closes: Arc::default(), lines: 0 }
    }

    /// A pool that watches.
    fn builder(&self) -> Builder<u8, Line> {
        let closes = Arc::clone(&self.closes);
        Pool::builder().watch().clock(&self.clock).lifetime_jitter(0.0).on_close(
            move |_, line: Line, reason| {
                closes.lock().unwrap().push((line.id, reason));
            },
        )
    }

    /// A connection, with the next number from 1 on.
    fn line(&mut self) -> Line {
        self.lines += 1;
        Line { id: self.lines, peer: Arc::default() }
    }

    fn put(&mut self, pool: &Pool<u8, Line>, key: u8) -> Line {
        self.put_line(pool, key, Line::clone)
    }

    fn put_line(&mut self, pool: &Pool<u8, Line>, key: u8, set: fn(&Line) -> Line) -> Line {
        let line = set(&self.line());
        pool.put(&key, line.clone()).unwrap();
        line
    }

    /// What was closed since the last call, in order.
    fn closes(&self) -> Vec<(u32, CloseReason)> {
        mem::take(&mut self.closes.lock().unwrap())
    }

    /// Lets a time pass, with maintenance in each tick.
    fn pass(&self, pool: &Pool<u8, Line>, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(pool.tick());
            self.clock.advance(step);
            pool.maintain();
            time -= step;
        }
    }
}

/// The numbers of what is idle, in order.
fn idle(pool: &Pool<u8, Line>) -> Vec<u32> {
    let mut idle = Vec::new();
    pool.retain(|_, _, line| {
        idle.push(line.id);
        true
    });
    idle.sort_unstable();
    idle
}

/// Whatever was put in is in, was closed or was taken out.
fn assert_accounted(pool: &Pool<u8, Line>) {
    let (stats, status) = (pool.stats(), pool.status());
    let there = (status.idle + status.leased) as u64;
    assert_eq!(stats.inserts, stats.closes.total() + stats.taken + there, "{stats:?}");
    assert_eq!(stats.panics, 0);
}
