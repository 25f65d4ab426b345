//! The pair in other shapes: keys of which some are hot, several leases at a time, and
//! leases that end on another thread.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use deadpool::unmanaged;
use parking_lot::Mutex;
use pingora_pool::ConnectionPool;
use sharded_slab::Slab;
use slabpool::{Group, Pool, Pooled};

use super::pairs::{fill, pingora_put};
use super::peers::{Exclusive, LegacyPool, MapOfStacks, legacy_get, legacy_pool, legacy_put};
use super::plain::MutexMap;
use super::zipf::{Spread, choices};
use super::{Connection, Contender, IDLE, Work};

/// Idle connections under each of many keys. Two threads may use the same.
const IDLE_PER_KEY: u64 = 2;

/// Keys that a thread goes through, again and again.
const CHOICES: usize = 1 << 16;

/// The most leases that are held at once.
const HELD_MAX: usize = 16;

/// Connections on their way to the other thread.
const ON_THE_WAY: usize = 64;

/// Room that a pool has beyond what is in it.
const SPARE: usize = 4_096;

/// The one key, where there is one.
const KEY: u64 = 7;

/// No connection expires while it waits for its turn.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// A contender's name, and how to make it for so many keys, chosen like that, by so many
/// threads.
pub type Keyed = (&'static str, fn(usize, Spread, usize) -> Work);

/// Keys chosen at random.
pub const BY_CHOICE: [Keyed; 6] = [
    ("slabpool", by_choice::<Pool<u64, Connection>>),
    ("pingora-pool", by_choice::<ConnectionPool<Connection>>),
    ("Mutex<HashMap<u64, Vec>>", by_choice::<MutexMap>),
    ("DashMap<u64, Mutex<Vec>>", by_choice::<MapOfStacks<u64>>),
    ("hyper-util, legacy", by_choice::<LegacyPool<u64>>),
    ("five lines in a row", |keys, spread, threads| lines_in_a_row(keys, spread, threads)),
];

/// In which order leases end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The last one first.
    Lifo,
    /// The first one first.
    Fifo,
}

