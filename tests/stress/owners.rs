//! A connection has one owner at a time, and is dropped once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use slabpool::{Clock, Lease, ManualClock, Pool, PutOptions, Token};

use crate::common::SECOND;
use crate::support::{Dice, rounds};

/// Knows whether somebody has it.
struct Owned {
    held: AtomicBool,
    key: usize,
    dropped: Arc<AtomicUsize>,
}

impl Owned {
    fn hold(&self) {
        assert!(!self.held.swap(true, Ordering::AcqRel), "two owners");
    }

    fn let_go(&self) {
        assert!(self.held.swap(false, Ordering::AcqRel), "no owner");
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.hold(); // and never lets go, so that a second drop is found
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

const KEYS: usize = 6;
const THREADS: usize = 4;

struct Run {
    pool: Pool<usize, Owned>,
    clock: ManualClock,
    made: AtomicUsize,
    dropped: Arc<AtomicUsize>,
    tokens: Mutex<Vec<Token>>,
}

impl Run {
    fn connect(&self, key: usize) -> Owned {
        self.made.fetch_add(1, Ordering::Relaxed);
        Owned { held: AtomicBool::new(false), key, dropped: Arc::clone(&self.dropped) }
    }

    fn use_it(&self, lease: Lease<&Pool<usize, Owned>, usize, Owned>, key: usize, dice: &mut Dice) {
        lease.hold();
        assert_eq!(lease.key, key, "a connection of another key");
        self.tokens.lock().unwrap()[dice.roll(64)] = lease.token();
        lease.let_go();
        match dice.roll(16) {
            0 => lease.close(),
            1 => drop(lease),
            2 => drop(lease.detach()),
            _ => lease.release(),
        }
    }

    fn step(&self, dice: &mut Dice) {
        let (pool, key) = (&self.pool, dice.roll(KEYS));
        let token = || self.tokens.lock().unwrap()[7];
        match dice.roll(64) {
            0..20 => match pool.get(&key) {
                Some(lease) => self.use_it(lease, key, dice),
                None => {
                    if let Ok(lease) = pool.insert(&key, self.connect(key)) {
                        self.use_it(lease, key, dice);
                    }
                }
            },
            20..36 => drop(pool.put(&key, self.connect(key))),
            36..40 => {
                let idle_timeout = Some(Duration::from_millis(dice.roll(500) as u64));
                drop(pool.put_with(&key, self.connect(key), PutOptions { idle_timeout }));
            }
            40..44 => drop(pool.evict(token())),
            44..48 => drop(pool.take(token())),
            48..50 => pool.clear_group(&key),
            50 => pool.invalidate_group(&key),
            51..54 => pool.retain(|key, _, connection| {
                connection.hold();
                connection.let_go();
                *key != 0
            }),
            54..60 => {
                if let Some(lease) = pool.get_if(&key, |meta| meta.uses % 2 == 0) {
                    self.use_it(lease, key, dice);
                }
            }
            60..63 => drop(pool.maintain()),
            _ => self.clock.advance(Duration::from_millis(100)),
        }
    }
}

fn everything_at_once(capacity: usize, lanes: usize) {
    let clock = Clock::manual();
    let build = Pool::builder().capacity(capacity).lanes(lanes).clock(&clock).max_uses(20);
    let pool = build.idle_timeout(SECOND).max_lifetime(5 * SECOND).build().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (made, tokens) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let run = Run { pool, clock, made, dropped, tokens };
    let first = run.pool.put(&0, run.connect(0)).unwrap();
    *run.tokens.lock().unwrap() = vec![first; 64];
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let run = &run;
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                (0..rounds(100_000)).for_each(|_| run.step(&mut dice));
            });
        }
    });
    let status = run.pool.status();
    assert!(status.idle <= capacity && status.leased == 0, "{status:?}");
    run.pool.close();
    let status = run.pool.status();
    assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0));
    assert_eq!(run.dropped.load(Ordering::Relaxed), run.made.into_inner(), "made and dropped");
    let stats = run.pool.stats();
    assert_eq!(stats.inserts, stats.closes.total() + stats.taken);
    assert_eq!(stats.panics, 0);
}

#[test]
fn with_room() {
    everything_at_once(1_000, 1);
}

#[test]
fn at_the_bound() {
    everything_at_once(2, 1);
    everything_at_once(16, 1);
}

#[test]
fn in_several_lanes() {
    everything_at_once(16, 3);
}

/// Many keys with a connection each, so that groups come and go all the time.
#[test]
fn in_groups_that_come_and_go() {
    let pool = Pool::<usize, usize>::builder().capacity(8).build().unwrap();
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let pool = &pool;
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for _ in 0..rounds(100_000) {
                    let key = dice.roll(12);
                    match pool.get(&key) {
                        Some(lease) if dice.roll(2) == 0 => assert_eq!(lease.detach(), key),
                        Some(lease) => {
                            assert_eq!(*lease, key);
                            lease.release();
                        }
                        None => drop(pool.put(&key, key)),
                    }
                }
            });
        }
    });
    pool.clear();
    assert_eq!(pool.status().groups, 0);
    let stats = pool.stats();
    assert_eq!(stats.inserts, stats.closes.total() + stats.taken);
}
