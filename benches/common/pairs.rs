//! Contenders at the pair: one idle connection is taken, looked at, and given back.
//!
//! A contender without keys has one queue for each group. One with keys is a single
//! pool of all groups. No group ever runs empty, which would cost pingora-pool its
//! node in the map each time.

use std::collections::HashMap;
use std::hash::Hash;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use crossbeam_queue::{ArrayQueue, SegQueue};
use crossbeam_utils::CachePadded;
use deadpool::unmanaged;
use parking_lot::Mutex;
use pingora_pool::{ConnectionMeta, ConnectionPool};

use super::{Connection, Contender, Grouped, IDLE, Work, peers, pool};

/// Idle connections in a group that is used alone.
pub const IDLE_PER_GROUP: u64 = 8;

/// Groups, where there are many, and idle connections in each.
const KEYS: usize = 1_000;
const IDLE_PER_KEY: u64 = 2;

/// More than is ever idle, so that nobody evicts.
const CAPACITY: usize = 4_096;

/// The queues get less, to stay in the fastest cache.
const QUEUE_CAPACITY: usize = 64;

/// Thread `n` uses group `n % groups`.
pub const BY_GROUP: [Grouped; 14] = [
    ("slabpool, handle", |groups| slabpool_handle(groups, None)),
    ("slabpool, key", |groups| slabpool_keyed(numbers(groups, 1), IDLE_PER_GROUP)),
    ("pingora-pool", |groups| pingora(numbers(groups, 1), IDLE_PER_GROUP)),
    ("deadpool, unmanaged", deadpool_unmanaged),
    ("Mutex<Vec>", mutex_vec),
    ("Mutex<HashMap<u64, Vec>>", |groups| mutex_map(numbers(groups, 1), IDLE_PER_GROUP)),
    ("DashMap<u64, Mutex<Vec>>", |groups| peers::dash_map(numbers(groups, 1), IDLE_PER_GROUP)),
    ("hyper-util, legacy", |groups| peers::legacy(numbers(groups, 1), IDLE_PER_GROUP)),
    ("sharded-slab", peers::sharded_slab),
    ("ArrayQueue", array_queue),
    ("SegQueue", seg_queue),
    ("ArcSwap and ahash lookup", |groups| peers::lookup(numbers(groups, 1))),
    ("one fetch_add", fetch_add),
    ("nothing shared", nothing_shared),
];

/// One thread that goes through 1,000 groups whose keys are numbers.
pub const BY_NUMBER: [Contender; 6] = [
    ("slabpool", slabpool_by_number),
    ("pingora-pool", pingora_by_number),
    ("Mutex<HashMap<u64, Vec>>", || mutex_map(numbers(1, KEYS), IDLE_PER_KEY)),
    ("DashMap<u64, Mutex<Vec>>", || peers::dash_map(numbers(1, KEYS), IDLE_PER_KEY)),
    ("hyper-util, legacy", || peers::legacy(numbers(1, KEYS), IDLE_PER_KEY)),
    ("ArcSwap and ahash lookup", || peers::lookup(numbers(1, KEYS))),
];

/// The same, with the keys that a proxy has.
pub const BY_PEER: [Contender; 6] = [
    ("slabpool", slabpool_by_peer),
    ("pingora-pool", || pingora_hashing(peers(KEYS), IDLE_PER_KEY)),
    ("Mutex<HashMap<Peer, Vec>>", || mutex_map(peers(KEYS), IDLE_PER_KEY)),
    ("DashMap<Peer, Mutex<Vec>>", || peers::dash_map(peers(KEYS), IDLE_PER_KEY)),
    ("hyper-util, legacy", || peers::legacy(peers(KEYS), IDLE_PER_KEY)),
    ("ArcSwap and ahash lookup", || peers::lookup(peers(KEYS))),
];

/// What a proxy that speaks TLS keys its connections by. About 60 bytes are hashed
/// and compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    address: SocketAddr,
    server_name: String,
    client_certificate: u64,
    alternative_name: u64,
    verify: bool,
}

