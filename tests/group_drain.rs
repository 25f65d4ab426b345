//! A group that drains gives nothing, takes nothing and keeps nothing, until it is
//! resumed.

mod common;

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use slabpool::{Builder, CloseReason, GroupSettings, Miss, Pool, RejectReason};

use common::{Connection, Journal, Tally};

/// A pool for hooks that use it; empty it to break the circle.
type Shared = Arc<Mutex<Option<Pool<u8, u32>>>>;

/// A pool whose first close does something with the pool.
fn with_hook(
    builder: Builder<u8, u32>,
    act: impl Fn(&Pool<u8, u32>) + Send + Sync + 'static,
) -> (Pool<u8, u32>, Journal<u8>) {
    let (shared, journal) = (Shared::default(), Journal::new());
    let (own, notes) = (Arc::clone(&shared), journal.clone());
    let build = builder.on_close(move |key, id, reason| {
        notes.write(key, id, reason);
        let pool = own.lock().unwrap().take();
        if let Some(pool) = pool {
            act(&pool);
        }
    });
    let pool = build.build().unwrap();
    *shared.lock().unwrap() = Some(pool.clone());
    (pool, journal)
}

#[test]
fn what_is_idle_goes_at_once_and_what_is_leased_on_release() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    for id in 0..4 {
        pool.put(&1, tally.connect(id)).unwrap();
    }
    let neighbour = pool.put(&2, tally.connect(9)).unwrap();
    let (leased, detached) = (pool.get(&1).unwrap(), pool.get(&1).unwrap());
    let group = pool.group(&1);
    assert!(!group.is_draining());
    group.drain();
    assert!(group.is_draining());
    assert_eq!(journal.reasons(), [(0, CloseReason::Drained), (1, CloseReason::Drained)]);
    assert_eq!(leased.id, 3, "a lease outlives the drain");
    leased.release();
    assert_eq!(journal.read(), [(1, 3, CloseReason::Drained)]);
    assert_eq!(detached.detach().id, 2);
    assert_eq!((group.status().idle, group.status().leased), (0, 0));
    assert_eq!(pool.maintain(), 0);
    assert!(journal.read().is_empty(), "nothing was left for maintenance");
    assert_eq!(pool.take(neighbour).unwrap().id, 9, "another group is not concerned");
    assert_eq!(pool.stats().closes[CloseReason::Drained], 3);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn it_gives_nothing_and_takes_nothing() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::new();
    let token = pool.put(&1, tally.connect(0)).unwrap();
    let group = pool.group(&1);
    pool.drain_group(&1);
    assert!(pool.get(&1).is_none() && group.get().is_none() && pool.get_owned(&1).is_none());
    assert!(pool.get_if(&1, |_| true).is_none() && group.get_if(|_| true).is_none());
    assert_eq!(pool.stats().misses[Miss::Closed], 5);
    assert!(pool.take(token).is_none() && !pool.evict(token));
    let rejected = pool.put(&1, tally.connect(1)).unwrap_err();
    assert_eq!((rejected.reason, rejected.connection.id), (RejectReason::Draining, 1));
    assert!(rejected.to_string().contains("the group is draining"), "{rejected}");
    assert_eq!(group.put(tally.connect(2)).unwrap_err().reason, RejectReason::Draining);
    assert_eq!(pool.insert(&1, tally.connect(3)).unwrap_err().into_inner().id, 3);
    assert_eq!(group.insert_owned(tally.connect(4)).unwrap_err().reason, RejectReason::Draining);
    let status = group.status();
    assert_eq!((status.idle, status.leased, pool.status().leased), (0, 0, 0));
    pool.put(&2, tally.connect(5)).unwrap();
    drop(rejected);
    assert_eq!((pool.stats().rejects, tally.alive()), (4, 1));
}

