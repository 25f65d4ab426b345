//! Whatever the threads do, a watched connection that dies is found, and no other one is
//! closed for it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use slabpool::{Builder, Clock, CloseReason, Connection, Liveness, Pool, Token};

use crate::common::{self, SECOND, Tally};
use crate::support::{Dice, rounds};

const USERS: usize = 2;
const KEYS: usize = 3;

/// What the peer of a connection knows of it. Stands for a socket and its reactor.
#[derive(Debug, Default)]
struct Wire {
    dead: AtomicBool,
    /// When it was killed; 0 is never.
    killed_at: AtomicU64,
    /// Who waits for something to read: one at a time.
    reader: Mutex<Option<Waker>>,
    in_use: AtomicBool,
    gone: AtomicBool,
}

impl Wire {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn wake(&self) {
        let reader = self.reader.lock().unwrap().take();
        reader.into_iter().for_each(Waker::wake);
    }

    /// `time` goes on with each death.
    fn kill(&self, time: &AtomicU64) {
        self.dead.store(true, Ordering::Release);
        self.killed_at.store(time.fetch_add(1, Ordering::AcqRel), Ordering::Release);
        self.wake();
    }
}

/// The pool's end.
#[derive(Debug)]
struct Line {
    wire: Arc<Wire>,
    _counted: common::Connection,
}

impl Line {
    /// Uses the connection, as its one owner.
    fn own<R>(&self, act: impl FnOnce() -> R) -> R {
        assert!(!self.wire.in_use.swap(true, Ordering::Relaxed), "two owners");
        let result = act();
        assert!(self.wire.in_use.swap(false, Ordering::Relaxed), "two owners");
        result
    }

    /// The user waits for an answer, so that another waker takes the place of the bell.
    fn await_answer(&self) {
        self.own(|| *self.wire.reader.lock().unwrap() = Some(Waker::noop().clone()));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.own(|| assert!(!self.wire.gone.swap(true, Ordering::Release), "dropped twice"));
    }
}

