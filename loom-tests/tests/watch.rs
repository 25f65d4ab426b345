//! Whatever happens to a watched connection is noticed, by whoever has it then or by
//! the reaper; and a bell says nothing about the next connection in its seat.

mod common;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Conn, Ledger, check};
use loom::sync::Mutex;
use loom::thread::{self, JoinHandle};
use slabpool::{Builder, Clock, CloseReason, Connection, Group, Liveness, Pool};

const SECOND: Duration = Duration::from_secs(1);

/// What the peer of a connection knows of it. Stands for a socket and its reactor.
#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Wire>>);

#[derive(Default)]
struct Wire {
    dead: bool,
    /// Who waits for something to read: one at a time.
    reader: Option<Waker>,
    polls: usize,
}

impl Peer {
    /// Ends the connection.
    fn kill(&self) {
        let reader = {
            let mut wire = self.0.lock().unwrap();
            wire.dead = true;
            wire.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
    }

    /// Ends the connection, and keeps the waker, as some reactors do.
    fn kill_by_ref(&self) {
        let reader = {
            let mut wire = self.0.lock().unwrap();
            wire.dead = true;
            wire.reader.clone()
        };
        reader.iter().for_each(Waker::wake_by_ref);
    }

    /// Something happens that needs no attention.
    fn twitch(&self) {
        let reader = self.0.lock().unwrap().reader.take();
        reader.into_iter().for_each(Waker::wake);
    }

    /// A clone of the waker, which is used later or never.
    fn waker(&self) -> Option<Waker> {
        self.0.lock().unwrap().reader.clone()
    }

    fn is_dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }
}

/// The pool's end.
struct Line {
    conn: Conn,
    peer: Peer,
}

impl Line {
    /// The user waits for an answer, so that another waker takes the place of the bell.
    fn await_answer(&self) {
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
struct Scene {
    pool: Pool<u8, Line>,
    group: Arc<Group<u8, Line>>,
    ledger: Ledger,
}

/// A get asks no connection: only the bell tells.
fn trusting() -> Scene {
    Scene::of(builder().probe_after(SECOND))
}

fn builder() -> Builder<u8, Line> {
    Pool::builder().capacity(4).idle_timeout(None).probe_interval(None).watch()
}

impl Scene {
    fn of(builder: Builder<u8, Line>) -> Self {
        let pool = builder.clock(Clock::manual()).build().unwrap();
        let group = Arc::new(pool.group(&1));
        Self { pool, group, ledger: Ledger::default() }
    }

    fn line(&self, number: usize) -> (Line, Peer) {
        let peer = Peer::default();
        (Line { conn: self.ledger.connection(number), peer: peer.clone() }, peer)
    }

    /// Connection 0, idle.
    fn with_one(self) -> (Self, Peer) {
        let (line, peer) = self.line(0);
        self.group.put(line).unwrap();
        (self, peer)
    }

    /// What was rung for is found in two steps: what was leased in the first is not in
    /// the second.
    fn maintain(&self) {
        self.pool.maintain();
        self.pool.maintain();
    }

    fn reaper(&self) -> JoinHandle<()> {
        let pool = self.pool.clone();
        thread::spawn(move || {
            pool.maintain();
        })
    }

    /// A user that gets a connection, if there is one, and releases it.
    fn use_one(&self, waits: bool) {
        if let Some(lease) = self.group.get() {
            lease.conn.touch();
            if waits {
                lease.await_answer();
            }
            lease.release();
        }
    }

    fn user(&self, waits: bool) -> JoinHandle<()> {
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
    fn expect_found_dead(self) {
        self.maintain();
        assert_eq!(self.ledger.dropped(0), 1, "a dead connection is idle");
        assert_eq!(self.pool.stats().closes[CloseReason::Dead], 1);
        self.settle(1);
    }

    /// Connection `number` is idle and alive, and watched.
    fn expect_watched(&self, number: usize, peer: &Peer) {
        self.maintain();
        assert_eq!(self.ledger.dropped(number), 0, "closed for nothing");
        assert_eq!(self.group.status().idle, 1);
        peer.kill();
        self.maintain();
        assert_eq!(self.ledger.dropped(number), 1, "nobody watches it");
    }

    fn settle(self, made: usize) {
        assert_eq!(self.pool.stats().panics, 0);
        drop(self.group);
        self.ledger.settle(self.pool, made);
    }
}

fn kill(peer: &Peer) -> JoinHandle<()> {
    let peer = peer.clone();
    thread::spawn(move || peer.kill())
}

/// The bell rings while the lease ends, which does not register it again.
#[test]
fn a_ring_against_release() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        let killer = kill(&peer);
        lease.conn.touch();
        lease.release();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// As before; the waker that rings stays where it is.
#[test]
fn a_ring_by_reference_against_release() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        let other = peer.clone();
        let killer = thread::spawn(move || other.kill_by_ref());
        lease.conn.touch();
        lease.release();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// As before, and the release does register it again, since the user's waker had taken
/// its place.
#[test]
fn a_death_against_a_release_that_registers() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        lease.await_answer();
        let killer = kill(&peer);
        lease.release();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// The user's waker takes the place of the bell while that rings.
#[test]
fn a_ring_against_a_user_who_waits() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        scene.use_one(true);
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// The reaper takes up the ring while the connection is leased and released.
#[test]
fn a_ring_against_get_release_and_the_reaper() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.use_one(false);
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// The reaper has seen the connection leased, and it is leased again before it looks
/// the next time.
#[test]
fn a_ring_against_two_leases_and_the_reaper() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let lease = scene.group.get().unwrap();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        lease.release();
        scene.use_one(false);
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A connection that dies while it enters the pool.
#[test]
fn a_ring_against_put() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.group.put(line).unwrap();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A connection that dies while it is released for the first time.
#[test]
fn a_ring_against_the_first_release() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let lease = scene.group.insert(line).unwrap();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        lease.release();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// It rings for nothing, and then for its death, while it is examined for the first.
#[test]
fn a_ring_against_the_look_at_the_one_before() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let other = peer.clone();
        let killer = thread::spawn(move || {
            other.twitch();
            other.kill();
        });
        scene.pool.maintain();
        killer.join().unwrap();
        scene.expect_found_dead();
    });
}