#[test]
fn a_drain_is_no_reason_to_close_another_groups_connection_for_room() {
    let pool = Pool::<u8, u32>::builder().capacity(1).build().unwrap();
    pool.drain_group(&1);
    pool.put(&2, 7).unwrap();
    assert_eq!(pool.insert(&1, 8).unwrap_err().reason, RejectReason::Draining);
    assert_eq!(pool.get(&2).unwrap().detach(), 7);
}

#[test]
fn after_it_is_resumed_those_from_before_stay_unfit() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    let group = pool.group(&1);
    let old: Vec<_> = (0..3).map(|id| group.insert_owned(tally.connect(id)).unwrap()).collect();
    let [first, second, third] = old.try_into().unwrap();
    group.drain();
    first.release();
    group.resume();
    assert!(!group.is_draining());
    second.release();
    assert!(group.get().is_none(), "the reason why it was drained may last");
    let new = group.insert_owned(tally.connect(3)).unwrap();
    new.release();
    assert_eq!(group.get().unwrap().id, 3, "and that lease is dropped");
    group.put(tally.connect(4)).unwrap();
    group.drain();
    group.resume();
    third.release();
    assert!(group.get().is_none());
    let drained = |id| (1, id, CloseReason::Drained);
    assert_eq!(
        journal.read(),
        [drained(0), drained(1), (1, 3, CloseReason::Dropped), drained(4), drained(2)]
    );
    assert_eq!(tally.alive(), 0);
}

#[test]
fn the_mark_outlives_handles_and_settings() {
    let pool = Pool::<u8, u32>::new();
    pool.put(&1, 1).unwrap();
    pool.group(&1).drain();
    assert_eq!(pool.status().groups, 1, "no handle and no connection is left");
    assert_eq!(pool.put(&1, 2).unwrap_err().reason, RejectReason::Draining);
    let group = pool.group(&1);
    assert!(group.is_draining());
    group.configure(GroupSettings::new().max_idle(3)).unwrap();
    group.configure(GroupSettings::new().max_idle(4)).unwrap();
    drop(group);
    assert!(pool.group(&1).is_draining());
    pool.group(&1).configure(GroupSettings::new()).unwrap();
    assert!(pool.group(&1).is_draining());
    pool.group(&1).configure(GroupSettings::new().max_idle(1)).unwrap();
    pool.resume_group(&1);
    assert_eq!(pool.status().groups, 1, "the settings are left");
    pool.put(&1, 3).unwrap();
    assert_eq!(pool.put(&1, 4).unwrap_err().reason, RejectReason::GroupFull { max_idle: 1 });
    pool.clear();
    pool.group(&1).configure(GroupSettings::new()).unwrap();
    assert_eq!(pool.status().groups, 0);
}

#[test]
fn a_key_without_a_group_is_drained_as_well() {
    let pool = Pool::<String, u32>::new();
    pool.drain_group("10.0.0.7:443");
    assert_eq!(pool.group_status("10.0.0.7:443").groups, 1);
    assert_eq!(pool.insert("10.0.0.7:443", 1).unwrap_err().reason, RejectReason::Draining);
    pool.resume_group("10.0.0.7:443");
    assert_eq!(pool.status().groups, 0);
    pool.put("10.0.0.7:443", 1).unwrap();
    pool.resume_group("10.0.0.8:443");
    assert_eq!(pool.status().groups, 1, "to resume what is not there makes nothing");
}

#[test]
fn twice_is_once() {
    let pool = Pool::<u8, u32>::new();
    let group = pool.group(&1);
    (0..3).for_each(|_| group.drain());
    (0..3).for_each(|_| group.resume());
    pool.resume_group(&1);
    group.put(1).unwrap();
    assert_eq!(pool.get(&1).unwrap().detach(), 1);
    drop(group);
    assert_eq!(pool.status().groups, 0);
}

