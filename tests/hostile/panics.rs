//! Each hook panics at each of its calls in turn. Whatever the pool was doing then, it loses
//! no connection and no capacity, and goes on.

use slabpool::{Clock, GroupSettings, Liveness, ManualClock, Pool};

use crate::common::{SECOND, Tally};
use crate::fuse::{Connection, Hook, Key, Outcome, touch, with_fuse};

const CAPACITY: usize = 3;

fn pool(clock: &ManualClock) -> Pool<Key, Connection> {
    Pool::builder()
        .capacity(CAPACITY)
        .clock(clock)
        .probe(|_: &mut Connection| {
            touch(Hook::Probe);
            Liveness::Alive
        })
        .on_close(|_, connection, _| {
            touch(Hook::OnClose);
            drop(connection);
        })
        .group_settings(|_| {
            touch(Hook::Settings);
            GroupSettings::new()
        })
        .build()
        .unwrap()
}

/// Everything that calls hooks.
fn use_it(pool: &Pool<Key, Connection>, clock: &ManualClock, tally: &Tally) {
    let connect = |id| Connection { inner: tally.connect(id) };
    let [one, two, three, four] = [1, 2, 3, 4].map(Key);
    pool.put(&one, connect(1)).unwrap();
    let token = pool.put(&two, connect(2)).unwrap();
    pool.insert(&three, connect(3)).unwrap().release();
    // One of them makes room.
    let held = pool.insert_owned(&four, connect(4)).unwrap();
    pool.get(&two).into_iter().for_each(|lease| lease.release());
    pool.get(&three).into_iter().for_each(|lease| lease.close());
    drop(pool.get_if(&two, |_| {
        touch(Hook::GetIf);
        false
    }));
    pool.retain(|_, _, _| {
        touch(Hook::Retain);
        true
    });
    let group = pool.group(&one);
    drop(group.put(connect(5)));
    drop(group);
    pool.reconfigure(|settings| {
        settings.capacity = 2;
        touch(Hook::Reconfigure);
        settings.capacity = CAPACITY;
    })
    .unwrap();
    clock.advance(6 * SECOND);
    pool.maintain();
    pool.take(token).into_iter().for_each(drop);
    held.release();
    pool.drain_group(&four);
    pool.resume_group(&four);
    pool.clear_group(&one);
    drop(pool.put(&one, connect(6)));
    clock.advance(60 * SECOND);
    pool.maintain();
    drop(pool.put(&two, connect(7)));
    pool.invalidate_group(&two);
    pool.maintain();
    drop(pool.put(&three, connect(8)));
    pool.clear();
}

/// All that was in the pool can be closed, and all of its capacity is there.
fn check(pool: &Pool<Key, Connection>, tally: &Tally, of: &str) {
    let keys = [1, 2, 3, 4].map(Key);
    keys.iter().for_each(|key| pool.resume_group(key));
    pool.clear();
    pool.maintain();
    let status = pool.status();
    assert_eq!((status.idle, status.leased), (0, 0), "{of}");
    assert_eq!(tally.alive(), 0, "{of}");
    assert_eq!(status.groups, 0, "{of}");
    let connect = || Connection { inner: tally.connect(0) };
    let leases: Vec<_> = keys[..CAPACITY].iter().map(|key| pool.insert(key, connect())).collect();
    assert!(leases.iter().all(Result::is_ok), "{of}: capacity is missing");
    assert!(pool.insert(&keys[3], connect()).is_err(), "{of}");
    leases.into_iter().for_each(|lease| lease.unwrap().release());
    assert!(keys[..CAPACITY].iter().all(|key| pool.get(key).is_some()), "{of}");
    let stats = pool.stats();
    assert_eq!(stats.inserts, stats.closes.total() + stats.taken, "{of}");
    assert_eq!(tally.alive(), 0, "{of}");
}

/// How often the hook was called; each of these calls has panicked, in a pool of its own.
/// The panic went to the caller or was caught, as expected; either will do for `None`.
fn at_each_call(hook: Hook, expected: impl Into<Option<Outcome>>) -> usize {
    let expected = expected.into();
    for call in 0.. {
        let (clock, tally) = (Clock::manual(), Tally::default());
        let pool = pool(&clock);
        let outcome = with_fuse(hook, call, || use_it(&pool, &clock, &tally));
        let of = format!("{hook:?}, call {call}");
        if outcome == Outcome::NotReached {
            check(&pool, &tally, &of);
            return call;
        }
        assert_eq!(outcome, expected.unwrap_or(outcome), "{of}");
        // What a key does when its group has gone is counted by nobody.
        let caught = u64::from(outcome == Outcome::Caught && hook != Hook::KeyDrop);
        assert_eq!(pool.stats().panics, caught, "{of}");
        check(&pool, &tally, &of);
    }
    unreachable!("there is no end of calls")
}

#[test]
fn methods_of_the_key() {
    assert!(at_each_call(Hook::Hash, Outcome::Panicked) > 10);
    assert!(at_each_call(Hook::Eq, Outcome::Panicked) > 10);
    assert!(at_each_call(Hook::Clone, Outcome::Panicked) >= 4);
}

#[test]
fn closures_of_the_caller() {
    assert_eq!(at_each_call(Hook::GetIf, Outcome::Panicked), 1);
    assert!(at_each_call(Hook::Retain, Outcome::Panicked) >= 1);
    assert_eq!(at_each_call(Hook::Reconfigure, Outcome::Panicked), 1);
    assert!(at_each_call(Hook::Settings, Outcome::Panicked) >= 4);
}

#[test]
fn hooks_that_the_pool_shields() {
    assert!(at_each_call(Hook::Probe, Outcome::Caught) > 1);
    assert!(at_each_call(Hook::OnClose, Outcome::Caught) > 4);
}

/// The caller destroys what is not taken and what it has taken out, and feels it.
#[test]
fn destructors() {
    assert!(at_each_call(Hook::Destructor, None) > 4);
}

/// A key is dropped with its group, by whoever was the last to hold that; or when the group,
/// which has gone, is given another key.
#[test]
fn destructors_of_keys() {
    assert!(at_each_call(Hook::KeyDrop, None) >= 4);
}
