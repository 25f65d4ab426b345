//! The capacity: what goes when it is lowered, and what comes in.

use slabpool::{CloseReason, RejectReason};

use crate::Bench;
use crate::common::NANOSECOND;

fn evicted(ids: impl IntoIterator<Item = u32>) -> Vec<(u32, CloseReason)> {
    ids.into_iter().map(|id| (id, CloseReason::Evicted)).collect()
}

#[test]
fn a_lower_capacity_closes_the_oldest_idle_ones_at_once() {
    let bench = Bench::new(|b| b.capacity(10));
    bench.fill(1, 0..5);
    bench.fill(2, 5..10);
    // Released last, and so the youngest.
    bench.pool.get(&1).unwrap().release();
    bench.clock.advance(NANOSECOND);
    bench.set(|settings| settings.capacity = 6);
    assert_eq!(bench.closed(), evicted([0, 1, 2, 3]));
    assert_eq!((bench.pool.status().idle, bench.pool.status().capacity), (6, 6));
    bench.set(|settings| settings.capacity = 1);
    assert_eq!(bench.closed(), evicted([5, 6, 7, 8, 9]));
    assert_eq!(bench.pool.get(&1).unwrap().id, 4);
}

#[test]
fn what_was_leased_is_closed_when_it_is_back() {
    let bench = Bench::new(|b| b.capacity(4));
    let leases: Vec<_> =
        (0..4).map(|id| bench.pool.insert(&1, bench.tally.connect(id)).unwrap()).collect();
    bench.set(|settings| settings.capacity = 2);
    assert_eq!(bench.closed(), [], "leases are not touched");
    assert_eq!(bench.pool.status().leased, 4);
    let full = bench.pool.insert(&1, bench.tally.connect(9)).unwrap_err();
    assert_eq!(full.reason, RejectReason::Full { capacity: 2 });
    let mut leases = leases.into_iter();
    // In bounds as soon as two have gone, whichever these are.
    leases.next().unwrap().close();
    assert_eq!(bench.closed(), [(0, CloseReason::Unhealthy)]);
    leases.next().unwrap().release();
    bench.clock.advance(NANOSECOND);
    assert_eq!(bench.pool.maintain(), 1, "three are one too many");
    assert_eq!(bench.closed(), evicted([1]));
    leases.for_each(|lease| lease.release());
    assert_eq!((bench.pool.maintain(), bench.pool.status().idle), (0, 2));
    // At the bound again: one for one.
    bench.put(2, 5).unwrap();
    assert_eq!(bench.closed(), evicted([2]));
}

#[test]
fn an_insertion_sheds_what_is_too_many_and_comes_in_within_the_bound() {
    let bench = Bench::new(|b| b.capacity(10));
    let leases: Vec<_> =
        (0..10).map(|id| bench.pool.insert(&1, bench.tally.connect(id)).unwrap()).collect();
    bench.set(|settings| settings.capacity = 3);
    for lease in leases {
        lease.release();
        bench.clock.advance(NANOSECOND);
    }
    bench.put(2, 10).unwrap();
    assert_eq!(bench.closed(), evicted(0..8));
    assert_eq!((bench.pool.status().idle, bench.pool.status().leased), (3, 0));
    // It does not do everything: maintenance has its part.
    bench.set(|settings| settings.capacity = 100);
    let leases: Vec<_> =
        (11..108).map(|id| bench.pool.insert(&1, bench.tally.connect(id)).unwrap()).collect();
    bench.set(|settings| settings.capacity = 3);
    bench.closed();
    leases.into_iter().for_each(|lease| lease.release());
    assert_eq!(bench.put(2, 200), Err(RejectReason::Full { capacity: 3 }));
    assert_eq!(bench.closed().len(), 32);
    assert_eq!(bench.pool.maintain(), 97 - 32 - 3);
    assert_eq!(bench.pool.status().idle, 3);
    bench.put(2, 201).unwrap();
    assert_eq!(bench.pool.status().idle, 3);
}

#[test]
fn a_capacity_of_zero_empties_the_pool_and_a_higher_one_fills_it_again() {
    let bench = Bench::new(|b| b.capacity(3));
    bench.fill(1, 0..2);
    let lease = bench.pool.insert(&1, bench.tally.connect(2)).unwrap();
    bench.set(|settings| settings.capacity = 0);
    assert_eq!(bench.closed(), evicted([0, 1]));
    assert_eq!(bench.put(1, 3), Err(RejectReason::Full { capacity: 0 }));
    lease.release();
    assert_eq!(bench.put(1, 4), Err(RejectReason::Full { capacity: 0 }));
    assert_eq!(bench.closed(), evicted([2]), "an insertion found it");
    assert_eq!((bench.pool.maintain(), bench.tally.alive()), (0, 0));
    assert_eq!(bench.pool.status().groups, 0);
    bench.set(|settings| settings.capacity = 2);
    bench.fill(1, 5..7);
    assert_eq!(bench.pool.status().idle, 2);
    assert_eq!(bench.closed(), []);
}

#[test]
fn a_higher_capacity_holds_at_once_and_victims_stay_in_order() {
    let bench = Bench::new(|b| b.capacity(1));
    bench.fill(1, 0..3);
    assert_eq!(bench.closed(), evicted([0, 1]));
    bench.set(|settings| settings.capacity = 2_000);
    bench.fill(1, 3..2_002);
    assert_eq!((bench.closed(), bench.pool.status().idle), (Vec::new(), 2_000));
    bench.fill(1, 2_002..3_000);
    assert_eq!(bench.closed(), evicted(2..1_000));
    bench.set(|settings| settings.capacity = 10);
    assert_eq!(bench.closed(), evicted(1_000..2_990));
}