impl Connection for Line {
    fn liveness(&mut self) -> Liveness {
        self.own(|| if self.wire.is_dead() { Liveness::Closed } else { Liveness::Alive })
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.own(|| {
            let mut reader = self.wire.reader.lock().unwrap();
            if self.wire.is_dead() {
                return Poll::Ready(Liveness::Closed);
            }
            if !reader.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
                *reader = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

type Shared = Pool<usize, Line>;

/// What the threads share beside the pool.
#[derive(Default)]
struct Scene {
    tally: Tally,
    /// Goes on with each death, from 1.
    time: AtomicU64,
    /// All that were ever made.
    wires: Mutex<Vec<Arc<Wire>>>,
    tokens: Mutex<Vec<Token>>,
    users: AtomicUsize,
}

impl Scene {
    fn line(&self) -> Line {
        let wire = Arc::new(Wire::default());
        self.wires.lock().unwrap().push(Arc::clone(&wire));
        Line { wire, _counted: self.tally.connect(0) }
    }

    /// One of the youngest.
    fn recent(&self, dice: &mut Dice) -> Option<Arc<Wire>> {
        let wires = self.wires.lock().unwrap();
        let last = wires.len().checked_sub(1)?;
        Some(Arc::clone(&wires[last - dice.roll(wires.len().min(12))]))
    }

    fn note(&self, token: Token) {
        let mut tokens = self.tokens.lock().unwrap();
        tokens.truncate(11);
        tokens.insert(0, token);
    }

    fn token(&self, dice: &mut Dice) -> Option<Token> {
        let tokens = self.tokens.lock().unwrap();
        (!tokens.is_empty()).then(|| tokens[dice.roll(tokens.len())])
    }

    fn use_one(&self, pool: &Shared, dice: &mut Dice, asks: bool) {
        let before = self.time.load(Ordering::Acquire);
        let Some(lease) = pool.get(&dice.roll(KEYS)) else { return };
        let killed_at = lease.wire.killed_at.load(Ordering::Acquire);
        if asks {
            assert!(killed_at == 0 || killed_at >= before, "its death was known before the get");
        }
        match dice.roll(8) {
            0..3 => lease.await_answer(),
            3..7 => lease.own(|| {}),
            _ => return drop(lease),
        }
        lease.release();
    }

    fn act(&self, pool: &Shared, dice: &mut Dice, asks: bool) {
        match dice.roll(32) {
            0..18 => self.use_one(pool, dice, asks),
            18..22 => {
                if let Ok(lease) = pool.insert(&dice.roll(KEYS), self.line()) {
                    self.note(lease.token());
                    lease.release();
                }
            }
            22..26 => {
                if let Ok(token) = pool.put(&dice.roll(KEYS), self.line()) {
                    self.note(token);
                }
            }
            26 => drop(self.token(dice).map(|token| pool.evict(token))),
            27 => {
                // It goes on outside, and a next one takes its seat.
                let taken = self.token(dice).and_then(|token| pool.take(token));
                if let Some(taken) = taken {
                    if let Ok(token) = pool.put(&0, self.line()) {
                        self.note(token);
                    }
                    taken.wire.kill(&self.time);
                }
            }
            28 => pool.retain(|_, _, line| {
                line.await_answer();
                true
            }),
            29 => pool.clear_group(&dice.roll(KEYS)),
            30 => pool.invalidate_group(&dice.roll(KEYS)),
            _ => drop(pool.maintain()),
        }
    }

    /// Plays the peers, until the users are done.
    fn peers(&self, mut dice: Dice) {
        let mut kept: Vec<Waker> = Vec::new();
        while self.users.load(Ordering::Acquire) > 0 {
            let Some(wire) = self.recent(&mut dice) else { continue };
            match dice.roll(8) {
                0 => wire.kill(&self.time),
                1..4 => wire.wake(),
                4 => kept.extend(wire.reader.lock().unwrap().clone()),
                5 => kept.iter().for_each(Waker::wake_by_ref),
                6 if kept.len() > 8 => kept.drain(..).for_each(Waker::wake),
                _ => thread::yield_now(),
            }
        }
    }
}

/// Says that a user is done, also when it fails.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

fn every_death_is_found(builder: Builder<usize, Line>, asks: bool) {
    let scene = Scene { users: AtomicUsize::new(USERS), ..Scene::default() };
    scene.time.store(1, Ordering::Relaxed);
    let clock = Clock::manual();
    let patience = if asks { Duration::ZERO } else { SECOND };
    let pool = builder
        .idle_timeout(None)
        .probe_interval(None)
        .probe_after(patience)
        .clock(&clock)
        .watch()
        .build()
        .unwrap();
    thread::scope(|scope| {
        let (scene, pool) = (&scene, &pool);
        for user in 0..USERS {
            scope.spawn(move || {
                let _done = Done(&scene.users);
                let mut dice = Dice::new(user);
                (0..rounds(300_000)).for_each(|_| scene.act(pool, &mut dice, asks));
            });
        }
        scope.spawn(|| scene.peers(Dice::new(USERS)));
        scope.spawn(|| scene.peers(Dice::new(USERS + 1)));
        scope.spawn(|| {
            while scene.users.load(Ordering::Acquire) > 0 {
                pool.maintain();
            }
        });
    });
    // What was leased when its bell rang is found in the second.
    pool.maintain();
    pool.maintain();
    let wires = scene.wires.into_inner().unwrap();
    let alive: Vec<_> = wires.iter().filter(|wire| !wire.gone.load(Ordering::Acquire)).collect();
    assert_eq!(alive.iter().filter(|wire| wire.is_dead()).count(), 0, "dead, and idle");
    assert_eq!((pool.status().idle, pool.status().leased), (alive.len(), 0));
    assert_eq!(scene.tally.alive(), alive.len());
    assert_eq!(pool.stats().panics, 0, "a destructor found two owners");
    // All others are watched still.
    let before = pool.stats().closes[CloseReason::Dead];
    alive.iter().for_each(|wire| wire.kill(&scene.time));
    pool.maintain();
    assert_eq!(pool.stats().closes[CloseReason::Dead], before + alive.len() as u64);
    assert_eq!((pool.status().idle, pool.status().groups, scene.tally.alive()), (0, 0, 0));
}

#[test]
fn while_gets_ask() {
    every_death_is_found(Pool::builder().capacity(16), true);
}

#[test]
fn while_gets_trust_the_bell() {
    every_death_is_found(Pool::builder().capacity(16), false);
}

#[test]
fn while_seats_change_hands() {
    every_death_is_found(Pool::builder().capacity(3), false);
}

#[test]
fn in_groups_of_several_lanes_with_a_cap() {
    every_death_is_found(Pool::builder().capacity(8).lanes(4).max_idle_per_group(2), false);
}
