//! `on_close` is told everything once, and user code may do what it likes: use the
//! pool, panic, both.

mod common;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once};
use std::thread;

use slabpool::{
    Builder, Clock, CloseReason, GroupSettings, Liveness, ManualClock, Pool, PutOptions,
};

use common::{Connection, Journal, SECOND, Tally};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs what is to panic, without a word about that, and returns the message.
fn quietly<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(before);
    result.map_err(|panic| match panic.downcast::<&str>() {
        Ok(message) => (*message).to_owned(),
        Err(other) => *other.downcast::<String>().expect("a panic with a message"),
    })
}

/// With some limit of each kind. Of its connections, number 1 is dead and number 2 chatty.
fn pool_with_limits(clock: &ManualClock, journal: &Journal<u8>) -> Pool<u8, Connection> {
    Pool::builder()
        .capacity(3)
        .max_uses(9)
        .max_lifetime(50 * SECOND)
        .lifetime_jitter(0.0)
        .clock(clock)
        .probe(|connection: &mut Connection| match connection.id {
            1 => Liveness::Closed,
            2 => Liveness::UnexpectedData,
            _ => Liveness::Alive,
        })
        .on_close(journal.hook())
        .build()
        .unwrap()
}

#[test]
fn every_reason_is_told_once_with_its_key() {
    let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
    let pool = pool_with_limits(&clock, &journal);
    let told = |key: u8, reason: CloseReason| {
        let told: Vec<_> = journal.read().into_iter().map(|(key, _, why)| (key, why)).collect();
        assert_eq!(told, [(key, reason)]);
    };
    let put = |key: u8| pool.put(&key, tally.connect(0)).unwrap();
    put(1);
    clock.advance(30 * SECOND);
    assert_eq!(pool.maintain(), 1);
    told(1, CloseReason::Idle);
    let leased = pool.insert(&2, tally.connect(0)).unwrap();
    clock.advance(50 * SECOND);
    leased.release();
    told(2, CloseReason::Lifetime);
    put(3);
    (0..9).for_each(|_| pool.get(&3).unwrap().release());
    told(3, CloseReason::Uses);
    for key in 4..8 {
        put(key);
    }
    told(4, CloseReason::Evicted);
    pool.clear_group(&5);
    told(5, CloseReason::Cleared);
    drop(pool.get(&6).unwrap());
    told(6, CloseReason::Dropped);
    pool.get(&7).unwrap().close();
    told(7, CloseReason::Unhealthy);
    let token = put(8);
    assert!(pool.evict(token));
    told(8, CloseReason::Removed);
    put(9);
    pool.invalidate();
    assert!(pool.get(&9).is_none());
    told(9, CloseReason::Invalidated);
    pool.put(&11, tally.connect(1)).unwrap();
    assert!(pool.get(&11).is_none());
    told(11, CloseReason::Dead);
    pool.put(&12, tally.connect(2)).unwrap();
    assert!(pool.get(&12).is_none());
    told(12, CloseReason::UnexpectedData);
    pool.reconfigure(|settings| settings.trim_window = Some(10 * SECOND)).unwrap();
    put(13);
    for _ in 0..2 {
        clock.advance(10 * SECOND);
        pool.maintain();
    }
    told(13, CloseReason::Trimmed);
    pool.reconfigure(|settings| settings.trim_window = None).unwrap();
    let leases = [0, 1].map(|_| pool.insert(&10, tally.connect(0)).unwrap());
    pool.group(&10).configure(GroupSettings::new().max_idle(1)).unwrap();
    leases.into_iter().for_each(|lease| lease.release());
    told(10, CloseReason::GroupFull);
    pool.drain_group(&10);
    told(10, CloseReason::Drained);
    put(11);
    pool.close();
    told(11, CloseReason::Closed);
    for reason in CloseReason::ALL {
        assert_eq!(pool.stats().closes[reason], 1, "{reason}");
    }
    assert_eq!(tally.alive(), 0);
}

#[test]
fn what_leaves_alive_is_not_told() {
    let journal = Journal::new();
    let pool = Pool::<u8, u32>::builder().on_close(journal.hook_plain()).build().unwrap();
    let token = pool.put(&1, 1).unwrap();
    assert_eq!(pool.take(token), Some(1));
    assert_eq!(pool.insert(&1, 2).unwrap().detach(), 2);
    assert_eq!(pool.insert_owned(&1, 3).unwrap().detach(), 3);
    assert!(journal.read().is_empty());
    assert_eq!(pool.stats().taken, 3);
}

