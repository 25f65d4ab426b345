//! A closed pool holds nothing idle, whatever was going on when it was closed.

mod common;

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use slabpool::{Builder, CloseReason, Pool, RejectReason};

use common::{Journal, Tally};

/// A pool for hooks that use it; empty it to break the circle.
type Shared = Arc<Mutex<Option<Pool<u8, u32>>>>;

fn closing_itself(builder: Builder<u8, u32>) -> (Pool<u8, u32>, Journal<u8>, Shared) {
    let (shared, journal) = (Shared::default(), Journal::new());
    let (own, notes) = (Arc::clone(&shared), journal.clone());
    let build = builder.on_close(move |key, id, reason| {
        notes.write(key, id, reason);
        let pool = own.lock().unwrap().take();
        if let Some(pool) = pool {
            pool.close();
        }
    });
    let pool = build.build().unwrap();
    *shared.lock().unwrap() = Some(pool.clone());
    (pool, journal, shared)
}

#[test]
fn what_is_idle_goes_at_once_and_what_is_leased_on_release() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    for id in 0..4 {
        pool.put(&(id as u8 % 2), tally.connect(id)).unwrap();
    }
    let (kept, released) = (pool.get(&0).unwrap(), pool.get(&1).unwrap());
    let twin = pool.clone();
    twin.close();
    assert!(pool.is_closed());
    assert_eq!(journal.reasons(), [(0, CloseReason::Closed), (1, CloseReason::Closed)]);
    released.release();
    assert_eq!(journal.read(), [(1, 3, CloseReason::Closed)]);
    assert_eq!(kept.detach().id, 2, "a lease outlives the closing");
    assert_eq!((pool.status().idle, pool.status().leased, pool.status().groups), (0, 0, 0));
    pool.close();
    assert_eq!(tally.alive(), 0);
}

#[test]
fn a_closed_pool_takes_and_gives_nothing() {
    let pool = Pool::<u8, u32>::new();
    let group = pool.group(&1);
    let token = pool.put(&1, 7).unwrap();
    pool.close();
    assert!(pool.get(&1).is_none() && group.get().is_none() && pool.get_owned(&1).is_none());
    assert!(pool.get_if(&1, |_| true).is_none());
    assert!(pool.take(token).is_none() && !pool.evict(token));
    assert_eq!(pool.put(&1, 8).unwrap_err().reason, RejectReason::Closed);
    assert_eq!(group.put(8).unwrap_err().into_inner(), 8);
    assert_eq!(pool.insert(&1, 8).unwrap_err().reason, RejectReason::Closed);
    assert_eq!(group.insert_owned(8).unwrap_err().reason(), RejectReason::Closed);
    assert_eq!(pool.stats().rejects, 4);
    assert_eq!(pool.maintain(), 0);
}

#[test]
fn closed_while_a_connection_enters_to_be_idle() {
    let (pool, journal, _) = closing_itself(Pool::builder().capacity(1));
    pool.put(&1, 1).unwrap();
    // Evicts 1, whose hook closes the pool.
    let entered = pool.put(&2, 2).is_ok();
    assert!(pool.is_closed());
    assert!(pool.get(&2).is_none());
    assert_eq!(pool.status().idle, 0);
    assert_eq!(journal.reasons()[0], (1, CloseReason::Evicted));
    assert_eq!(pool.stats().closes[CloseReason::Closed], u64::from(entered));
}

#[test]
fn closed_while_a_connection_enters_to_be_leased() {
    let (pool, journal, _) = closing_itself(Pool::builder().capacity(1));
    pool.put(&1, 1).unwrap();
    if let Ok(lease) = pool.insert(&2, 2) {
        lease.release();
        assert_eq!(journal.read().last(), Some(&(2, 2, CloseReason::Closed)));
    }
    assert!(pool.get(&2).is_none());
    assert_eq!(pool.status().idle, 0);
}

/// The closing has begun, and stands still in the hook of the first connection;
/// `retain` begins, and leaves the second one to the closing.
#[test]
fn retain_keeps_nothing_of_a_pool_that_is_closing() {
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
    pool.put(&1, 1).unwrap();
    pool.put(&2, 2).unwrap();
    thread::scope(|scope| {
        let closing = scope.spawn(|| pool.close());
        hook_runs.recv().unwrap();
        let mut held = 0;
        pool.retain(|_, _, _| {
            held += 1;
            true
        });
        go_on.send(()).unwrap();
        closing.join().unwrap();
        assert_eq!(held, 0);
    });
    assert_eq!(pool.status().idle, 0);
    assert_eq!(pool.stats().closes[CloseReason::Closed], 2);
}

#[test]
fn closing_finds_what_is_being_compacted_away() {
    let (tally, journal) = (Tally::default(), Journal::new());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    let put = |id| pool.put(&1, tally.connect(id)).unwrap();
    let below: Vec<_> = (0..39).map(put).collect();
    put(39);
    // More than a group may leave lying about, so that its lane is compacted, ...
    assert!(below.into_iter().all(|token| pool.evict(token)));
    // ... and again while it is drained.
    for id in 40..73 {
        put(id);
    }
    pool.close();
    assert_eq!(tally.alive(), 0);
    assert_eq!(pool.status().idle, 0);
}

#[test]
fn the_last_handle_closes_what_is_idle() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    pool.put(&1, tally.connect(1)).unwrap();
    pool.put(&2, tally.connect(2)).unwrap();
    let group = pool.group(&1);
    let lease = pool.get_owned(&2).unwrap();
    drop(pool);
    assert_eq!(tally.alive(), 2, "a group and a lease are handles, too");
    drop(group);
    assert_eq!(tally.alive(), 2);
    assert_eq!(lease.id, 2);
    lease.release();
    assert_eq!(journal.reasons(), [(1, CloseReason::Closed), (2, CloseReason::Closed)]);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn a_lease_dropped_after_all_handles_is_closed() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::new();
    let lease = pool.insert_owned(&1, tally.connect(1)).unwrap();
    drop(pool);
    assert_eq!(tally.alive(), 1);
    drop(lease);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn a_forgotten_lease_leaks_its_connection_and_its_permit_and_nothing_else() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::builder().capacity(2).build().unwrap();
    std::mem::forget(pool.insert(&1, tally.connect(1)).unwrap());
    pool.put(&1, tally.connect(2)).unwrap();
    pool.put(&1, tally.connect(3)).unwrap();
    assert_eq!(tally.dropped(), 1, "one place is left, and is used");
    assert_eq!((pool.status().idle, pool.status().leased), (1, 1));
    pool.close();
    drop(pool);
    assert_eq!(tally.alive(), 1);
}