/// Lanes are used again by other groups.
#[test]
fn the_next_group_in_the_same_lanes_knows_nothing_of_it() {
    let journal = Journal::new();
    let pool = Pool::<u32, u32>::builder().on_close(journal.hook_plain()).build().unwrap();
    for key in 0..20 {
        let lease = pool.insert(&key, key).unwrap();
        pool.drain_group(&key);
        lease.release();
        pool.resume_group(&key);
        assert_eq!(pool.status().groups, 0);
        pool.put(&(key + 100), 0).unwrap();
        pool.invalidate_group(&(key + 100));
        assert!(pool.get(&(key + 100)).is_none());
        let ends = [(key, key, CloseReason::Drained), (key + 100, 0, CloseReason::Invalidated)];
        assert_eq!(journal.read(), ends);
    }
}

#[test]
fn other_ends_keep_their_reasons() {
    let journal = Journal::new();
    let pool = Pool::<u8, u32>::builder().on_close(journal.hook_plain()).build().unwrap();
    let leases: Vec<_> = (0..4).map(|id| pool.insert(&1, id).unwrap()).collect();
    let [closed, doomed, dropped, last] = leases.try_into().unwrap();
    pool.drain_group(&1);
    closed.close();
    assert!(pool.evict(doomed.token()));
    doomed.release();
    drop(dropped);
    pool.close();
    last.release();
    assert_eq!(
        journal.reasons(),
        [
            (0, CloseReason::Unhealthy),
            (1, CloseReason::Removed),
            (2, CloseReason::Dropped),
            (3, CloseReason::Closed)
        ]
    );
}

#[test]
fn what_was_invalidated_later_is_not_called_drained() {
    let journal = Journal::new();
    let pool = Pool::<u8, u32>::builder().on_close(journal.hook_plain()).build().unwrap();
    pool.invalidate();
    pool.drain_group(&1);
    pool.resume_group(&1);
    for invalidate in [
        (|pool| pool.invalidate()) as fn(&Pool<u8, u32>),
        |pool| pool.invalidate_group(&1),
        |pool| (pool.drain_group(&2), pool.invalidate()).1,
    ] {
        let group = pool.group(&1);
        group.put(1).unwrap();
        let lease = group.insert(2).unwrap();
        invalidate(&pool);
        lease.release();
        pool.maintain();
        assert_eq!(
            journal.reasons(),
            [(1, CloseReason::Invalidated), (2, CloseReason::Invalidated)]
        );
    }
}

#[test]
fn a_lease_that_is_dropped_is_not_released_into_it() {
    let pool = Pool::<u8, u32>::builder().release_on_drop(true).build().unwrap();
    let lease = pool.insert(&1, 1).unwrap();
    pool.drain_group(&1);
    drop(lease);
    assert_eq!((pool.status().idle, pool.stats().closes[CloseReason::Drained]), (0, 1));
}

#[test]
fn hooks_may_panic_and_all_the_same_all_are_closed() {
    let tally = Tally::default();
    let builder = Pool::<u8, Connection>::builder().on_close(|_, _, _| panic!("by the hook"));
    let pool = builder.capacity(5).build().unwrap();
    for id in 0..5 {
        pool.put(&1, tally.connect(id)).unwrap();
    }
    pool.drain_group(&1);
    assert_eq!((tally.alive(), pool.stats().panics), (0, 5));
    pool.resume_group(&1);
    for id in 0..5 {
        pool.put(&1, tally.connect(id)).unwrap();
    }
}

#[test]
fn a_hook_may_drain_and_resume_the_group_that_is_being_drained() {
    let (pool, journal) = with_hook(Pool::builder(), |pool| {
        assert!(pool.group(&1).is_draining());
        assert_eq!(pool.put(&1, 8).unwrap_err().reason, RejectReason::Draining);
        pool.drain_group(&1);
        pool.resume_group(&1);
        pool.resume_group(&1);
    });
    for id in 0..3 {
        pool.put(&1, id).unwrap();
    }
    pool.drain_group(&1);
    assert!(journal.reasons().iter().all(|&(_, reason)| reason == CloseReason::Drained));
    assert_eq!(pool.status().groups, 0, "the hook has resumed it");
    pool.put(&1, 3).unwrap();
    assert_eq!(pool.get(&1).unwrap().detach(), 3);
}

