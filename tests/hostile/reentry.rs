//! Destructors and hooks that use the pool that runs them.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use slabpool::{Clock, CloseReason, ManualClock, Pool};

use crate::common::{self, SECOND, Tally};

/// A pool for connections that use it; empty it to break the circle.
type Shared = Arc<Mutex<Option<Pool<u8, Connection>>>>;

#[derive(Debug)]
struct Connection {
    _inner: common::Connection,
    pool: Shared,
    tally: Tally,
    deed: Deed,
}

/// What is done while the pool closes a connection.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Get,
    Put,
    Insert,
    Clear,
    Retain,
    Maintain,
    Lower,
    Drain,
    Close,
}

const DEEDS: [Deed; 9] = [
    Deed::Get,
    Deed::Put,
    Deed::Insert,
    Deed::Clear,
    Deed::Retain,
    Deed::Maintain,
    Deed::Lower,
    Deed::Drain,
    Deed::Close,
];

thread_local! {
    /// How deep the deeds are in each other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl Deed {
    fn act(self, pool: &Shared, tally: &Tally) {
        let Some(handle) = pool.lock().unwrap().clone() else { return };
        if DEPTH.get() >= 3 {
            return;
        }
        DEPTH.set(DEPTH.get() + 1);
        let connect = || connect(pool, tally, self);
        match self {
            Self::Get => handle.get(&1).into_iter().for_each(|lease| lease.close()),
            Self::Put => drop(handle.put(&2, connect())),
            Self::Insert => drop(handle.insert(&1, connect()).map(|lease| lease.release())),
            Self::Clear => handle.clear(),
            Self::Retain => handle.retain(|_, _, _| false),
            Self::Maintain => drop((handle.maintain(), handle.inspect())),
            Self::Lower => {
                handle.reconfigure(|settings| settings.capacity = 1).unwrap();
                handle.reconfigure(|settings| settings.capacity = 4).unwrap();
            }
            Self::Drain => {
                handle.drain_group(&1);
                handle.resume_group(&1);
            }
            Self::Close => handle.close(),
        }
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.deed.act(&self.pool, &self.tally);
    }
}

fn connect(pool: &Shared, tally: &Tally, deed: Deed) -> Connection {
    Connection { _inner: tally.connect(0), pool: Arc::clone(pool), tally: tally.clone(), deed }
}

/// Closes connections in all ways.
fn close_some(pool: &Pool<u8, Connection>, clock: &ManualClock, connect: impl Fn() -> Connection) {
    for key in 0..6 {
        drop(pool.put(&(key % 3), connect()));
    }
    drop(pool.get(&1));
    pool.get(&2).into_iter().for_each(|lease| lease.close());
    pool.get_owned(&0).into_iter().for_each(|lease| lease.close_dead());
    pool.clear_group(&1);
    for key in 0..6 {
        drop(pool.put(&(key % 3), connect()));
    }
    pool.retain(|key, _, _| *key == 1);
    clock.advance(40 * SECOND);
    pool.maintain();
    drop(pool.put(&1, connect()).map(|token| pool.evict(token)));
    drop(pool.put(&1, connect()));
    pool.invalidate();
    pool.maintain();
    drop(pool.put(&1, connect()));
    pool.clear();
}

fn survives(deed: Deed, in_hook: bool) {
    let (clock, tally, shared) = (Clock::manual(), Tally::default(), Shared::default());
    let mut builder = Pool::builder().capacity(4).clock(&clock);
    if in_hook {
        let (own, makes) = (Arc::clone(&shared), tally.clone());
        builder = builder.on_close(move |_, connection: Connection, _: CloseReason| {
            deed.act(&own, &makes);
            drop(connection);
        });
    }
    let pool = builder.build().unwrap();
    *shared.lock().unwrap() = Some(pool.clone());
    (0..3).for_each(|_| close_some(&pool, &clock, || connect(&shared, &tally, deed)));
    *shared.lock().unwrap() = None;
    pool.clear();
    let status = pool.status();
    assert_eq!((status.idle, status.leased, status.groups), (0, 0, 0), "{deed:?}");
    let stats = pool.stats();
    assert_eq!(stats.panics, 0, "{deed:?}");
    assert_eq!(stats.inserts, stats.closes.total(), "{deed:?}");
    assert_eq!(tally.alive(), 0, "{deed:?}");
    assert_eq!(pool.is_closed(), matches!(deed, Deed::Close));
    // All of the capacity is there.
    if !pool.is_closed() {
        let quiet = || connect(&Shared::default(), &tally, deed);
        let leases: Vec<_> = (0..4).map(|key| pool.insert(&key, quiet()).unwrap()).collect();
        assert!(pool.insert(&9, quiet()).is_err(), "{deed:?}");
        drop(leases);
    }
}

#[test]
fn a_destructor_may_use_its_pool() {
    DEEDS.into_iter().for_each(|deed| survives(deed, false));
}

#[test]
fn a_hook_and_a_destructor_may_use_their_pool() {
    DEEDS.into_iter().for_each(|deed| survives(deed, true));
}

/// The last handle to a pool goes while the pool closes a connection.
#[test]
fn a_connection_may_hold_the_last_handle_but_one() {
    struct Holder(#[expect(dead_code, reason = "it is held")] Pool<u8, Holder>, Tally);
    impl Drop for Holder {
        fn drop(&mut self) {
            drop(self.1.connect(0));
        }
    }
    let tally = Tally::default();
    let pool = Pool::<u8, Holder>::new();
    let lease = pool.insert_owned(&1, Holder(pool.clone(), tally.clone())).unwrap();
    drop(pool);
    lease.close();
    assert_eq!(tally.dropped(), 1);
}