/// Two reapers share the rings.
#[test]
fn a_ring_against_two_reapers() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let other = peer.clone();
        let killer = thread::spawn(move || {
            other.twitch();
            other.kill();
        });
        let reaper = scene.reaper();
        scene.pool.maintain();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A get that asks finds the death, or the reaper does: it is closed once.
#[test]
fn a_death_is_found_by_get_or_by_the_reaper() {
    check(3, || {
        let (scene, peer) = Scene::of(builder()).with_one();
        peer.kill();
        let reaper = scene.reaper();
        assert!(scene.group.get().is_none(), "it is known to be dead");
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// Who meets a connection that the reaper looks at gets it, if it is alive.
#[test]
fn a_look_hides_nothing_from_get() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        peer.twitch();
        let reaper = scene.reaper();
        let lease = scene.group.get().expect("it is alive, and nobody has it");
        lease.conn.touch();
        lease.release();
        reaper.join().unwrap();
        scene.expect_watched(0, &peer);
        scene.settle(1);
    });
}

/// As before, with a getter that asks; it may come before the twitch or after it.
#[test]
fn a_twitch_hides_nothing_from_a_get_that_asks() {
    check(2, || {
        let (scene, peer) = Scene::of(builder()).with_one();
        let other = peer.clone();
        let twitcher = thread::spawn(move || other.twitch());
        let reaper = scene.reaper();
        let lease = scene.group.get().expect("it is alive, and nobody has it");
        lease.await_answer();
        lease.release();
        twitcher.join().unwrap();
        reaper.join().unwrap();
        scene.expect_watched(0, &peer);
        scene.settle(1);
    });
}

