//! Keys never cross, and a group is there for as long as it is needed.

mod common;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slabpool::{CloseReason, ConfigError, GroupSettings, Pool, RejectReason};

use common::{Journal, SECOND, Tally};

/// All of them have the same hash.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Colliding(u32);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[test]
fn keys_that_collide_do_not_cross() {
    let pool = Pool::<Colliding, u32>::builder().capacity(200).build().unwrap();
    let keys: Vec<_> = (0..50).map(Colliding).collect();
    for key in &keys {
        pool.put(key, key.0).unwrap();
        pool.put(key, key.0 + 1_000).unwrap();
    }
    assert_eq!(pool.status().groups, 50);
    pool.clear_group(&Colliding(7));
    for key in &keys {
        let found = pool.get(key).map(|lease| lease.detach());
        assert_eq!(found, (key.0 != 7).then_some(key.0 + 1_000));
        assert!(pool.get(&Colliding(key.0 + 50)).is_none());
    }
    for key in &keys {
        let lease = pool.get(key);
        assert!(lease.as_ref().is_none_or(|lease| lease.key() == key && **lease == key.0));
        lease.into_iter().for_each(|lease| lease.close());
    }
    assert_eq!(pool.status().groups, 0);
}

#[test]
fn keys_may_be_looked_up_in_borrowed_form() {
    let pool = Pool::<String, u32>::new();
    let token = pool.put("10.0.0.7:443", 1).unwrap();
    assert_eq!(*pool.get("10.0.0.7:443").unwrap().key(), "10.0.0.7:443");
    pool.insert("10.0.0.7:443", 2).unwrap().release();
    assert_eq!(pool.group("10.0.0.7:443").get().unwrap().detach(), 2);
    assert!(pool.get(&"10.0.0.8:443".to_owned()).is_none());
    assert_eq!(pool.group_status("10.0.0.7:443").idle, 0);
    assert!(!pool.evict(token), "the first lease was dropped, not released");
    pool.invalidate_group("10.0.0.7:443");
    pool.clear_group("10.0.0.7:443");
}

#[test]
fn a_group_goes_with_its_last_connection() {
    let pool = Pool::<u32, u32>::new();
    for key in 0..100 {
        pool.put(&key, key).unwrap();
    }
    assert_eq!(pool.status().groups, 100);
    for key in 0..100 {
        let lease = pool.get(&key).unwrap();
        assert_eq!(pool.group_status(&key).groups, 1, "a leased connection keeps it");
        match key % 4 {
            0 => lease.close(),
            1 => drop(lease.detach()),
            2 => drop(lease),
            _ => {
                let token = lease.token();
                lease.release();
                assert!(pool.evict(token));
            }
        }
        assert_eq!(pool.group_status(&key).groups, 0);
        assert_eq!(pool.status().groups, 99 - key as usize);
    }
    let capacity = pool.status().capacity;
    assert_eq!(pool.group_status(&7).capacity, capacity);
}

#[test]
fn a_rejected_connection_leaves_no_group_behind() {
    let pool = Pool::<u8, u32>::builder().capacity(1).max_idle_per_group(0).build().unwrap();
    let lease = pool.insert(&1, 1).unwrap();
    assert_eq!(pool.insert(&2, 2).unwrap_err().reason, RejectReason::Full { capacity: 1 });
    assert_eq!(pool.put(&3, 3).unwrap_err().reason, RejectReason::GroupFull { max_idle: 0 });
    assert_eq!(pool.status().groups, 1);
    drop(lease);
    assert_eq!(pool.status().groups, 0);
}

#[test]
fn a_handle_keeps_its_group() {
    let pool = Pool::<u8, u32>::new();
    let group = pool.group(&1);
    let twin = group.clone();
    assert_eq!((pool.status().groups, *group.key()), (1, 1));
    drop(group);
    assert_eq!(pool.status().groups, 1);
    twin.put(7).unwrap();
    assert_eq!(pool.get(&1).unwrap().detach(), 7, "the key leads to the same group");
    pool.put(&1, 8).unwrap();
    assert_eq!(twin.get().unwrap().detach(), 8);
    assert_eq!(twin.pool().status().groups, 1);
    drop(twin);
    assert_eq!(pool.status().groups, 0);
}

#[test]
fn settings_keep_their_group_until_they_are_withdrawn() {
    let pool = Pool::<u8, u32>::new();
    pool.group(&1).configure(GroupSettings::new().max_idle(1)).unwrap();
    assert_eq!(pool.status().groups, 1, "no handle and no connection is left");
    pool.put(&1, 1).unwrap();
    assert_eq!(pool.put(&1, 2).unwrap_err().reason, RejectReason::GroupFull { max_idle: 1 });
    pool.clear();
    pool.group(&1).configure(GroupSettings::new().max_idle(2)).unwrap();
    assert_eq!(pool.status().groups, 1, "twice is once");
    pool.group(&1).configure(GroupSettings::new()).unwrap();
    assert_eq!(pool.status().groups, 0);
    for id in 0..10 {
        pool.put(&1, id).unwrap();
    }
}