/// A handle to a group, of so many lanes or as many as come by themselves.
pub fn slabpool_handle(groups: usize, lanes: Option<usize>) -> Work {
    let builder = slabpool::Pool::builder().capacity(CAPACITY);
    let builder = lanes.into_iter().fold(builder, |builder, lanes| builder.lanes(lanes));
    let pool = builder.build().expect("the settings are possible");
    let new = |key: usize| {
        let group = pool.group(&key);
        for connection in 0..IDLE_PER_GROUP {
            group.put(connection).expect("there is room");
        }
        group
    };
    let work = unkeyed(groups, new, |group| {
        let lease = group.get().expect(IDLE);
        black_box(*lease);
        lease.release();
    });
    maintained(pool, work)
}

/// With a piece of maintenance in each turn, as a reaper does it: lanes come by that.
fn maintained<K: Hash + Eq + Send + Sync + 'static>(
    pool: slabpool::Pool<K, Connection>,
    work: Work,
) -> Work {
    Box::new(move |thread, pairs| {
        if thread == 0 {
            pool.maintain();
        }
        work(thread, pairs);
    })
}

/// A lookup among 1,000 numbers for each pair.
pub fn slabpool_by_number() -> Work {
    slabpool_keyed(numbers(1, KEYS), IDLE_PER_KEY)
}

/// A lookup among 1,000 peers for each pair.
pub fn slabpool_by_peer() -> Work {
    slabpool_keyed(peers(KEYS), IDLE_PER_KEY)
}

fn slabpool_keyed<K>(lists: Vec<Vec<K>>, idle: u64) -> Work
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    let pool = pool::<K>(CAPACITY);
    fill(&lists, idle, |key, connection| {
        pool.put(key, connection).expect("there is room");
    });
    let user = pool.clone();
    let work = keyed(lists, move |key| {
        let lease = user.get(key).expect(IDLE);
        black_box(*lease);
        lease.release();
    });
    maintained(pool, work)
}

/// As [`slabpool_by_number`].
pub fn pingora_by_number() -> Work {
    pingora(numbers(1, KEYS), IDLE_PER_KEY)
}

/// `get` and `put`, without the task that watches each idle connection in Pingora.
fn pingora(lists: Vec<Vec<u64>>, idle: u64) -> Work {
    let pool = ConnectionPool::new(CAPACITY);
    fill(&lists, idle, |key, connection| pingora_put(&pool, *key, connection));
    keyed(lists, move |key| {
        let connection = black_box(pool.get(key).expect(IDLE));
        pingora_put(&pool, *key, connection);
    })
}

/// The same with the key that its users really have: it wants the hash of it.
fn pingora_hashing(lists: Vec<Vec<Peer>>, idle: u64) -> Work {
    let pool = ConnectionPool::new(CAPACITY);
    let hasher = RandomState::new();
    fill(&lists, idle, |key, connection| pingora_put(&pool, hasher.hash_one(key), connection));
    keyed(lists, move |key| {
        let key = hasher.hash_one(key);
        let connection = black_box(pool.get(&key).expect(IDLE));
        pingora_put(&pool, key, connection);
    })
}

/// Puts a connection, and lets go of what its watcher would wait for.
#[inline(always)]
pub fn pingora_put(pool: &ConnectionPool<Connection>, key: u64, connection: Connection) {
    drop(pool.put(&ConnectionMeta::new(key, connection as i32), connection));
}

fn deadpool_unmanaged(groups: usize) -> Work {
    let new = |_| unmanaged::Pool::from((0..IDLE_PER_GROUP).collect::<Vec<Connection>>());
    unkeyed(groups, new, |pool| {
        let object = pool.try_get().expect(IDLE);
        black_box(*object);
    })
}

fn mutex_vec(groups: usize) -> Work {
    let new = |_| Mutex::new((0..IDLE_PER_GROUP).collect::<Vec<Connection>>());
    unkeyed(groups, new, |stack| {
        let connection = black_box(stack.lock().pop().expect(IDLE));
        stack.lock().push(connection);
    })
}

