//! Whatever the threads do, a connection has one owner, and is dropped once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use slabpool::{Builder, Clock, CloseReason, Pool, Token};

use crate::common::{Connection, SECOND, Tally};
use crate::support::{Dice, rounds};

const THREADS: usize = 4;
const KEYS: usize = 6;

/// A connection that notices a second owner.
#[derive(Debug)]
pub struct Exclusive {
    in_use: AtomicBool,
    key: u64,
    inner: Connection,
}

impl Exclusive {
    fn new(key: u64, tally: &Tally) -> Self {
        Self { in_use: AtomicBool::new(false), key, inner: tally.connect(0) }
    }

    fn exchange(&self, key: u64) {
        assert_eq!(self.key, key, "a connection crossed to another key");
        assert!(!self.in_use.swap(true, Ordering::Relaxed), "two owners");
        std::hint::black_box(&self.inner);
        assert!(self.in_use.swap(false, Ordering::Relaxed), "two owners");
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        assert!(!*self.in_use.get_mut(), "dropped while in use");
    }
}

type Shared = Pool<u64, Exclusive>;

/// Does something to the pool, at random. `tokens` are those of all threads.
fn meddle(pool: &Shared, tally: &Tally, dice: &mut Dice, tokens: &Mutex<Vec<Token>>) {
    let key = dice.roll(KEYS) as u64;
    let recent = |dice: &mut Dice| {
        let tokens = tokens.lock().unwrap();
        (!tokens.is_empty()).then(|| tokens[dice.roll(tokens.len())])
    };
    match dice.roll(40) {
        0..16 => {
            if let Some(lease) = pool.get(&key) {
                lease.exchange(key);
                lease.release();
            }
        }
        16..26 => match pool.insert(&key, Exclusive::new(key, tally)) {
            Ok(lease) => {
                let mut tokens = tokens.lock().unwrap();
                tokens.truncate(31);
                tokens.insert(0, lease.token());
                drop(tokens);
                lease.exchange(key);
                lease.release();
            }
            Err(rejected) => rejected.into_inner().exchange(key),
        },
        26 => drop(pool.put(&key, Exclusive::new(key, tally))),
        27 => drop(pool.get(&key)),
        28 => pool.get(&key).into_iter().for_each(|lease| lease.detach().exchange(key)),
        29 => pool.get_if(&key, |meta| meta.uses % 2 == 1).into_iter().for_each(|lease| {
            lease.exchange(key);
            lease.release();
        }),
        30..33 => drop(recent(dice).map(|token| pool.evict(token))),
        33 => drop(recent(dice).and_then(|token| pool.take(token))),
        34 => pool.clear_group(&key),
        35 => pool.retain(|&key, _, connection| {
            connection.exchange(key);
            key != 3
        }),
        36 => drop(pool.maintain()),
        37 => pool.invalidate_group(&key),
        38 => assert!(pool.group(&key).status().capacity == pool.status().capacity),
        _ => {
            let lease = pool.group(&key).get_owned();
            lease.iter().for_each(|lease| lease.exchange(key));
        }
    }
}

fn everything_at_once(builder: Builder<u64, Exclusive>) {
    let (tally, clock, tokens) = (Tally::default(), Clock::manual(), Mutex::new(Vec::new()));
    let pool = builder.idle_timeout(SECOND).clock(&clock).build().unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, tally, clock, tokens) = (&pool, &tally, &clock, &tokens);
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                for round in 0..rounds(150_000) {
                    meddle(pool, tally, &mut dice, tokens);
                    if thread == 0 && round % 64 == 0 {
                        clock.advance(SECOND / 16);
                    }
                }
            });
        }
    });
    let (status, stats) = (pool.status(), pool.stats());
    assert_eq!(status.leased, 0);
    assert_eq!(status.idle, tally.alive());
    assert_eq!(stats.inserts, status.idle as u64 + stats.closes.total() + stats.taken);
    assert_eq!(stats.panics, 0, "a destructor found two owners");
    // Nothing hides: what is counted can be had, and nothing else.
    pool.invalidate();
    pool.maintain();
    assert_eq!((pool.status().idle, tally.alive(), pool.status().groups), (0, 0, 0));
    let expected = pool.status().capacity;
    let leases: Vec<_> =
        (0..expected).map(|_| pool.insert(&9, Exclusive::new(9, &tally)).unwrap()).collect();
    assert!(pool.insert(&9, Exclusive::new(9, &tally)).is_err(), "all of the capacity is there");
    drop(leases);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn a_connection_has_one_owner_in_a_pool_that_evicts() {
    everything_at_once(Pool::builder().capacity(3));
}

#[test]
fn a_connection_has_one_owner_in_a_pool_with_room() {
    everything_at_once(Pool::builder().capacity(64));
}

#[test]
fn a_connection_has_one_owner_in_groups_of_several_lanes() {
    everything_at_once(Pool::builder().capacity(16).lanes(4));
}

#[test]
fn a_connection_has_one_owner_in_groups_with_a_cap() {
    everything_at_once(Pool::builder().capacity(16).max_idle_per_group(2).max_uses(50));
}

/// Those that hold one connection each come and go by releases, evictions and gets
/// of other threads all the time.
#[test]
fn groups_come_and_go_with_their_connections() {
    let tally = Tally::default();
    let pool = Pool::<u64, _>::builder().capacity(2).build().unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, tally) = (&pool, &tally);
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                for _ in 0..rounds(200_000) {
                    let key = dice.roll(KEYS) as u64;
                    let lease = match pool.get(&key) {
                        Some(lease) => lease,
                        None => match pool.insert(&key, Exclusive::new(key, tally)) {
                            Ok(lease) => lease,
                            Err(_) => continue,
                        },
                    };
                    lease.exchange(key);
                    lease.release();
                }
            });
        }
    });
    assert_eq!(pool.status().groups, 1 + usize::from(pool.status().idle == 2), "{pool:?}");
    pool.clear();
    assert_eq!((pool.status().groups, tally.alive()), (0, 0));
}

/// Some insert, others remove: what one thread's part of the slab gave is freed by
/// another thread.
#[test]
fn connections_end_on_other_threads_than_they_began() {
    const TAKEN: u64 = 0;
    const EVICTED: u64 = 1;
    let tally = Tally::default();
    let pool = Shared::builder().capacity(256).build().unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(u64, Token)>(128);
    let receiver = Mutex::new(receiver);
    let count = rounds(200_000);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (pool, receiver) = (&pool, &receiver);
            scope.spawn(move || {
                let next = || receiver.lock().unwrap().recv();
                while let Ok((key, token)) = next() {
                    match key {
                        TAKEN => assert_eq!(pool.take(token).unwrap().key, key),
                        EVICTED => assert!(pool.evict(token)),
                        _ => pool.get(&key).expect("one for each message").close(),
                    }
                }
            });
        }
        for half in 0..2 {
            let (pool, tally, sender) = (&pool, &tally, sender.clone());
            scope.spawn(move || {
                for n in 0..count as u64 / 2 {
                    let key = (n + half) % 4;
                    let token = pool.put(&key, Exclusive::new(key, tally)).unwrap();
                    sender.send((key, token)).unwrap();
                }
            });
        }
        drop(sender);
    });
    assert_eq!((tally.alive(), tally.made()), (0, count));
    assert_eq!((pool.status().idle, pool.status().groups), (0, 0));
    assert_eq!(pool.stats().closes[CloseReason::Evicted], 0);
}