/// The put was let in, and evicts to make room; the hook drains its group meanwhile.
#[test]
fn drained_while_a_connection_enters_to_be_idle() {
    for resume in [false, true] {
        let (pool, journal) = with_hook(Pool::builder().capacity(1), move |pool| {
            pool.drain_group(&2);
            if resume {
                pool.resume_group(&2);
            }
        });
        pool.put(&1, 1).unwrap();
        pool.put(&2, 2).expect("it was let in before");
        assert_eq!(pool.status().idle, 0);
        assert_eq!(journal.reasons(), [(1, CloseReason::Evicted), (2, CloseReason::Drained)]);
        assert_eq!(pool.status().groups, usize::from(!resume));
    }
}

#[test]
fn drained_while_a_connection_enters_to_be_leased() {
    let drain = |pool: &Pool<u8, u32>| pool.drain_group(&2);
    let (pool, journal) = with_hook(Pool::builder().capacity(1), drain);
    pool.put(&1, 1).unwrap();
    let lease = pool.insert(&2, 2).expect("it was let in before");
    pool.resume_group(&2);
    lease.release();
    assert_eq!(pool.status().idle, 0);
    assert_eq!(journal.reasons(), [(1, CloseReason::Evicted), (2, CloseReason::Drained)]);
}

/// As before, and the group is invalidated, which no maintenance follows.
#[test]
fn invalidated_while_a_connection_enters_to_be_idle() {
    let (pool, journal) = with_hook(Pool::builder().capacity(1), |pool| pool.invalidate_group(&2));
    pool.put(&1, 1).unwrap();
    pool.put(&2, 2).unwrap();
    assert_eq!(pool.status().idle, 0);
    assert_eq!(journal.reasons(), [(1, CloseReason::Evicted), (2, CloseReason::Invalidated)]);
}

#[test]
fn drained_while_retain_holds_a_connection() {
    for resume in [false, true] {
        let (journal, tally) = (Journal::new(), Tally::default());
        let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
        for id in 0..3 {
            pool.put(&1, tally.connect(id)).unwrap();
        }
        let mut held = 0;
        pool.retain(|_, _, _| {
            held += 1;
            pool.drain_group(&1);
            if resume {
                pool.resume_group(&1);
            }
            true
        });
        assert_eq!(held, 1, "the others were closed by then");
        assert_eq!(pool.status().idle, 0);
        assert_eq!(journal.reasons(), [0, 1, 2].map(|id| (id, CloseReason::Drained)));
        assert_eq!((tally.alive(), pool.status().groups), (0, usize::from(!resume)));
    }
}

#[test]
fn a_drain_that_takes_long_does_not_hold_up_the_next_one() {
    let (in_hook, hook_runs) = mpsc::channel::<()>();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let gate = Mutex::new(Some((in_hook, may_go_on)));
    let builder = Pool::<u8, u32>::builder().on_close(move |_, _, _| {
        let gate = gate.lock().unwrap().take();
        if let Some((in_hook, may_go_on)) = gate {
            in_hook.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
    });
    let pool = builder.build().unwrap();
    pool.put(&1, 0).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| pool.drain_group(&1));
        hook_runs.recv().unwrap();
        assert_eq!(pool.put(&1, 1).unwrap_err().reason, RejectReason::Draining);
        pool.resume_group(&1);
        pool.put(&1, 2).unwrap();
        pool.drain_group(&1);
        assert_eq!((pool.status().idle, pool.status().groups), (0, 1));
        go_on.send(()).unwrap();
        first.join().unwrap();
    });
    assert_eq!(pool.put(&1, 3).unwrap_err().reason, RejectReason::Draining);
    assert_eq!(pool.stats().closes[CloseReason::Drained], 2);
}