#[test]
fn impossible_settings_change_nothing() {
    let pool = Pool::<u8, u32>::new();
    let group = pool.group(&1);
    let settings = GroupSettings::new().max_uses(0).max_idle(0);
    assert_eq!(group.configure(settings), Err(ConfigError::MaxUsesZero));
    group.put(1).expect("the cap was not set");
}

#[test]
fn each_new_group_asks_for_its_settings() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let hook = move |key: &u8| {
        count.fetch_add(1, Ordering::Relaxed);
        if *key == 1 { GroupSettings::new().max_idle(1) } else { GroupSettings::new() }
    };
    let pool = Pool::<u8, u32>::builder().max_idle_per_group(2).group_settings(hook);
    let pool = pool.build().unwrap();
    pool.put(&1, 1).unwrap();
    assert!(pool.put(&1, 2).is_err());
    pool.put(&2, 3).unwrap();
    pool.put(&2, 4).unwrap();
    assert!(pool.put(&2, 5).is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(pool.get(&3).is_none());
    assert_eq!(asked.load(Ordering::Relaxed), 2, "a get makes no group");
    pool.clear();
    pool.put(&1, 1).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 3, "again after it was gone");
    assert_eq!(pool.status().groups, 1, "such settings do not keep a group");
}

#[test]
fn a_cap_holds_for_releases_too() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let builder = Pool::<u8, _>::builder().max_idle_per_group(2).on_close(journal.hook());
    let pool = builder.build().unwrap();
    let leases: Vec<_> = (0..4).map(|id| pool.insert(&1, tally.connect(id)).unwrap()).collect();
    leases.into_iter().for_each(|lease| lease.release());
    assert_eq!(journal.read(), [(1, 2, CloseReason::GroupFull), (1, 3, CloseReason::GroupFull)]);
    assert_eq!(pool.get(&1).unwrap().id, 1, "those that were there stay");
    pool.put(&2, tally.connect(9)).unwrap();
}

/// Garbage in the lane, and compaction, must not count against the cap.
#[test]
fn a_cap_counts_connections_and_not_what_is_left_of_them() {
    let pool = Pool::<u8, u32>::builder().max_idle_per_group(50).build().unwrap();
    for round in 0..100 {
        let tokens: Vec<_> = (0..50).map(|id| pool.put(&1, round * 50 + id).unwrap()).collect();
        assert!(pool.put(&1, 0).is_err());
        assert!(tokens[..49].iter().all(|&token| pool.evict(token)));
        assert_eq!(pool.group_status(&1).idle, 1);
        let leases: Vec<_> = (0..50).map(|id| pool.insert(&1, id).unwrap()).collect();
        leases.into_iter().for_each(|lease| lease.release());
        assert_eq!(pool.group_status(&1).idle, 50);
        pool.clear_group(&1);
    }
}

#[test]
fn an_invalidated_connection_is_not_used_again() {
    let (journal, tally) = (Journal::new(), Tally::default());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    for id in 0..4 {
        pool.put(&(id as u8 % 2), tally.connect(id)).unwrap();
    }
    let leased = pool.get(&0).unwrap();
    pool.invalidate_group(&0);
    assert_eq!(pool.status().idle, 3, "closed by maintenance, not at once");
    assert!(pool.get_if(&0, |_| true).is_none());
    assert_eq!(pool.maintain(), 0, "none has expired");
    assert_eq!(journal.read(), [(0, 0, CloseReason::Invalidated)]);
    leased.release();
    assert_eq!(journal.read(), [(0, 2, CloseReason::Invalidated)]);
    pool.put(&0, tally.connect(4)).unwrap();
    assert_eq!(pool.get(&1).unwrap().id, 3, "another group is not concerned");
    pool.invalidate();
    pool.put(&0, tally.connect(5)).unwrap();
    assert_eq!(pool.get(&0).unwrap().detach().id, 5, "one that came later is good");
    assert!(pool.get(&0).is_none() && pool.get(&1).is_none());
}

#[test]
fn pools_have_nothing_in_common() {
    let (one, other) = (Pool::<u8, u32>::new(), Pool::<u8, u32>::new());
    one.put(&1, 1).unwrap();
    assert!(other.get(&1).is_none());
    other.put(&1, 2).unwrap();
    other.close();
    assert_eq!(one.get(&1).unwrap().detach(), 1);
}

#[test]
fn a_predicate_chooses_and_leaves_the_others_where_they_are() {
    let clock = slabpool::Clock::manual();
    let pool = Pool::<u8, u32>::builder().clock(&clock).build().unwrap();
    for id in 0..5 {
        pool.put(&1, id).unwrap();
        clock.advance(SECOND);
    }
    let lease = pool.get_if(&1, |meta| meta.idle_for > 2 * SECOND).unwrap();
    assert_eq!((*lease, lease.meta().idle_for), (2, 3 * SECOND));
    assert!(pool.group(&1).get_if(|meta| meta.uses > 1).is_none());
    let rest: Vec<_> = std::iter::from_fn(|| pool.get(&1).map(|lease| lease.detach())).collect();
    assert_eq!(rest, [4, 3, 1, 0]);
}
