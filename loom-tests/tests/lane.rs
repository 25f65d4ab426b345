//! Lanes lose no ticket and hide none, whatever pops and pushes at once.

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::sync::Arc;

use bench::{Bench, Held, spawn};
use common::{check, check_all};
use loom::sync::atomic::{AtomicBool, Ordering};
use slabpool::model::choose_lane;

/// One thread has read the top ticket and the one below it. Another takes both, and
/// puts the first back: the same ticket is on top again, but what is below is not.
#[test]
fn pop_is_immune_to_aba() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 2));
        let other = spawn(&bench, |bench| {
            let first = bench.get();
            let second = bench.get();
            let _still_held = second;
            if let Some(first) = first {
                bench.release(first);
            }
            if let Some(second) = _still_held {
                bench.release(second);
            }
        });
        let held = bench.get();
        if let Some(held) = held {
            bench.release(held);
        }
        other.join().unwrap();
        bench.account(2);
    });
}

/// A push that was slow meets a head which others have emptied and filled again.
#[test]
fn push_is_immune_to_aba() {
    check_all(|| {
        let bench = Arc::new(Bench::layered(0, 1));
        let held = bench.fresh();
        let other = spawn(&bench, |bench| {
            let held = bench.get();
            if let Some(held) = held {
                bench.release(held);
            }
        });
        bench.release(held);
        other.join().unwrap();
        bench.account(2);
    });
}

/// The reverse of order is kept on one thread while another comes and goes.
#[test]
fn the_last_release_is_the_first_to_go() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 1));
        let other = spawn(&bench, |bench| bench.lanes.compact(&bench.core).then_some(()).unwrap());
        let held = bench.fresh();
        let seat = held.claim.seat;
        bench.release(held);
        let held = bench.get().expect("it was just released");
        assert_eq!(held.claim.seat, seat);
        bench.release(held);
        other.join().unwrap();
        bench.account(2);
    });
}

/// Three threads, two connections: nobody shares one.
#[test]
fn three_threads_never_share_a_seat() {
    check(2, || {
        let bench = Arc::new(Bench::layered(0, 2));
        let round = |bench: &Bench| {
            if let Some(held) = bench.get() {
                bench.release(held);
            }
        };
        let others = [spawn(&bench, round), spawn(&bench, round)];
        round(&bench);
        for other in others {
            other.join().unwrap();
        }
        bench.account(2);
    });
}

/// A walk stands on a ticket that is pushed again, above one from a chunk which was made
/// meanwhile.
#[test]
fn a_walk_that_strays_finds_what_the_tickets_name() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 1));
        let spent = [bench.fresh(), bench.fresh(), bench.fresh()];
        let other = spawn(&bench, |bench| {
            bench.lanes.live(&bench.core);
        });
        let held = bench.get().expect("one is idle");
        bench.release(bench.fresh());
        bench.release(held);
        other.join().unwrap();
        for held in spent {
            bench.release(held);
        }
        bench.account(5);
    });
}

/// Two releases, room for one.
#[test]
fn a_cap_is_kept_by_two_releases() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 1));
        let release = |bench: &Bench, held: Held| {
            let ticket = bench.ready(&held);
            if !bench.lanes.push_capped(&bench.core, ticket, 2) {
                bench.core.give_ticket(ticket);
            }
        };
        let (one, two) = (bench.fresh(), bench.fresh());
        let other = spawn(&bench, move |bench| release(bench, one));
        release(&bench, two);
        other.join().unwrap();
        bench.account(2);
    });
}

/// Trimming takes void tickets from the top, and no others.
#[test]
fn trim_takes_only_void_tickets() {
    check(3, || {
        let bench = Arc::new(Bench::layered(0, 2));
        assert!(bench.evict(1));
        let other = spawn(&bench, |bench| {
            bench.lanes.trim(&bench.core);
        });
        let held = bench.get().expect("one is idle");
        bench.release(held);
        other.join().unwrap();
        bench.account(1);
    });
}

/// Two threads take connections of which one has a spare, and a seat whose own ticket lies
/// at the bottom, void. Whoever meets that sends it home, perhaps just when the spare is
/// given up for it.
#[test]
fn a_spare_gives_way_to_the_ticket_that_comes_home() {
    check(2, || {
        let bench = Arc::new(Bench::replaced(0, 2));
        let rounds = |bench: &Bench| {
            let (first, second) = (bench.get(), bench.get());
            for held in [first, second].into_iter().flatten() {
                bench.release(held);
            }
        };
        let other = spawn(&bench, rounds);
        rounds(&bench);
        other.join().unwrap();
        bench.account(2);
    });
}

/// A thread of the first lane gets while another moves connections between lanes: at
/// each moment at least one is idle, though not always the same.
#[test]
fn a_miss_is_proved_across_lanes() {
    check(3, || {
        let bench = Arc::new(Bench::new(2));
        choose_lane(1);
        bench.release(bench.fresh());
        let mut held = bench.fresh();
        choose_lane(0);
        let other = spawn(&bench, |bench| {
            for round in 0..3 {
                // Put one into this lane, then take the one in the other lane.
                choose_lane(round % 2);
                bench.release(held);
                choose_lane((round + 1) % 2);
                let Some(next) = bench.get() else { return };
                held = next;
            }
            bench.release(held);
        });
        let held = bench.get().expect("one is idle at each moment");
        bench.release(held);
        other.join().unwrap();
        bench.account(2);
    });
}

/// One thread puts a connection into the other lane, then leases one in place. Another takes
/// the ticket of that away as it releases its own, and gets. Who sees the lane empty then
/// must see the first connection.
#[test]
fn who_takes_a_ticket_away_knows_what_the_getter_knew() {
    check(2, || {
        let bench = Arc::new(Bench::new(2));
        choose_lane(0);
        bench.release(bench.fresh());
        let [first, second] = std::array::from_fn(|_| bench.fresh());
        let over = spawn(&bench, move |bench| {
            choose_lane(0);
            bench.release(second);
            let held = bench.get().expect("there are more than getters");
            bench.release(held);
        });
        let prover = spawn(&bench, |bench| {
            choose_lane(1);
            let held = bench.get().expect("there are more than getters");
            bench.release(held);
        });
        choose_lane(1);
        bench.release(first);
        choose_lane(0);
        let held = bench.get();
        choose_lane(1);
        held.into_iter().for_each(|held| bench.release(held));
        over.join().unwrap();
        prover.join().unwrap();
        bench.account(3);
    });
}

/// One thread puts a connection into its lane and says so. Another, which knows that,
/// takes the only connection of its own lane. Who sees that lane empty must see the
/// first one as well.
#[test]
fn who_sees_a_pop_sees_what_the_popper_knew() {
    check(2, || {
        let bench = Arc::new(Bench::new(2));
        bench.release(bench.fresh());
        let held = bench.fresh();
        let said = Arc::new(AtomicBool::new(false));
        let releaser = {
            let said = Arc::clone(&said);
            spawn(&bench, move |bench| {
                choose_lane(1);
                bench.release(held);
                said.store(true, Ordering::Release);
            })
        };
        let getter = spawn(&bench, move |bench| {
            if said.load(Ordering::Acquire) {
                let held = bench.get().expect("one for each");
                bench.release(held);
            }
        });
        let held = bench.get().expect("one is idle at each moment");
        bench.release(held);
        releaser.join().unwrap();
        getter.join().unwrap();
        bench.account(2);
    });
}
