//! Connections that are watched, and whose peer is in the hands of the model.

#![allow(dead_code, reason = "each file uses a part of it")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::common::{Conn, Ledger};
use loom::sync::Mutex;
use loom::thread::{self, JoinHandle};
use slabpool::{Builder, Clock, CloseReason, Connection, Group, Liveness, Pool};

pub const SECOND: Duration = Duration::from_secs(1);

/// What the peer of a connection knows of it. Stands for a socket and its reactor.
#[derive(Clone, Default)]
pub struct Peer(Arc<Mutex<Wire>>);

#[derive(Default)]
pub struct Wire {
    dead: bool,
    /// Who waits for something to read: one at a time.
    reader: Option<Waker>,
    polls: usize,
}

impl Peer {
    /// Ends the connection.
    pub fn kill(&self) {
        let reader = {
            let mut wire = self.0.lock().unwrap();
            wire.dead = true;
            wire.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
    }

    /// Ends the connection, and keeps the waker, as some reactors do.
    pub fn kill_by_ref(&self) {
        let reader = {
            let mut wire = self.0.lock().unwrap();
            wire.dead = true;
            wire.reader.clone()
        };
        reader.iter().for_each(Waker::wake_by_ref);
    }

    /// Something happens that needs no attention.
    pub fn twitch(&self) {
        let reader = self.0.lock().unwrap().reader.take();
        reader.into_iter().for_each(Waker::wake);
    }

    /// A clone of the waker, which is used later or never.
    pub fn waker(&self) -> Option<Waker> {
        self.0.lock().unwrap().reader.clone()
    }

    pub fn is_dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    pub fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }
}

/// The pool's end.
pub struct Line {
    pub conn: Conn,
    pub peer: Peer,
}

impl Line {
    /// The user waits for an answer, so that another waker takes the place of the bell.
    pub fn await_answer(&self) {
        self.conn.touch();
        let old = self.peer.0.lock().unwrap().reader.replace(Waker::noop().clone());
        drop(old);
    }
}

impl Connection for Line {
    fn liveness(&mut self) -> Liveness {
        self.conn.touch();
        if self.peer.is_dead() { Liveness::Closed } else { Liveness::Alive }
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.conn.touch();
        let mut wire = self.peer.0.lock().unwrap();
        wire.polls += 1;
        if wire.dead {
            return Poll::Ready(Liveness::Closed);
        }
        // As sockets do: the same waker is not cloned again.
        if !wire.reader.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            wire.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A pool that watches, and its group 1, which threads share.
pub struct Scene {
    pub pool: Pool<u8, Line>,
    pub group: Arc<Group<u8, Line>>,
    pub ledger: Ledger,
}

/// A get asks no connection: only the bell tells.
pub fn trusting() -> Scene {
    Scene::of(builder().probe_after(SECOND))
}

pub fn builder() -> Builder<u8, Line> {
    Pool::builder().capacity(4).idle_timeout(None).lanes(1).probe_interval(None).watch()
}

impl Scene {
    pub fn of(builder: Builder<u8, Line>) -> Self {
        let pool = builder.clock(Clock::manual()).build().unwrap();
        let group = Arc::new(pool.group(&1));
        Self { pool, group, ledger: Ledger::default() }
    }

    pub fn line(&self, number: usize) -> (Line, Peer) {
        let peer = Peer::default();
        (Line { conn: self.ledger.connection(number), peer: peer.clone() }, peer)
    }

    /// Connection 0, idle.
    pub fn with_one(self) -> (Self, Peer) {
        let (line, peer) = self.line(0);
        self.group.put(line).unwrap();
        (self, peer)
    }

    /// What was rung for is found in two steps: what was leased in the first is not in
    /// the second.
    pub fn maintain(&self) {
        self.pool.maintain();
        self.pool.maintain();
    }

    pub fn reaper(&self) -> JoinHandle<()> {
        let pool = self.pool.clone();
        thread::spawn(move || {
            pool.maintain();
        })
    }

    /// A user that gets a connection, if there is one, and releases it.
    pub fn use_one(&self, waits: bool) {
        if let Some(lease) = self.group.get() {
            lease.conn.touch();
            if waits {
                lease.await_answer();
            }
            lease.release();
        }
    }

    pub fn user(&self, waits: bool) -> JoinHandle<()> {
        let group = Arc::clone(&self.group);
        thread::spawn(move || {
            if let Some(lease) = group.get() {
                lease.conn.touch();
                if waits {
                    lease.await_answer();
                }
                lease.release();
            }
        })
    }

    /// Connection 0 was killed, and nobody has it: it was found out, and closed for it.
    pub fn expect_found_dead(self) {
        self.maintain();
        assert_eq!(self.ledger.dropped(0), 1, "a dead connection is idle");
        assert_eq!(self.pool.stats().closes[CloseReason::Dead], 1);
        self.settle(1);
    }

    /// Connection `number` is idle and alive, and watched.
    pub fn expect_watched(&self, number: usize, peer: &Peer) {
        self.maintain();
        assert_eq!(self.ledger.dropped(number), 0, "closed for nothing");
        assert_eq!(self.group.status().idle, 1);
        peer.kill();
        self.maintain();
        assert_eq!(self.ledger.dropped(number), 1, "nobody watches it");
    }

    pub fn settle(self, made: usize) {
        assert_eq!(self.pool.stats().panics, 0);
        drop(self.group);
        self.ledger.settle(self.pool, made);
    }
}

pub fn kill(peer: &Peer) -> JoinHandle<()> {
    let peer = peer.clone();
    thread::spawn(move || peer.kill())
}