/// A contender's name, and how to make it for so many leases at a time.
pub type Held = (&'static str, fn(usize, Order) -> Work);

/// One key, and several leases of it at once. An operation is a lease.
pub const HOLDING: [Held; 9] = [
    ("slabpool, handle", holding::<Group<u64, Connection>>),
    ("slabpool, key", holding::<Pool<u64, Connection>>),
    ("pingora-pool", holding::<ConnectionPool<Connection>>),
    ("deadpool, unmanaged", holding::<unmanaged::Pool<Connection>>),
    ("Mutex<Vec>", holding::<Mutex<Vec<Connection>>>),
    ("Mutex<HashMap<u64, Vec>>", holding::<MutexMap>),
    ("DashMap<u64, Mutex<Vec>>", holding::<MapOfStacks<u64>>),
    ("hyper-util, legacy", holding::<LegacyPool<u64>>),
    ("ArrayQueue", holding::<ArrayQueue<Connection>>),
];

/// One thread leases, and hands over to another one, which releases. Two threads.
pub const HANDED_OVER: [Contender; 8] = [
    ("slabpool, handle", || {
        let group = pool(&[KEY], 2 * ON_THE_WAY as u64).group(&KEY);
        handed_over(move || group.get_owned(), |lease| lease.release())
    }),
    ("pingora-pool", || by_value::<ConnectionPool<Connection>>()),
    ("Mutex<Vec>", || by_value::<Mutex<Vec<Connection>>>()),
    ("Mutex<HashMap<u64, Vec>>", || by_value::<MutexMap>()),
    ("DashMap<u64, Mutex<Vec>>", || by_value::<MapOfStacks<u64>>()),
    ("ArrayQueue", || by_value::<ArrayQueue<Connection>>()),
    ("sharded-slab, insert and take", || {
        let slab = Arc::new(Slab::<Connection>::new());
        let taker = Arc::clone(&slab);
        handed_over(move || slab.insert(1), move |place| _ = black_box(taker.take(place)))
    }),
    ("no pool, the way alone", || handed_over(|| Some(1_u64), |number| _ = black_box(number))),
];

/// A pool, whatever its lease is.
pub trait Subject: Send + Sync + 'static {
    type Lease<'a>;

    /// With `idle` connections under each key.
    fn new(keys: &[u64], idle: u64) -> Self;

    fn get(&self, key: u64) -> Self::Lease<'_>;

    fn release(&self, key: u64, lease: Self::Lease<'_>);
}

/// Goes through keys as chosen, a pair with each.
fn by_choice<S: Subject>(keys: usize, spread: Spread, threads: usize) -> Work {
    let key = |n: usize| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let all: Vec<u64> = (0..keys).map(key).collect();
    let subject = S::new(&all, IDLE_PER_KEY);
    let walk = |seed| choices(spread, keys, CHOICES, seed).into_iter().map(key).collect();
    let walks: Vec<Vec<u64>> = (0..threads as u64).map(walk).collect();
    Box::new(move |thread, pairs| {
        walks[thread].iter().cycle().take(pairs as usize).for_each(|key| {
            let lease = black_box(subject.get(*key));
            subject.release(*key, lease);
        });
    })
}

/// What it takes to find five cache lines of each key, each by the one before, as a get and a
/// release do: the part of the directory, the group, its lane, the seat, and the record.
fn lines_in_a_row(keys: usize, spread: Spread, threads: usize) -> Work {
    const LINES: usize = 5;
    /// A prime, so that neighbours lead to lines that are none.
    const STRIDE: usize = 7_919;
    #[repr(align(64))]
    struct Line(usize);
    let line = |n: usize| Line(n * STRIDE % keys);
    let arrays: [Vec<Line>; LINES] = std::array::from_fn(|_| (0..keys).map(line).collect());
    let walk = |seed| choices(spread, keys, CHOICES, seed);
    let walks: Vec<Vec<usize>> = (0..threads as u64).map(walk).collect();
    Box::new(move |thread, pairs| {
        // The first line of a key is not read before the last one of the key before is there.
        let (nothing, mut last) = (black_box(0), 0);
        walks[thread].iter().cycle().take(pairs as usize).for_each(|&key| {
            last = arrays.iter().fold(key + (last & nothing), |at, array| array[at].0);
        });
        black_box(last);
    })
}

/// Takes some, and then gives them all back.
fn holding<S: Subject>(at_once: usize, order: Order) -> Work {
    assert!(at_once <= HELD_MAX, "{at_once} leases, of {HELD_MAX}");
    let subject = S::new(&[KEY], 2 * HELD_MAX as u64);
    Box::new(move |_, pairs| {
        let mut held = Vec::with_capacity(at_once);
        let mut left = pairs as usize;
        while left > 0 {
            let now = left.min(at_once);
            (0..now).for_each(|_| held.push(black_box(subject.get(KEY))));
            match order {
                Order::Lifo => held.drain(..).rev().for_each(|lease| subject.release(KEY, lease)),
                Order::Fifo => held.drain(..).for_each(|lease| subject.release(KEY, lease)),
            }
            left -= now;
        }
    })
}

/// The first thread gets, the second one releases.
fn handed_over<L: Send + 'static>(
    get: impl Fn() -> Option<L> + Send + Sync + 'static,
    release: impl Fn(L) + Send + Sync + 'static,
) -> Work {
    let way = ArrayQueue::new(ON_THE_WAY);
    Box::new(move |thread, count| {
        for _ in 0..count {
            if thread == 0 {
                let mut lease = get().expect(IDLE);
                let mut wait = Wait::default();
                while let Err(back) = way.push(lease) {
                    lease = back;
                    wait.a_little();
                }
            } else {
                let mut wait = Wait::default();
                release(loop {
                    match way.pop() {
                        Some(lease) => break lease,
                        None => wait.a_little(),
                    }
                });
            }
        }
    })
}

