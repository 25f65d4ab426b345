//! A connection that is leased where its ticket lies comes back, whatever becomes of the
//! ticket meanwhile; and nobody leases by a ticket that is another group's by now.

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::sync::Arc;

use bench::{Bench, Held, spawn};
use common::{Handle, Ledger, check, check_all, handle, pool_of, with_group};

/// The newest of `idle` connections is leased in place, and released while another thread
/// does something. Afterwards they are all there.
fn release_against(
    idle: usize,
    preemptions: usize,
    deed: impl Fn(&Bench) + Send + Sync + Copy + 'static,
) {
    check(preemptions, move || {
        let bench = Arc::new(Bench::layered(0, idle));
        let held = bench.get().unwrap();
        let other = spawn(&bench, deed);
        bench.release(held);
        other.join().unwrap();
        bench.account(idle);
    });
}

fn get_and_release(bench: &Bench) {
    if let Some(held) = bench.get() {
        bench.release(held);
    }
}

/// The other thread takes what lies below, and the ticket on top goes home with that.
#[test]
fn a_release_against_a_get_under_it() {
    release_against(2, 3, get_and_release);
}

/// The other thread finds the ticket void, and takes it away, just as it becomes good.
#[test]
fn a_release_against_a_get_of_the_same() {
    release_against(1, 3, get_and_release);
}

/// The next seat is the first of a chunk, in a table that has room for it.
fn before_a_chunk(bench: &Bench) {
    while bench.core.seats.high_water() < 12 {
        bench.core.take_seat().unwrap();
    }
}

/// What lies below is newer than all that the other thread knows of.
#[test]
fn a_get_under_it_finds_what_is_new() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 1));
        before_a_chunk(&bench);
        let held = bench.get().unwrap();
        let other = spawn(&bench, |bench| {
            if let Some(held) = bench.pop() {
                bench.release(held);
            }
        });
        bench.release(bench.fresh());
        bench.release(held);
        let again = bench.get();
        other.join().unwrap();
        if let Some(held) = again {
            bench.release(held);
        }
        bench.account(2);
    });
}

/// A spare that was on top when the other thread looked names what is new.
#[test]
fn a_spare_that_is_used_again_names_what_is_there() {
    check(3, || {
        let bench = Arc::new(Bench::new(1));
        before_a_chunk(&bench);
        push_spare(&bench, 0);
        let other = spawn(&bench, |bench| {
            if let Some((_, found)) = bench.lanes.pop_spare(&bench.core) {
                assert!(matches!(found.claim().seat, 0 | 12));
            }
        });
        if let Some((ticket, _)) = bench.lanes.pop_spare(&bench.core) {
            bench.core.give_ticket(ticket);
            push_spare(&bench, bench.core.take_seat().unwrap());
        }
        other.join().unwrap();
    });
}

fn push_spare(bench: &Bench, seat: u32) {
    let spare = bench.core.take_spare(seat).unwrap();
    bench.lanes.push(&bench.core, bench.core.find(spare).ticket, spare);
}

#[test]
fn a_release_against_trim() {
    release_against(1, 3, |bench| {
        bench.lanes.trim(&bench.core);
    });
}

#[test]
fn a_release_against_compaction() {
    release_against(2, 3, |bench| {
        bench.lanes.compact(&bench.core);
    });
}

#[test]
fn a_release_against_a_barrier() {
    release_against(2, 3, |bench| bench.lanes.barrier());
}

/// Two connections come back to the same top: one was leased in place, the other was not.
#[test]
fn two_releases_on_one_top() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 3));
        let below: Vec<Held> = std::iter::from_fn(|| bench.pop()).take(2).collect();
        let [first, second] = below.try_into().ok().unwrap();
        bench.release(first);
        let in_place = bench.get().unwrap();
        let other = spawn(&bench, |bench| bench.release(second));
        bench.release(in_place);
        other.join().unwrap();
        bench.account(3);
    });
}

/// The same connection is got in place by the one thread while the other, which has just
/// made it idle there, has yet to say so in the head; and then it goes.
#[test]
fn a_release_against_a_get_and_the_end_of_the_connection() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 2));
        let held = bench.get().unwrap();
        let other = spawn(&bench, |bench| {
            for seat in [1, 0] {
                if bench.evict(seat) {
                    bench.lanes.trim(&bench.core);
                    break;
                }
            }
        });
        bench.release(held);
        other.join().unwrap();
        bench.account(1);
    });
}

/// A get has read the ticket on top. Then that connection goes, and its seat and ticket
/// serve another one, of another key.
#[test]
fn a_ticket_of_another_group_leases_nothing() {
    check_all(|| {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(0, &ledger);
        let token = group.put(ledger.connection(0)).unwrap();
        let stranger = handle(&pool, 2);
        let other = with_group(&group, |group| {
            if let Some(lease) = group.get() {
                lease.touch();
                assert_eq!((*lease.key(), lease.number), (1, 0));
                lease.release();
            }
        });
        drop(pool.take(token));
        stranger.put(ledger.connection(1)).unwrap();
        other.join().unwrap();
        let lease = stranger.get().expect("nobody else has the key");
        assert_eq!((*lease.key(), lease.number), (2, 1));
    });
}

/// A get and a release of each of two threads, and what they say of it: no use and no hit
/// too many, though one of them may have had to take its connection back.
#[test]
fn what_is_taken_back_was_not_used() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group) = pool_of(2, &ledger);
        let round = |group: &Handle| {
            let lease = group.get().expect("one is idle");
            lease.touch();
            lease.release();
        };
        let other = with_group(&group, move |group| round(&group));
        round(&group);
        other.join().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.hits, stats.misses.total()), (2, 0));
        let leases: Vec<_> = std::iter::from_fn(|| group.get()).collect();
        let uses: u64 = leases.iter().map(|lease| lease.meta().uses).sum();
        assert_eq!((leases.len(), uses), (2, 4));
        drop(leases);
        drop(group);
        ledger.settle(pool, 2);
    });
}