/// With the hash function that slabpool uses.
fn mutex_map<K: Hash + Eq + Clone + Send + Sync + 'static>(lists: Vec<Vec<K>>, idle: u64) -> Work {
    let map = Mutex::new(HashMap::<K, Vec<Connection>, RandomState>::default());
    fill(&lists, idle, |key, connection| {
        map.lock().entry(key.clone()).or_default().push(connection);
    });
    keyed(lists, move |key| {
        let taken = map.lock().get_mut(key).and_then(Vec::pop);
        let connection = black_box(taken.expect(IDLE));
        map.lock().get_mut(key).expect("no key goes").push(connection);
    })
}

/// The bounded queue of crossbeam.
pub fn array_queue(groups: usize) -> Work {
    let new = |_| {
        let queue = ArrayQueue::new(QUEUE_CAPACITY);
        (0..IDLE_PER_GROUP).for_each(|connection| queue.push(connection).expect("there is room"));
        queue
    };
    unkeyed(groups, new, |queue: &ArrayQueue<Connection>| {
        let connection = black_box(queue.pop().expect(IDLE));
        queue.push(connection).expect("there is room");
    })
}

fn seg_queue(groups: usize) -> Work {
    let new = |_| {
        let queue = SegQueue::new();
        (0..IDLE_PER_GROUP).for_each(|connection| queue.push(connection));
        queue
    };
    unkeyed(groups, new, |queue: &SegQueue<Connection>| {
        let connection = black_box(queue.pop().expect(IDLE));
        queue.push(connection);
    })
}

/// The least that anything shared costs.
fn fetch_add(groups: usize) -> Work {
    unkeyed(
        groups,
        |_| AtomicU64::new(0),
        |word| {
            black_box(word.fetch_add(1, Ordering::AcqRel));
        },
    )
}

/// Some work in registers. On two idle cores, two threads do twice what one does.
pub fn nothing_shared(groups: usize) -> Work {
    unkeyed(groups, |_| (), |()| (0..16_u64).for_each(|n| _ = black_box(n)))
}

/// `groups` lists of `each` keys, all different, and spread like the hashes that
/// pingora-pool is given.
fn numbers(groups: usize, each: usize) -> Vec<Vec<u64>> {
    let key = |n: usize| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..groups).map(|group| (0..each).map(|n| key(group * each + n)).collect()).collect()
}

/// One list of keys. Half of the servers share an address.
fn peers(keys: usize) -> Vec<Vec<Peer>> {
    let peer = |n: usize| Peer {
        address: SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + n as u32 / 2), 443)),
        server_name: format!("{n:05}.eu-west-1.example.com"),
        client_certificate: 0,
        alternative_name: 0,
        verify: true,
    };
    vec![(0..keys).map(peer).collect()]
}

/// Puts `idle` connections under each key, numbered throughout.
pub fn fill<K>(lists: &[Vec<K>], idle: u64, mut put: impl FnMut(&K, Connection)) {
    let places = lists.iter().flatten().flat_map(|key| (0..idle).map(move |_| key));
    for (key, connection) in places.zip(0..) {
        put(key, connection);
    }
}

/// A queue for each group, and one of them for each thread.
fn unkeyed<Q: Send + Sync + 'static>(
    groups: usize,
    new: impl Fn(usize) -> Q,
    pair: impl Fn(&Q) + Send + Sync + 'static,
) -> Work {
    let queues: Vec<_> = (0..groups).map(|group| CachePadded::new(new(group))).collect();
    Box::new(move |thread, pairs| {
        let queue = &*queues[thread % queues.len()];
        for _ in 0..pairs {
            pair(queue);
        }
    })
}

/// A list of keys for each thread, which it goes through again and again, in another
/// order than that in which they were put.
pub fn keyed<K: Clone + Send + Sync + 'static>(
    lists: Vec<Vec<K>>,
    pair: impl Fn(&K) + Send + Sync + 'static,
) -> Work {
    /// A prime that divides no length in use.
    const STRIDE: usize = 389;
    let walk = |list: Vec<K>| -> Vec<K> {
        (0..list.len()).map(|n| list[n * STRIDE % list.len()].clone()).collect()
    };
    let lists: Vec<_> = lists.into_iter().map(walk).collect();
    Box::new(move |thread, pairs| {
        let keys = &lists[thread % lists.len()];
        let mut left = pairs as usize;
        while left > 0 {
            let now = left.min(keys.len());
            keys[..now].iter().for_each(&pair);
            left -= now;
        }
    })
}
