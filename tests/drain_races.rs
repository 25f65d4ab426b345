//! What threads do while a group or the whole pool is drained comes before or after.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use slabpool::{CloseReason, Group, GroupSettings, Pool};

use common::{Connection, Tally};

/// How often something is done: less without optimisation, and a few times under Miri or Valgrind.
const fn rounds(count: usize) -> usize {
    if cfg!(any(miri, slabpool_slow)) {
        3
    } else if cfg!(debug_assertions) {
        count / 10
    } else {
        count
    }
}

const CHANGES: usize = if cfg!(any(miri, slabpool_slow)) { 20 } else { 3_000 };

/// Threads use a group in every way while another one drains and resumes it.
fn meddle(group: &Group<u8, Connection>, tally: &Tally, turn: usize) {
    match turn % 8 {
        0 | 1 => drop(group.put(tally.connect(0))),
        2 | 3 => group.insert(tally.connect(0)).into_iter().for_each(|lease| lease.release()),
        4 => group.get().into_iter().for_each(|lease| lease.release()),
        5 => group.get_if(|_| true).into_iter().for_each(|lease| lease.release()),
        6 => group.pool().retain(|_, _, _| true),
        _ => group.get().into_iter().for_each(|lease| drop(lease.detach())),
    }
}

#[test]
fn whatever_races_with_a_drain_nothing_stays_idle() {
    const ROUNDS: usize = rounds(3_000);
    for lanes in [1, 3] {
        let tally = Tally::default();
        let pool = Pool::<u8, _>::builder().lanes(lanes).idle_timeout(None).build().unwrap();
        let (group, start, end) = (pool.group(&1), Barrier::new(4), Barrier::new(4));
        thread::scope(|scope| {
            for thread in 0..3 {
                let (group, tally, start, end) = (&group, &tally, &start, &end);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        start.wait();
                        (0..8).for_each(|turn| meddle(group, tally, round + thread * 3 + turn));
                        end.wait();
                    }
                });
            }
            for round in 0..ROUNDS {
                start.wait();
                if round % 3 == 0 {
                    pool.drain_group(&1);
                    pool.resume_group(&1);
                }
                group.drain();
                assert!(group.get().is_none());
                end.wait();
                // Nobody is at work now, and no maintenance was done.
                let status = pool.status();
                assert_eq!((status.idle, status.leased, tally.alive()), (0, 0, 0));
                group.resume();
            }
        });
        let stats = pool.stats();
        assert_eq!(stats.inserts, stats.closes.total() + stats.taken);
        assert_eq!(stats.closes.total(), stats.closes[CloseReason::Drained]);
        drop(group);
        assert_eq!(pool.status().groups, 0);
    }
}

/// All of them through one handle: it alone keeps the group when the mark goes.
#[test]
fn threads_that_drain_and_resume_agree_on_who_keeps_the_group() {
    let pool = Pool::<u8, u32>::new();
    let group = pool.group(&1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| (0..CHANGES).for_each(|_| group.drain())),
            scope.spawn(|| (0..CHANGES).for_each(|_| group.resume())),
        ];
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(group.put(1));
                pool.drain_group(&1);
                pool.resume_group(&1);
            }
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        over.store(true, Ordering::Relaxed);
    });
    group.resume();
    group.clear();
    assert_eq!(pool.status().groups, 1);
    group.put(7).expect("the handle keeps the group");
    assert_eq!(pool.get(&1).unwrap().detach(), 7);
    drop(group);
    assert_eq!(pool.status().groups, 0);
}

#[test]
fn threads_that_configure_agree_on_who_keeps_the_group() {
    let pool = Pool::<u8, u32>::new();
    let group = pool.group(&1);
    thread::scope(|scope| {
        let own = GroupSettings::new().max_idle(1);
        for settings in [own, GroupSettings::new()] {
            let group = &group;
            scope.spawn(move || (0..CHANGES).for_each(|_| group.configure(settings).unwrap()));
        }
    });
    group.configure(GroupSettings::new()).unwrap();
    assert_eq!(pool.status().groups, 1);
    group.put(7).unwrap();
    assert_eq!(pool.get(&1).unwrap().detach(), 7, "the key leads to the same group");
    drop(group);
    assert_eq!(pool.status().groups, 0);
}

#[cfg(feature = "tokio")]
mod whole {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// Longer than any test takes: who waits for this has lost a wake-up.
    const LONG: Duration = Duration::from_secs(3_600);

    fn threads() -> Runtime {
        Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
    }

    /// Threads do what they like until the pool is closed, and after.
    fn meddle_with_pool(pool: &Pool<u8, Connection>, tally: &Tally, turn: usize) {
        let key = (turn % 3) as u8;
        match turn % 7 {
            0 | 1 => drop(pool.put(&key, tally.connect(0))),
            2 => pool.insert(&key, tally.connect(0)).into_iter().for_each(|lease| lease.release()),
            3 => pool.get(&key).into_iter().for_each(|lease| lease.release()),
            4 => drop(pool.get(&key)),
            5 => pool.retain(|_, _, connection| connection.id == 0),
            _ => pool.get(&key).into_iter().for_each(|lease| drop(lease.detach())),
        }
    }

    /// What a complete drain says is true at that moment, and stays true.
    #[test]
    fn a_complete_drain_is_final_whatever_races_with_it() {
        const ROUNDS: usize = super::rounds(1_500);
        let runtime = threads();
        for round in 0..ROUNDS {
            let tally = Tally::default();
            // Also with insertions that take over the permit of another connection.
            let capacity = if round % 2 == 0 { 2 } else { 100 };
            let pool = Pool::<u8, _>::builder().capacity(capacity).build().unwrap();
            let (start, mut inserts) = (Barrier::new(4), 0);
            thread::scope(|scope| {
                for thread in 0..3 {
                    let (pool, tally, start) = (&pool, &tally, &start);
                    scope.spawn(move || {
                        start.wait();
                        let mut late = 0;
                        for turn in 0..200 {
                            meddle_with_pool(pool, tally, round + thread + turn);
                            late += usize::from(pool.is_closed());
                            if late > 30 {
                                break;
                            }
                        }
                    });
                }
                start.wait();
                (0..round % 16).for_each(|_| thread::yield_now());
                let drained = runtime.block_on(async {
                    let other = tokio::spawn(pool.drain(LONG));
                    let own = pool.drain(LONG).await;
                    assert!(other.await.unwrap().is_complete());
                    own
                });
                assert!(drained.is_complete());
                let stats = pool.stats();
                assert_eq!(stats.inserts, stats.closes.total() + stats.taken);
                inserts = stats.inserts;
            });
            assert_eq!(pool.stats().inserts, inserts, "nothing came in after that");
            let status = pool.status();
            assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0));
            assert_eq!(tally.alive(), 0);
        }
    }

    /// The last permit comes free at the very time at which somebody begins to wait.
    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: usize = super::rounds(10_000);
        let runtime = threads();
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let (send, leases) = mpsc::channel::<slabpool::PooledOwned<u8, u32>>();
            let waiting = &barrier;
            scope.spawn(move || {
                for lease in leases {
                    waiting.wait();
                    lease.release();
                }
            });
            for round in 0..ROUNDS {
                let pool = Pool::<u8, u32>::new();
                send.send(pool.insert_owned(&1, 1).unwrap()).unwrap();
                let drain = pool.drain(LONG);
                barrier.wait();
                (0..round % 64).for_each(|_| std::hint::spin_loop());
                assert!(runtime.block_on(drain).is_complete());
            }
            drop(send);
        });
    }
}