/// The dead connection has gone, by the token, when its ring is taken up, and another
/// one is in the seat.
#[test]
fn a_ring_is_not_for_the_next_after_evict() {
    check(2, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        // Perhaps the reaper was first.
        scene.pool.evict(token);
        let (line, next) = scene.line(1);
        scene.group.put(line).unwrap();
        killer.join().unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// As before; the first connection lives on, outside.
#[test]
fn a_ring_is_not_for_the_next_after_take() {
    check(2, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let killer = kill(&peer);
        let taken = scene.pool.take(token).expect("nobody else has it");
        let (line, next) = scene.line(1);
        scene.group.put(line).unwrap();
        taken.conn.touch();
        let reaper = scene.reaper();
        killer.join().unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 0, "it is the taker's");
        drop(taken);
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// As before; the next connection comes by a lease, and the wait for its answer.
#[test]
fn a_ring_is_not_for_the_next_that_is_inserted() {
    check(2, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let killer = kill(&peer);
        drop(scene.pool.take(token));
        let (line, next) = scene.line(1);
        let lease = scene.group.insert(line).unwrap();
        lease.await_answer();
        lease.release();
        killer.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// A waker that was kept rings when its connection has gone: not even a look comes of
/// it.
#[test]
fn a_stale_waker_rings_into_nothing() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        let kept = peer.waker().unwrap();
        drop(scene.pool.take(token));
        let ringer = thread::spawn(move || kept.wake());
        let (line, next) = scene.line(1);
        scene.group.put(line).unwrap();
        scene.pool.maintain();
        ringer.join().unwrap();
        scene.maintain();
        assert_eq!(next.polls(), 1, "the bell of a connection that has gone is silent");
        scene.expect_watched(1, &next);
        scene.settle(2);
    });
}

/// A waker that was kept rings for its own connection, leased or idle.
#[test]
fn a_kept_waker_does_no_harm() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let kept = peer.waker().unwrap();
        let ringer = thread::spawn(move || {
            kept.wake_by_ref();
            kept.wake();
        });
        let reaper = scene.reaper();
        scene.use_one(true);
        ringer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_watched(0, &peer);
        scene.settle(1);
    });
}

/// A clear takes the ticket of a connection that is looked at.
#[test]
fn a_ring_against_clear() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        peer.twitch();
        let reaper = scene.reaper();
        scene.group.clear();
        reaper.join().unwrap();
        match scene.ledger.dropped(0) {
            // It was looked at, and is there afterwards.
            0 => scene.expect_watched(0, &peer),
            _ => assert_eq!(scene.group.status().idle, 0),
        }
        scene.settle(1);
    });
}

/// `retain` and the reaper look at the same connection, which rings.
#[test]
fn a_ring_against_retain() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.pool.retain(|_, _, line| {
            line.conn.touch();
            true
        });
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.expect_found_dead();
    });
}

/// A dead connection is closed by the reaper or by its token, once.
#[test]
fn a_look_against_evict() {
    check(3, || {
        let scene = trusting();
        let (line, peer) = scene.line(0);
        let token = scene.group.put(line).unwrap();
        peer.kill();
        let reaper = scene.reaper();
        scene.pool.evict(token);
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.settle(1);
    });
}

/// It expires while it rings: it is closed once.
#[test]
fn a_ring_against_expiry() {
    check(3, || {
        let clock = Clock::manual();
        let pool = builder().idle_timeout(SECOND).probe_after(SECOND).clock(&clock).build();
        let pool = pool.unwrap();
        let group = Arc::new(pool.group(&1));
        let (scene, peer) = Scene { pool, group, ledger: Ledger::default() }.with_one();
        clock.advance(2 * SECOND);
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.pool.maintain();
        killer.join().unwrap();
        reaper.join().unwrap();
        scene.maintain();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.settle(1);
    });
}

/// The pool is closed while a connection rings and is looked at.
#[test]
fn a_ring_against_close() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let reaper = scene.reaper();
        scene.pool.close();
        killer.join().unwrap();
        reaper.join().unwrap();
        assert_eq!(scene.ledger.dropped(0), 1);
        scene.settle(1);
    });
}

/// The pool goes while a connection rings: the ring finds what it needs.
#[test]
fn a_ring_against_the_end_of_the_pool() {
    check(3, || {
        let (scene, peer) = trusting().with_one();
        let kept = peer.waker().unwrap();
        let killer = kill(&peer);
        scene.settle(1);
        killer.join().unwrap();
        kept.wake();
    });
}

/// Three at once: a user, another user, and the peer.
#[test]
fn a_ring_against_two_users() {
    check(2, || {
        let (scene, peer) = trusting().with_one();
        let killer = kill(&peer);
        let user = scene.user(true);
        scene.use_one(false);
        killer.join().unwrap();
        user.join().unwrap();
        scene.expect_found_dead();
    });
}
