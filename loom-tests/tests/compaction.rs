//! Compaction loses no ticket and hides none, whatever pops, pushes and drains meanwhile.

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::sync::Arc;

use bench::{Bench, Held, spawn};
use common::check;

/// Compaction moves tickets from stack to stack, void ones between them. A getter
/// finds a connection all the while.
#[test]
fn compaction_hides_nothing_from_get() {
    check(2, || {
        let bench = Arc::new(Bench::layered(1, 2));
        assert!(bench.evict(1));
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        let first = bench.get().expect("two are idle");
        let second = bench.get().expect("one is idle");
        bench.release(first);
        bench.release(second);
        other.join().unwrap();
        bench.account(2);
    });
}

/// The top is a spare of a seat whose own ticket lies below it, void: compaction sends that
/// home while the connection is in use, or copies the spare.
#[test]
fn a_spare_on_top_is_found_while_the_rest_is_compacted() {
    check(3, || {
        let bench = Arc::new(Bench::replaced(0, 1));
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        for _ in 0..2 {
            let held = bench.get().expect("one is idle");
            bench.release(held);
        }
        other.join().unwrap();
        bench.account(1);
    });
}

/// The only connection lies in the oldest stack, and is copied to the middle one.
#[test]
fn the_only_connection_is_found_while_it_is_moved() {
    check(3, || {
        let bench = Arc::new(Bench::layered(1, 0));
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        let held = bench.get().expect("one is idle");
        bench.release(held);
        other.join().unwrap();
        bench.account(1);
    });
}

/// The walk down the old stack stands on a ticket that is taken, given back, and used
/// again elsewhere: what hangs below it now is not the rest of the old stack.
#[test]
fn a_ticket_that_is_used_again_does_not_mislead_a_copy() {
    check(2, || {
        let bench = Arc::new(Bench::layered(2, 0));
        let next = bench.fresh().claim;
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        let held = bench.get().expect("two are idle");
        bench.release(held);
        // A connection that has its own ticket in some lane takes a spare.
        let spare = bench.core.take_spare(next.seat).unwrap();
        let ticket = bench.core.find(spare).ticket;
        ticket.set_incarnation(next.incarnation);
        bench.core.seats.get(next.seat).state.rest(next.incarnation);
        bench.lanes.push(&bench.core, ticket, spare);
        other.join().unwrap();
        bench.core.give_ticket(next.seat);
        bench.account(3);
    });
}

/// Two getters, two connections, one compaction: nobody misses.
#[test]
fn compaction_hides_nothing_from_two_getters() {
    check(1, || {
        let bench = Arc::new(Bench::layered(1, 1));
        let compactor = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        let round = |bench: &Bench| {
            let held = bench.get().expect("a connection for each");
            bench.release(held);
        };
        let other = spawn(&bench, round);
        round(&bench);
        other.join().unwrap();
        compactor.join().unwrap();
        bench.account(2);
    });
}

/// A push that began in an epoch long gone must not land in a stack that is about to
/// be taken away.
#[test]
fn a_slow_push_is_not_lost_in_compaction() {
    check(3, || {
        let bench = Arc::new(Bench::layered(1, 0));
        let held = bench.fresh();
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
            bench.lanes.compact(&bench.core);
            bench.lanes.compact(&bench.core);
        });
        bench.release(held);
        other.join().unwrap();
        bench.account(2);
    });
}

/// Two threads compact. One of them goes away.
#[test]
fn two_compactions_lose_nothing() {
    check(3, || {
        let bench = Arc::new(Bench::layered(1, 1));
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        bench.lanes.compact(&bench.core);
        other.join().unwrap();
        bench.account(2);
    });
}

/// A compaction that comes after another one turns the ring from where that left it.
#[test]
fn a_compaction_sees_the_one_before() {
    check(3, || {
        let bench = Arc::new(Bench::new(1));
        let held = bench.fresh();
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
            bench.release(held);
        });
        bench.lanes.compact(&bench.core);
        other.join().unwrap();
        bench.account(1);
    });
}

/// What was idle before a drain is drained, wherever compaction moves it.
#[test]
fn compaction_hides_nothing_from_drain() {
    check(3, || {
        let bench = Arc::new(Bench::layered(1, 1));
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        assert_eq!(bench.drain(), 2);
        other.join().unwrap();
        bench.account(0);
    });
}

/// As before, with time for the tickets to go once round the ring.
#[test]
fn two_compactions_hide_nothing_from_drain() {
    check(2, || {
        let bench = Arc::new(Bench::layered(1, 0));
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
            bench.lanes.compact(&bench.core);
        });
        assert_eq!(bench.drain(), 1);
        other.join().unwrap();
        bench.account(0);
    });
}

/// A cap counts all idle connections while compaction moves them, whichever of the
/// four stacks comes first in memory.
#[test]
fn compaction_hides_nothing_from_a_cap() {
    for turns in 0..4 {
        check(2, move || {
            let bench = Bench::new(1);
            for _ in 0..turns {
                assert!(bench.lanes.compact(&bench.core));
            }
            bench.release(bench.fresh());
            assert!(bench.lanes.compact(&bench.core));
            let held = bench.fresh();
            let bench = Arc::new(bench);
            let other = spawn(&bench, |bench| {
                bench.lanes.compact(&bench.core);
            });
            let ticket = bench.ready(&held);
            assert!(!bench.lanes.push_capped(&bench.core, ticket, 1));
            bench.core.give_ticket(ticket);
            // It was not pushed, and is not idle.
            let state = &bench.core.seats.get(held.claim.seat).state;
            assert!(state.seize(held.claim.incarnation));
            other.join().unwrap();
            bench.account(1);
        });
    }
}

/// A release that was slow counts an empty lane. Meanwhile the ring turns, and another
/// one uses up the room on the next stack.
#[test]
fn a_cap_is_kept_while_the_ring_turns() {
    check(3, || {
        let bench = Arc::new(Bench::new(1));
        let release = |bench: &Bench, held: Held| {
            let ticket = bench.ready(&held);
            if !bench.lanes.push_capped(&bench.core, ticket, 1) {
                bench.core.give_ticket(ticket);
            }
        };
        let (one, two) = (bench.fresh(), bench.fresh());
        let other = spawn(&bench, move |bench| {
            bench.lanes.compact(&bench.core);
            release(bench, one);
        });
        release(&bench, two);
        other.join().unwrap();
        bench.account(1);
    });
}

/// A connection is evicted while it is copied: the copy is void, or not made.
#[test]
fn eviction_during_compaction_leaves_no_live_copy() {
    check(3, || {
        let bench = Arc::new(Bench::layered(1, 1));
        let other = spawn(&bench, |bench| {
            bench.lanes.compact(&bench.core);
        });
        assert!(bench.evict(0));
        other.join().unwrap();
        bench.account(1);
    });
}