#[test]
fn a_dropped_lease_is_released_if_so_wished() {
    let pool = Pool::<u8, u32>::builder().release_on_drop(true).build().unwrap();
    drop(pool.insert(&1, 1).unwrap());
    drop(pool.get_owned(&1).unwrap());
    assert_eq!(*pool.get(&1).unwrap(), 1);
    pool.get(&1).unwrap().close();
    assert!(pool.get(&1).is_none(), "close is not drop");
}

/// Does with each pool what closes some connections, some of which are of key 0.
fn close_in_every_way(pool: &Pool<u8, Connection>, clock: &slabpool::ManualClock, tally: &Tally) {
    let put = |key: u8| pool.put(&key, tally.connect(u32::from(key))).unwrap();
    let hurried = |key: u8| {
        let options = PutOptions::new().idle_timeout(SECOND);
        pool.put_with(&key, tally.connect(u32::from(key)), options).unwrap()
    };
    for round in 0..8 {
        for key in 0..4 {
            put(key);
        }
        match round {
            0 => pool.clear(),
            1 => pool.clear_group(&0),
            2 => pool.retain(|_, _, _| false),
            3 => {
                hurried(0);
                clock.advance(SECOND);
                assert!(pool.maintain() >= 1);
            }
            4 => {
                pool.invalidate();
                pool.maintain();
            }
            5 => assert!(pool.evict(put(0))),
            6 => drop((pool.get(&0), pool.insert(&0, tally.connect(0)))),
            // A hook that uses the pool may have been faster.
            _ => (0..4).filter_map(|key| pool.get(&key)).for_each(|lease| lease.close()),
        }
    }
    for _ in 0..20 {
        for key in 0..4 {
            put(key);
        }
    }
}

fn small(clock: &slabpool::ManualClock) -> Builder<u8, Connection> {
    Pool::builder().capacity(12).idle_timeout(60 * SECOND).clock(clock)
}

#[test]
fn a_hook_that_panics_costs_nothing_but_a_count() {
    let (clock, tally, journal) = (Clock::manual(), Tally::default(), Journal::new());
    let notes = journal.clone();
    let builder = small(&clock).on_close(move |key, connection: Connection, reason| {
        notes.write(key, connection.id, reason);
        assert_ne!(*key, 0, "a hook that panics");
    });
    let pool = builder.build().unwrap();
    quietly(|| close_in_every_way(&pool, &clock, &tally)).unwrap();
    pool.close();
    let told = journal.read();
    assert_eq!(tally.alive(), 0);
    assert_eq!(told.len(), tally.made());
    assert_eq!(pool.stats().panics as usize, told.iter().filter(|(key, ..)| *key == 0).count());
    assert_eq!((pool.status().idle, pool.status().groups), (0, 0));
}

#[derive(Debug)]
struct Bomb(Connection);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert_ne!(self.0.id % 2, 0, "a connection that panics");
    }
}

#[test]
fn a_destructor_that_panics_costs_nothing_but_a_count() {
    let tally = Tally::default();
    let pool = Pool::<u8, Bomb>::builder().capacity(4).build().unwrap();
    quietly(|| {
        for id in 0..10 {
            pool.put(&(id as u8 % 3), Bomb(tally.connect(id))).unwrap();
        }
        pool.get(&0).unwrap().close();
        drop(pool.get(&1).unwrap());
        pool.clear();
        thread::scope(|scope| {
            scope.spawn(|| {
                quietly(|| (0..10).for_each(|id| drop(pool.put(&1, Bomb(tally.connect(id))))))
            });
        });
        pool.clear();
    })
    .unwrap();
    assert_eq!(pool.stats().panics, 10, "half of them");
    assert_eq!(tally.alive(), 0);
    let status = pool.status();
    assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0));
    // All of the capacity is there.
    let _leases = [1, 3, 5, 7].map(|id| pool.insert(&9, Bomb(tally.connect(id))).unwrap());
    assert!(pool.insert(&9, Bomb(tally.connect(1))).is_err());
}

#[test]
fn a_panicking_hook_while_a_panic_unwinds_does_not_abort() {
    let tally = Tally::default();
    let builder = Pool::<u8, _>::builder().on_close(|_, _, _| panic!("of the hook"));
    let pool = builder.build().unwrap();
    let message = quietly(|| {
        let _borrowed = pool.insert(&1, tally.connect(1)).unwrap();
        let _owned = pool.insert_owned(&1, tally.connect(2)).unwrap();
        panic!("of the user");
    });
    assert_eq!(message.unwrap_err(), "of the user");
    assert_eq!((pool.stats().panics, tally.alive()), (2, 0));
    assert_eq!((pool.status().leased, pool.status().groups), (0, 0));
}

