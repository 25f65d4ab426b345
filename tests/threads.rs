//! Threads may come, hand each other what they have, and end.

mod common;

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;

use slabpool::{CloseReason, Pool, PooledOwned, RejectReason};

use common::{Connection, Tally};

#[test]
fn leases_travel_between_threads() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::new();
    let lease = pool.insert_owned(&1, tally.connect(1)).unwrap();
    thread::spawn(move || lease.release()).join().unwrap();
    let lease = pool.get(&1).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| lease.close());
    });
    assert_eq!(tally.alive(), 0);
    assert_eq!(pool.stats().closes[CloseReason::Unhealthy], 1);
}

#[test]
fn a_connection_inserted_by_a_thread_that_has_ended_is_as_good() {
    let pool = Pool::<u32, u32>::builder().capacity(1_000).build().unwrap();
    for id in 0..300 {
        let twin = pool.clone();
        thread::spawn(move || twin.put(&(id % 7), id).unwrap()).join().unwrap();
    }
    assert_eq!(pool.status().idle, 300);
    let mut found = 0;
    for key in 0..7 {
        while let Some(lease) = pool.get(&key) {
            assert_eq!(lease.detach() % 7, key);
            found += 1;
        }
    }
    assert_eq!(found, 300);
}

/// A thread's own data is destroyed when the slab no longer knows the thread.
#[test]
fn a_pool_works_while_its_thread_ends() {
    struct AtTheEnd(Pool<u8, Connection>, Tally, Option<PooledOwned<u8, Connection>>);

    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let Self(pool, tally, lease) = self;
            lease.take().unwrap().release();
            pool.get(&1).expect("it was just released").close();
            match pool.put(&2, tally.connect(2)) {
                Ok(token) => assert!(pool.evict(token)),
                Err(rejected) => {
                    assert!(matches!(rejected.reason, RejectReason::TooManyThreads { .. }));
                }
            }
        }
    }

    thread_local! {
        static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    }

    let (pool, tally) = (Pool::<u8, _>::new(), Tally::default());
    for register_first in [false, true] {
        let (twin, makes) = (pool.clone(), tally.clone());
        let run = move || {
            if register_first {
                LAST.set(None);
            }
            let lease = twin.insert_owned(&1, makes.connect(1)).unwrap();
            LAST.set(Some(AtTheEnd(twin, makes, Some(lease))));
        };
        thread::spawn(run).join().unwrap();
        assert_eq!(tally.alive(), 0);
        let status = pool.status();
        assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0));
    }
}

#[test]
fn a_pool_of_pools_and_a_pool_in_a_pool() {
    let tally = Tally::default();
    let inner = Pool::<u8, Connection>::new();
    inner.put(&1, tally.connect(1)).unwrap();
    let outer = Pool::<u8, Pool<u8, Connection>>::new();
    outer.put(&1, inner).unwrap();
    assert_eq!(outer.get(&1).unwrap().get(&1).unwrap().id, 1);
    drop(outer);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn the_order_is_that_of_release_on_each_thread() {
    for lanes in [1, 4] {
        let pool = Arc::new(Pool::<u8, u32>::builder().lanes(lanes).build().unwrap());
        for thread in 0..5 {
            let pool = Arc::clone(&pool);
            let run = move || {
                (0..10).for_each(|id| assert!(pool.put(&thread, id).is_ok()));
                let leases: Vec<_> = (0..10).map(|_| pool.get(&thread).unwrap()).collect();
                assert!(leases.iter().map(|lease| **lease).eq((0..10).rev()));
                leases.into_iter().for_each(|lease| lease.release());
                for id in 0..10 {
                    assert_eq!(pool.get(&thread).unwrap().detach(), id);
                }
            };
            thread::spawn(run).join().unwrap();
        }
    }
}

#[test]
fn debug_shows_what_is_useful_and_needs_nothing_of_the_connection() {
    struct Opaque;
    let pool = Pool::<u8, Opaque>::new();
    pool.put(&1, Opaque).unwrap();
    assert!(format!("{pool:?}").contains("idle: 1"), "{pool:?}");
    assert!(format!("{:?}", pool.group(&1)).contains('1'));
    let stats = pool.stats();
    assert_eq!((stats.gets(), stats.reuse_ratio()), (0, 0.0));
    drop(pool.get(&1));
    let stats = pool.stats();
    assert_eq!((stats.gets(), stats.reuse_ratio()), (1, 1.0));
    assert_eq!(format!("{:?}", stats.closes), "{Dropped: 1}");
}

/// Threads beyond what the slab is laid out for cannot insert, and can do all else.
#[test]
#[ignore = "needs ten thousand threads"]
fn more_threads_than_the_slab_has_room_for_lease_and_release() {
    const THREADS: usize = 8_300;
    let pool = Arc::new(Pool::<u8, usize>::builder().capacity(20_000).build().unwrap());
    let barrier = Arc::new(std::sync::Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|id| {
            let (pool, barrier) = (Arc::clone(&pool), Arc::clone(&barrier));
            let run = move || {
                let put = pool.put(&1, id).map_err(|rejected| rejected.reason);
                barrier.wait();
                pool.get(&1).expect("more than one for each").release();
                barrier.wait();
                put
            };
            thread::Builder::new().stack_size(64 << 10).spawn(run).unwrap()
        })
        .collect();
    (0..8_000).for_each(|id| drop(pool.put(&1, id)));
    barrier.wait();
    barrier.wait();
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let refused = results.iter().filter_map(|result| result.err());
    assert!(refused.clone().all(|reason| matches!(reason, RejectReason::TooManyThreads { .. })));
    assert!((1..THREADS).contains(&refused.count()));
}