/// As [`handed_over`], for pools that give their connections away.
fn by_value<S>() -> Work
where
    S: Subject + for<'a> Subject<Lease<'a> = Connection>,
{
    let subject = Arc::new(S::new(&[KEY], 2 * ON_THE_WAY as u64));
    let back = Arc::clone(&subject);
    handed_over(move || Some(subject.get(KEY)), move |connection| back.release(KEY, connection))
}

/// Until the other thread has done something, which may have no core to do it on.
#[derive(Default)]
struct Wait(u32);

impl Wait {
    fn a_little(&mut self) {
        const SPINS: u32 = 1 << 10;
        self.0 += 1;
        if self.0 < SPINS { spin_loop() } else { thread::yield_now() }
    }
}

fn pool(keys: &[u64], idle: u64) -> Pool<u64, Connection> {
    let builder = Pool::builder().capacity(keys.len() * idle as usize).idle_timeout(IDLE_TIMEOUT);
    let pool = builder.build().expect("the settings are possible");
    filled(keys, idle, |key, connection| _ = pool.put(&key, connection).expect("there is room"));
    pool
}

/// Puts `idle` connections under each key.
pub fn filled(keys: &[u64], idle: u64, mut put: impl FnMut(u64, Connection)) {
    fill(&[keys.to_vec()], idle, |key, connection| put(*key, connection));
}

impl Subject for Pool<u64, Connection> {
    type Lease<'a> = Pooled<'a, u64, Connection>;

    fn new(keys: &[u64], idle: u64) -> Self {
        pool(keys, idle)
    }

    #[inline(always)]
    fn get(&self, key: u64) -> Self::Lease<'_> {
        Pool::get(self, &key).expect(IDLE)
    }

    #[inline(always)]
    fn release(&self, _: u64, lease: Self::Lease<'_>) {
        lease.release();
    }
}

impl Subject for Group<u64, Connection> {
    type Lease<'a> = Pooled<'a, u64, Connection>;

    fn new(keys: &[u64], idle: u64) -> Self {
        pool(keys, idle).group(&keys[0])
    }

    #[inline(always)]
    fn get(&self, _: u64) -> Self::Lease<'_> {
        Group::get(self).expect(IDLE)
    }

    #[inline(always)]
    fn release(&self, _: u64, lease: Self::Lease<'_>) {
        lease.release();
    }
}

impl Subject for ConnectionPool<Connection> {
    type Lease<'a> = Connection;

    fn new(keys: &[u64], idle: u64) -> Self {
        // It is bounded in parts: with room, so that none of them evicts.
        let connections = keys.len() * idle as usize;
        let pool = Self::new(connections + connections / 8 + SPARE);
        filled(keys, idle, |key, connection| pingora_put(&pool, key, connection));
        pool
    }

    #[inline(always)]
    fn get(&self, key: u64) -> Connection {
        self.get(&key).expect(IDLE)
    }

    #[inline(always)]
    fn release(&self, key: u64, connection: Connection) {
        pingora_put(self, key, connection);
    }
}

impl Subject for LegacyPool<u64> {
    type Lease<'a> = hyper_util::client::legacy::pool::Pooled<Exclusive, u64>;

    fn new(keys: &[u64], idle: u64) -> Self {
        let pool = legacy_pool();
        filled(keys, idle, |key, connection| legacy_put(&pool, &key, connection));
        pool
    }

    #[inline(always)]
    fn get(&self, key: u64) -> Self::Lease<'_> {
        legacy_get(self, &key)
    }

    #[inline(always)]
    fn release(&self, _: u64, lease: Self::Lease<'_>) {
        drop(lease);
    }
}

impl Subject for unmanaged::Pool<Connection> {
    type Lease<'a> = unmanaged::Object<Connection>;

    fn new(_: &[u64], idle: u64) -> Self {
        Self::from((0..idle).collect::<Vec<_>>())
    }

    #[inline(always)]
    fn get(&self, _: u64) -> Self::Lease<'_> {
        self.try_get().expect(IDLE)
    }

    #[inline(always)]
    fn release(&self, _: u64, lease: Self::Lease<'_>) {
        drop(lease);
    }
}
