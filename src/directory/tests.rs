//! The directory while it grows.

use std::collections::HashSet;
use std::hash::Hasher;
use std::thread;
use std::time::Duration;

use super::*;
use crate::stats::GroupStats;
use crate::{GroupSettings, Pool};

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
    assert!(directory.index.doors() >= 8_192, "it has grown");
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

/// What nothing tells apart stands in a row, and is compared by `Eq`.
#[test]
fn bad_hashes_make_long_ways_and_no_mistakes() {
    let pool = pool::<Colliding>();
    (0..500).for_each(|key| _ = pool.put(&Colliding(key), key).unwrap());
    let directory = &pool.engine().directory;
    assert_eq!(keys(directory).len(), 500);
    assert!(directory.index.doors() <= 1_024, "more doors than there are groups");
    for key in 0..500 {
        pool.get(&Colliding(key)).expect("it is there").close();
    }
    assert_eq!(pool.status().groups, 0);
}

/// A key that says when it is dropped.
#[derive(Clone, Debug)]
struct Counted(u32, #[expect(dead_code, reason = "counts itself")] Arc<()>);

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A thread keeps some groups that have gone, and their keys, and no more than that.
#[test]
fn the_keys_of_groups_that_have_gone_are_few() {
    let pool = pool::<Counted>();
    let key = Arc::new(());
    let keys = || Arc::strong_count(&key) - 1;
    let put = |number| pool.put(&Counted(number, Arc::clone(&key)), number).unwrap();
    let tokens: Vec<_> = (0..5_000).map(put).collect();
    assert_eq!(keys(), 5_000);
    tokens.into_iter().for_each(|token| assert!(pool.evict(token)));
    assert_eq!((pool.status().groups, pool.status().idle), (0, 0));
    assert!(keys() <= (LIMBO_MAX + SPARES_MAX) as usize + 1, "{} keys are kept", keys());
    for number in 0..5_000 {
        assert!(pool.evict(put(number)));
        assert!(keys() <= (LIMBO_MAX + SPARES_MAX) as usize + 1, "{} keys are kept", keys());
    }
    drop(pool);
    assert_eq!(Arc::strong_count(&key), 1);
}

/// A group that is used again is as a new one.
#[test]
fn nothing_is_left_of_a_group_that_has_gone() {
    let pool = pool::<u32>();
    let own = GroupSettings::new().idle_timeout(Some(Duration::from_secs(7)));
    for round in 0..200 {
        let group = pool.group(&round);
        assert_eq!(group.idle_timeout(), Some(Duration::from_secs(30)), "{round}");
        assert_eq!((group.key(), group.stats()), (&round, GroupStats::default()));
        if round % 3 == 0 {
            group.configure(own).unwrap();
            group.put(round).unwrap();
            assert_eq!(group.idle_timeout(), Some(Duration::from_secs(7)));
            group.clear();
            group.configure(GroupSettings::new()).unwrap();
        }
        if round == 100 {
            pool.reconfigure(|settings| settings.max_uses = 1).unwrap();
        }
        let lease = group.insert(round).unwrap();
        lease.release();
        assert_eq!(group.get().is_some(), round < 100, "{round}");
    }
    assert_eq!(pool.status().groups, 0);
}

/// Threads that make, find and close the same few groups.
#[test]
fn groups_that_come_and_go_are_found_while_they_are_there() {
    let pool = pool::<u32>();
    (0..8).for_each(|key| _ = pool.put(&(1_000 + key), key).unwrap());
    thread::scope(|scope| {
        for thread in 0..4_u32 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..4_000 {
                    let key = (round * 7 + thread) % 5;
                    match pool.get(&key) {
                        Some(lease) => assert_eq!(*lease, key),
                        None => drop(pool.insert(&key, key).unwrap()),
                    }
                    let stays = 1_000 + 2 * thread + round % 2;
                    pool.get(&stays).expect("it is there all the time").release();
                }
            });
        }
    });
    assert_eq!(pool.status().groups, 8);
}
