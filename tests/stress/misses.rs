//! Nothing that maintenance does hides a live connection.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use slabpool::{Clock, Pool, PutOptions};

use crate::common::SECOND;
use crate::support::rounds;

const USERS: usize = 2;

/// Says that the users are done, also when one of them fails.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Each user has put one connection into the group; so there is one idle for each
/// user that has none at the moment. `spare` ones are for whoever else wants one.
fn users_never_miss(lanes: usize, spare: usize, disturb: impl Fn(&Pool<u8, usize>, usize) + Sync) {
    let clock = Clock::manual();
    let pool = Pool::<u8, usize>::builder()
        .capacity(64)
        .lanes(lanes)
        .idle_timeout(1_000_000 * SECOND)
        .clock(&clock)
        .build()
        .unwrap();
    (0..USERS + spare).for_each(|user| assert!(pool.put(&0, user).is_ok()));
    let (users, misses) = (AtomicUsize::new(USERS), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..USERS {
            scope.spawn(|| {
                let _done = Done(&users);
                for _ in 0..rounds(1_000_000) {
                    match pool.get(&0) {
                        Some(lease) => lease.release(),
                        None => drop(misses.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
        scope.spawn(|| {
            for round in 0.. {
                disturb(&pool, round);
                if users.load(Ordering::Acquire) == 0 {
                    break;
                }
            }
        });
    });
    assert_eq!(misses.into_inner(), 0);
    pool.clear_group(&1);
    assert_eq!(pool.status().idle, USERS + spare);
}

/// Removes connections of the same group, which the users do not need, so that void
/// tickets lie between theirs and the lanes are compacted all the time.
fn litter(pool: &Pool<u8, usize>, round: usize) {
    let tokens: Vec<_> = (0..8).map_while(|id| pool.put(&0, 100 + id).ok()).collect();
    for token in tokens {
        let gone = if round.is_multiple_of(2) {
            pool.evict(token)
        } else {
            // It may be leased at the moment.
            pool.take(token).is_some() || pool.evict(token)
        };
        assert!(gone);
    }
}

fn maintain(pool: &Pool<u8, usize>, round: usize) {
    pool.maintain();
    let options = PutOptions::new().idle_timeout(SECOND);
    assert!(pool.put_with(&1, round, options).is_ok());
    pool.clear_group(&1);
    pool.invalidate_group(&1);
    pool.drain_group(&1);
    pool.resume_group(&1);
    assert!(pool.status().idle <= 64);
}

#[test]
fn while_the_pool_is_maintained() {
    users_never_miss(1, 0, maintain);
}

#[test]
fn while_the_lane_is_compacted() {
    users_never_miss(1, 0, litter);
}

#[test]
fn while_several_lanes_are_maintained_and_compacted() {
    users_never_miss(4, 0, |pool, round| {
        maintain(pool, round);
        litter(pool, round);
    });
}

/// `retain` holds one connection at a time, for as long as its closure looks at it.
#[test]
fn while_retain_looks_at_all_connections() {
    users_never_miss(1, 1, |pool, _| pool.retain(|_, meta, _| meta.reused));
    users_never_miss(4, 1, |pool, _| pool.retain(|_, meta, _| meta.reused));
}

#[test]
fn while_others_search_by_predicate() {
    users_never_miss(1, 1, |pool, _| {
        pool.get_if(&0, |meta| meta.uses % 3 == 0).into_iter().for_each(|lease| lease.release());
    });
}

/// Closing while everybody is at it: nothing stays behind.
#[test]
fn a_pool_that_is_closed_while_in_use_is_empty_afterwards() {
    for round in 0..rounds(2_000) {
        let pool = Pool::<usize, usize>::builder().capacity(8).build().unwrap();
        let go = AtomicBool::new(false);
        thread::scope(|scope| {
            for thread in 0..3 {
                let (pool, go) = (&pool, &go);
                scope.spawn(move || {
                    while !go.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    for n in 0..20 {
                        let key = (thread + n) % 2;
                        match (thread + n + round) % 4 {
                            0 => drop(pool.put(&key, n)),
                            1 => drop(pool.insert(&key, n).map(|lease| lease.release())),
                            2 => pool.get(&key).into_iter().for_each(|lease| lease.release()),
                            _ => pool.retain(|_, _, _| true),
                        }
                    }
                });
            }
            go.store(true, Ordering::Release);
            (0..round % 50).for_each(|_| std::hint::spin_loop());
            pool.close();
        });
        let status = pool.status();
        assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0), "round {round}");
    }
}
