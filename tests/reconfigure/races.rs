//! Threads that change settings while others use the pool.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use slabpool::{GroupSettings, Pool};

use crate::common::NANOSECOND;

/// How often something is done: less without optimisation.
const fn rounds(count: usize) -> usize {
    if cfg!(debug_assertions) { count / 10 } else { count }
}

#[test]
fn no_change_is_lost_among_threads() {
    let pool = Pool::<u8, u8>::builder().capacity(0).idle_timeout(None).build().unwrap();
    let count = rounds(10_000);
    thread::scope(|scope| {
        for thread in 0..4_u8 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..count {
                    pool.reconfigure(|settings| {
                        settings.capacity += 1;
                        settings.probe_after += NANOSECOND;
                    })
                    .unwrap();
                    let own = GroupSettings::new().max_idle(round);
                    pool.group(&thread).configure(own).unwrap();
                }
            });
        }
    });
    let settings = pool.settings();
    assert_eq!((settings.capacity, pool.status().capacity), (4 * count, 4 * count));
    assert_eq!(settings.probe_after, Duration::from_nanos(4 * count as u64));
    for thread in 0..4 {
        let group = pool.group(&thread);
        (0..count).for_each(|_| {
            let _ = group.put(0);
        });
        assert_eq!(group.status().idle, count - 1, "the last settings hold");
        group.configure(GroupSettings::new()).unwrap();
    }
    pool.clear();
    assert_eq!(pool.status().groups, 0);
}

/// Groups come and go while the cap changes: none is left with one that was.
#[test]
fn groups_that_come_into_being_have_the_settings_in_force() {
    let pool = Pool::<usize, usize>::builder().max_idle_per_group(1).build().unwrap();
    for round in 0..rounds(2_000) {
        let cap = 1 + round % 3;
        thread::scope(|scope| {
            scope.spawn(|| {
                pool.reconfigure(|settings| settings.max_idle_per_group = cap).unwrap();
            });
            for key in 0..3 {
                drop(pool.put(&key, 0));
            }
        });
        for key in 0..3 {
            while pool.put(&key, 0).is_ok() {}
            assert_eq!(pool.group_status(&key).idle, cap);
        }
        pool.clear();
    }
}

const HIGH: usize = 6;
const LOW: usize = 2;
const THREADS: usize = 3;
const LEASES: usize = 2;

/// What the threads know of each other while the capacity goes up and down.
#[derive(Default)]
struct Board {
    /// Each lease that is held, by a number of its own; 0 where there is none.
    held: [[AtomicUsize; LEASES]; THREADS],
    /// Even while the low capacity is in force for certain.
    phase: AtomicUsize,
    done: AtomicUsize,
}

impl Board {
    fn read(&self) -> (usize, Vec<usize>) {
        let phase = self.phase.load(Ordering::SeqCst);
        (phase, self.held.iter().flatten().map(|slot| slot.load(Ordering::SeqCst)).collect())
    }

    /// Inserts. Whatever was held before and still is was in the pool all the while, and
    /// so was the new one at the end: no more than the highest capacity in force.
    fn check<R, E>(&self, insert: impl FnOnce() -> Result<R, E>) -> Option<R> {
        let (phase, before) = self.read();
        let inserted = insert().ok()?;
        let held = self.held.iter().flatten().zip(&before);
        let lasting =
            held.filter(|(slot, was)| **was != 0 && slot.load(Ordering::SeqCst) == **was).count();
        let low = phase.is_multiple_of(2) && self.phase.load(Ordering::SeqCst) == phase;
        let capacity = if low { LOW } else { HIGH };
        assert!(lasting < capacity, "{lasting} and one more for a capacity of {capacity}");
        Some(inserted)
    }
}

/// Inserts, gets, releases and closes, with up to [`LEASES`] leases at a time.
fn use_it(pool: &Pool<u8, usize>, board: &Board, thread: usize) {
    let mut leases: [_; LEASES] = std::array::from_fn(|_| None);
    for round in 0..rounds(150_000) {
        let (key, at) = ((round % 2) as u8, round / 3 % LEASES);
        let slot = &board.held[thread][at];
        if let Some(lease) = leases[at].take() {
            slot.store(0, Ordering::SeqCst);
            let lease: slabpool::Pooled<'_, u8, usize> = lease;
            if round % 7 == 0 { lease.close() } else { lease.release() }
        }
        if round % 5 == 0 {
            board.check(|| pool.put(&key, round));
            continue;
        }
        leases[at] = match pool.get(&key).filter(|_| round % 3 > 0) {
            Some(lease) => Some(lease),
            None => board.check(|| pool.insert(&key, round)),
        };
        if leases[at].is_some() {
            slot.store(round + 1, Ordering::SeqCst);
        }
    }
    for slot in &board.held[thread] {
        slot.store(0, Ordering::SeqCst);
    }
    leases.into_iter().flatten().for_each(|lease| lease.release());
    board.done.fetch_add(1, Ordering::SeqCst);
}

/// The capacity goes up and down as fast as it can while threads use the pool.
#[test]
fn the_bound_holds_while_the_capacity_goes_up_and_down() {
    let pool = Pool::<u8, usize>::builder().capacity(LOW).idle_timeout(None).build().unwrap();
    let board = Board::default();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, board) = (&pool, &board);
            scope.spawn(move || use_it(pool, board, thread));
        }
        while board.done.load(Ordering::SeqCst) < THREADS {
            pool.maintain();
            board.phase.fetch_add(1, Ordering::SeqCst);
            pool.reconfigure(|settings| settings.capacity = HIGH).unwrap();
            thread::yield_now();
            pool.reconfigure(|settings| settings.capacity = LOW).unwrap();
            board.phase.fetch_add(1, Ordering::SeqCst);
        }
    });
    pool.reconfigure(|settings| settings.capacity = LOW).unwrap();
    let status = pool.status();
    assert!(status.idle <= LOW && status.leased == 0, "{status:?}");
    pool.reconfigure(|settings| settings.capacity = 0).unwrap();
    assert_eq!((pool.status().idle, pool.status().groups), (0, 0));
    let stats = pool.stats();
    assert_eq!(stats.inserts, stats.closes.total());
}
