//! The pools, and what is done to them.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use slabpool::{Clock, GroupSettings, ManualClock, Pool};

use crate::common::zipf::{Spread, choices};
use crate::common::{Connection, IDLE};
use crate::sampler::{Disturber, Operation};

/// Idle connections in each group.
pub const IDLE_PER_GROUP: usize = 10;

/// Groups whose lines stay in the caches.
pub const HOT: usize = 100;

/// Keys that a thread goes through, again and again.
const CHOICES: usize = 1 << 18;

/// Longer than this takes.
const NEVER: Duration = Duration::from_secs(100_000);

/// Of the pool whose connections expire.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How much faster than the clock time passes for the reaper.
pub const PACE: u32 = 10;

/// A pool of so many groups, and room for `spare` connections more.
pub fn filled(groups: usize, spare: usize) -> Pool<u64, Connection> {
    let capacity = groups * IDLE_PER_GROUP + spare;
    let builder = Pool::builder().capacity(capacity).idle_timeout(NEVER).spawn_reaper(false);
    let pool = builder.build().expect("the settings are possible");
    (0..groups * IDLE_PER_GROUP).for_each(|n| put(&pool, n, groups));
    pool
}

/// Connection `n`. One group after the other has its turn.
fn put(pool: &Pool<u64, Connection>, n: usize, groups: usize) {
    pool.put(&key(n % groups), n as u64).expect("there is room");
}

/// Spread like hashes.
fn key(n: usize) -> u64 {
    (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One of the hot groups, which are spread over them all.
fn hot(n: usize, groups: usize) -> u64 {
    key(n % HOT * (groups / HOT))
}

/// Get and release, of hot groups.
pub fn hot_pairs(pool: &Pool<u64, Connection>, groups: usize) -> Operation<'_> {
    let keys: Vec<u64> = (0..HOT).map(|n| hot(n, groups)).collect();
    pairs(pool, keys)
}

/// Get and release, of any of the groups.
pub fn chosen_pairs(pool: &Pool<u64, Connection>, groups: usize, spread: Spread) -> Operation<'_> {
    let keys = choices(spread, groups, CHOICES, 1).into_iter().map(key).collect();
    pairs(pool, keys)
}

fn pairs(pool: &Pool<u64, Connection>, keys: Vec<u64>) -> Operation<'_> {
    Box::new(move |n| {
        let lease = pool.get(&keys[n % keys.len()]).expect(IDLE);
        black_box(*lease);
        lease.release();
    })
}

/// Get and release on a handle of one group, for one thread.
pub fn handle_pairs(pool: &Pool<u64, Connection>) -> Operation<'_> {
    let group = pool.group(&key(0));
    Box::new(move |_| {
        let lease = group.get().expect(IDLE);
        black_box(*lease);
        lease.release();
    })
}

/// The same, for the other one.
pub fn disturb_by_pairs(pool: &Pool<u64, Connection>) -> Disturber<'_> {
    let mut pair = handle_pairs(pool);
    Box::new(move |stop| until(stop, || pair(0)))
}

/// Keys that nobody has used before.
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

fn new_key() -> u64 {
    // Relaxed: each number once is all it takes. None of them is of a filled group.
    !NEXT_KEY.fetch_add(1, Ordering::Relaxed)
}

/// A connection comes and goes, and its group with it.
pub fn new_groups(pool: &Pool<u64, Connection>) -> Operation<'_> {
    Box::new(move |_| {
        let lease = pool.insert(&new_key(), 1).expect("there is room");
        black_box(lease.detach());
    })
}

/// As [`new_groups`].
pub fn disturb_by_new_groups(pool: &Pool<u64, Connection>) -> Disturber<'_> {
    let mut new_group = new_groups(pool);
    Box::new(move |stop| until(stop, || new_group(0)))
}

/// A connection comes, for which another one goes when the pool is full, and its group if it
/// was the last one in it.
pub fn puts(pool: &Pool<u64, Connection>) -> Operation<'_> {
    Box::new(move |_| {
        pool.put(&new_key(), 1).expect("others are idle");
    })
}

/// As [`puts`].
pub fn disturb_by_puts(pool: &Pool<u64, Connection>) -> Disturber<'_> {
    let mut put = puts(pool);
    Box::new(move |stop| until(stop, || put(0)))
}

/// Until it is told to stop.
fn until(stop: &AtomicBool, mut operation: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        operation();
    }
}

/// A pool whose connections would expire if they were not used, and its clock. They came
/// within an idle timeout, evenly, and then were all used at the end of it.
pub fn expiring(groups: usize) -> (Pool<u64, Connection>, ManualClock) {
    let clock = Clock::manual();
    let connections = groups * IDLE_PER_GROUP;
    let builder = Pool::builder().capacity(connections).idle_timeout(IDLE_TIMEOUT).clock(&clock);
    let pool = builder.spawn_reaper(false).build().expect("the settings are possible");
    // In groups that are hot, nothing expires.
    let settings = || GroupSettings::new().idle_timeout(NEVER);
    let handles: Vec<_> = (0..HOT).map(|n| pool.group(&hot(n, groups))).collect();
    handles.iter().for_each(|group| group.configure(settings()).expect("it is possible"));

    let ticks = (IDLE_TIMEOUT.as_nanos() / pool.tick().as_nanos()) as usize;
    let in_a_tick = connections.div_ceil(ticks);
    for n in 0..connections {
        put(&pool, n, groups);
        if (n + 1) % in_a_tick == 0 && n / in_a_tick + 2 < ticks {
            clock.advance(pool.tick());
            pool.maintain();
        }
    }
    for n in 0..groups {
        let leases: Vec<_> = (0..IDLE_PER_GROUP).map(|_| pool.get(&key(n)).expect(IDLE)).collect();
        leases.into_iter().for_each(|lease| lease.release());
    }
    (pool, clock)
}

/// What the reaper had to do.
#[derive(Debug, Default)]
pub struct Reaped {
    /// The time that passed for it, and the time that it had a core, in nanoseconds.
    pub passed: AtomicU64,
    pub busy: AtomicU64,
    pub closed: AtomicU64,
}

/// Maintains the pool for some ticks, which pass by faster than they would, or as fast as
/// it goes.
pub fn reap<'a>(
    pool: &'a Pool<u64, Connection>,
    clock: &'a ManualClock,
    ticks: u32,
    pause: Duration,
    reaped: &'a Reaped,
) -> Disturber<'a> {
    Box::new(move |_| {
        for _ in 0..ticks {
            clock.advance(pool.tick());
            let start = processor_time();
            let closed = pool.maintain();
            // Relaxed: read when this thread has ended.
            let add = |sum: &AtomicU64, of: u64| _ = sum.fetch_add(of, Ordering::Relaxed);
            add(&reaped.busy, processor_time() - start);
            add(&reaped.passed, pool.tick().as_nanos() as u64);
            add(&reaped.closed, closed as u64);
            thread::sleep(pause);
        }
    })
}

/// Nanoseconds that this thread has had.
#[cfg(unix)]
fn processor_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Not known there.
#[cfg(not(unix))]
fn processor_time() -> u64 {
    0
}