#[test]
fn a_predicate_that_panics_loses_nothing() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::builder().build().unwrap();
    let tokens: Vec<_> = (0..3).map(|id| pool.put(&1, tally.connect(id)).unwrap()).collect();
    let message = quietly(|| pool.retain(|_, _, _| panic!("of retain")));
    assert_eq!(message.unwrap_err(), "of retain");
    let message = quietly(|| pool.get_if(&1, |_| panic!("of get_if")).is_some());
    assert_eq!(message.unwrap_err(), "of get_if");
    assert_eq!((pool.status().idle, tally.alive()), (3, 3));
    assert_eq!(pool.get(&1).unwrap().token(), tokens[2]);
    let rest = pool.status();
    assert_eq!((rest.idle, rest.leased), (2, 0), "the lease was dropped");
    pool.retain(|_, _, _| false);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn settings_that_panic_lose_no_capacity() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::builder()
        .capacity(1)
        .group_settings(
            |key| if *key == 1 { panic!("of the settings") } else { Default::default() },
        )
        .build()
        .unwrap();
    for _ in 0..3 {
        let message = quietly(|| pool.put(&1, tally.connect(1)).is_ok());
        assert_eq!(message.unwrap_err(), "of the settings");
        assert!(quietly(|| pool.group(&1)).is_err());
    }
    assert_eq!((tally.alive(), pool.status().groups), (0, 0));
    pool.put(&2, tally.connect(2)).unwrap();
    assert_eq!(pool.get(&2).unwrap().id, 2);
}

/// A pool for hooks and connections that use it; empty it to break the circle.
type Shared = Arc<Mutex<Option<Pool<u8, Connection>>>>;

/// Everything that a hook might do with its pool.
fn meddle(pool: &Pool<u8, Connection>, tally: &Tally) {
    if let Some(lease) = pool.get(&2) {
        lease.release();
    }
    drop(pool.get_if(&3, |_| false));
    pool.maintain();
    pool.retain(|_, _, _| true);
    pool.clear_group(&3);
    if let Ok(token) = pool.put(&3, tally.connect(3)) {
        pool.evict(token);
    }
    assert!(pool.status().idle <= 12 && pool.stats().panics == 0);
    drop(pool.group(&4));
}

#[test]
fn a_hook_may_use_its_pool() {
    let (clock, tally, shared) = (Clock::manual(), Tally::default(), Shared::default());
    let (own, makes) = (Arc::clone(&shared), tally.clone());
    let depth = Mutex::new(0);
    let builder = small(&clock).on_close(move |_, _, _| {
        let pool = own.lock().unwrap().clone();
        let deep = std::mem::replace(&mut *depth.lock().unwrap(), 1) == 1;
        if let (Some(pool), false) = (pool, deep) {
            meddle(&pool, &makes);
            *depth.lock().unwrap() = 0;
        }
    });
    let pool = builder.build().unwrap();
    *shared.lock().unwrap() = Some(pool.clone());
    (0..3).for_each(|_| close_in_every_way(&pool, &clock, &tally));
    *shared.lock().unwrap() = None;
    assert_eq!(pool.stats().panics, 0);
    pool.close();
    drop(pool);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn predicates_may_use_their_pool() {
    let (tally, pool) = (Tally::default(), Pool::<u8, _>::new());
    let tokens: Vec<_> = (0..6).map(|id| pool.put(&1, tally.connect(id)).unwrap()).collect();
    let mut seen = 0;
    pool.retain(|_, _, connection| {
        seen += 1;
        assert!(pool.take(tokens[connection.id as usize]).is_none(), "it is being looked at");
        match connection.id {
            0 => assert!(pool.evict(tokens[0])),
            1 => pool.clear(),
            2 => pool.retain(|_, _, other| other.id != 3),
            _ => {}
        }
        true
    });
    // 0 was evicted while it was looked at; 1 was, so that the clearing passed it by.
    assert_eq!(seen, 2);
    assert_eq!(pool.get(&1).unwrap().detach().id, 1);
    assert_eq!(tally.alive(), 0);
    pool.put(&1, tally.connect(0)).unwrap();
    let found = pool.get_if(&1, |_| {
        pool.get(&1).unwrap().release();
        true
    });
    assert!(found.is_none_or(|lease| lease.id == 0));
}
