//! The directory while it grows.

use std::collections::HashSet;
use std::hash::Hasher;
use std::thread;

use super::*;
use crate::Pool;

fn pool<K: Hash + Eq + Send + Sync + 'static>() -> Pool<K, u32> {
    Pool::builder().capacity(100_000).build().unwrap()
}

fn keys<K: Hash + Eq + Clone>(directory: &Directory<K>) -> HashSet<K> {
    let mut keys = HashSet::new();
    directory.for_each(|group| assert!(keys.insert(K::clone(&group.key)), "a group is there once"));
    keys
}

/// Threads put and close, each its own keys, while the directory grows by several
/// levels. Nobody misses a group that is there.
#[test]
fn a_directory_that_grows_loses_no_group() {
    const THREADS: u32 = 4;
    const EACH: u32 = 3_000;
    let pool = pool::<u32>();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let pool = &pool;
            scope.spawn(move || {
                for number in 0..EACH {
                    let key = number * THREADS + thread;
                    pool.put(&key, key).unwrap();
                    let earlier = number / 2 * THREADS + thread;
                    let lease = pool.get(&earlier);
                    assert_eq!(lease.is_some(), number / 2 % 3 > 0 || number % 2 == 0);
                    match lease {
                        Some(lease) if number / 2 % 3 == 0 => lease.close(),
                        Some(lease) => lease.release(),
                        None => {}
                    }
                }
            });
        }
    });
    let directory = &pool.engine().directory;
    let left = |key: &u32| !(key / THREADS).is_multiple_of(3) || key / THREADS >= EACH / 2;
    assert_eq!(keys(directory), (0..THREADS * EACH).filter(left).collect());
    assert!(directory.above.load(Ordering::Relaxed) <= LEVELS - 3, "it has grown");
    for key in (0..THREADS * EACH).filter(left) {
        pool.get(&key).expect("it is there").close();
    }
    assert_eq!((directory.len(), keys(directory).len()), (0, 0));
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Colliding(u32);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What nothing tells apart is in one table, and the array does not grow for it.
#[test]
fn bad_hashes_make_large_tables_and_no_large_levels() {
    let pool = pool::<Colliding>();
    (0..500).for_each(|key| _ = pool.put(&Colliding(key), key).unwrap());
    let directory = &pool.engine().directory;
    assert_eq!(keys(directory).len(), 500);
    let beyond = Path::new(directory.hash(&Colliding(0))).place(LEVELS - LEVELS_AHEAD - 1);
    assert!(directory.shards.find(beyond - FIRST).is_none(), "a level too many");
    for key in 0..500 {
        pool.get(&Colliding(key)).expect("it is there").close();
    }
    assert_eq!(pool.status().groups, 0);
}
