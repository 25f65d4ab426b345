//! Lanes lose no ticket and hide none, whatever pops, pushes, compacts and drains them
//! at once.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{check, check_all};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use slabpool::model::{Claim, Core, Lanes, choose_lane};

/// The lanes of one group and their seats. Owning a seat is owning its cell.
struct Bench {
    core: Core,
    lanes: Lanes,
    cells: Vec<UnsafeCell<()>>,
}

/// A seat that is leased, and its ticket.
struct Held {
    ticket: u32,
    claim: Claim,
}

impl Bench {
    /// Lanes without a ticket.
    fn new(lanes: usize) -> Self {
        let cells = (0..8).map(|_| UnsafeCell::new(())).collect();
        Self { core: Core::new(), lanes: Lanes::new(lanes), cells }
    }

    /// One lane with so many tickets in the middle stack and the current one, oldest
    /// seat first.
    fn layered(middle: usize, current: usize) -> Self {
        let bench = Self::new(1);
        for _ in 0..middle {
            bench.release(bench.fresh());
        }
        assert!(bench.lanes.compact(&bench.core));
        for _ in 0..current {
            bench.release(bench.fresh());
        }
        bench
    }

    /// A new seat, leased.
    fn fresh(&self) -> Held {
        let seat = self.core.take_seat().unwrap();
        let incarnation = self.core.seats.get(seat).state.load().incarnation();
        Held { ticket: self.core.take_ticket(seat).unwrap(), claim: Claim { seat, incarnation } }
    }

    fn touch(&self, claim: Claim) {
        self.cells[claim.seat as usize].with_mut(|_| {});
    }

    /// What `Engine::lease` does: one attempt at the common case, then all of it.
    fn get(&self) -> Option<Held> {
        let home = self.lanes.pop_home(&self.core).map(|(ticket, _)| ticket);
        let mut popped = home.map(|ticket| (ticket, self.core.find(ticket)));
        while let Some((ticket, found)) = popped.take().or_else(|| self.lanes.pop(&self.core)) {
            let claim = found.claim();
            if found.seat.state.claim(claim.incarnation).is_ok() {
                self.touch(claim);
                let claim = Claim { incarnation: claim.incarnation + 1, ..claim };
                return Some(Held { ticket, claim });
            }
            self.core.give_ticket(ticket);
        }
        None
    }

    /// All of a release but the push. Returns the ticket to be pushed.
    fn ready(&self, held: &Held) -> u32 {
        self.touch(held.claim);
        let Claim { seat, incarnation } = held.claim;
        let ticket =
            if held.ticket == seat { seat } else { self.core.prefer_home(held.ticket, seat) };
        self.core.find(ticket).ticket.set_incarnation(incarnation);
        self.core.seats.get(seat).state.rest(incarnation);
        ticket
    }

    fn release(&self, held: Held) {
        let ticket = self.ready(&held);
        self.lanes.push(self.core.find(ticket).ticket, ticket);
    }

    /// Removes an idle connection by its seat. Its ticket stays behind.
    fn evict(&self, seat: u32) -> bool {
        let state = &self.core.seats.get(seat).state;
        let claim = Claim { seat, incarnation: state.load().incarnation() };
        let seized = state.seize(claim.incarnation);
        if seized {
            self.touch(claim);
            state.vacate(claim.incarnation);
        }
        seized
    }

    fn drain(&self) -> usize {
        let mut seized = 0;
        self.lanes.drain(&self.core, |claim| {
            let state = &self.core.seats.get(claim.seat).state;
            if state.seize(claim.incarnation) {
                self.touch(claim);
                state.vacate(claim.incarnation);
                seized += 1;
            }
        });
        seized
    }

    /// At rest: exactly `idle` connections are found, every seat's ticket comes home,
    /// and every spare is free once.
    fn account(&self, idle: usize) {
        let held: Vec<Held> = std::iter::from_fn(|| self.get()).collect();
        assert_eq!(held.len(), idle, "idle connections that can be found");
        for held in held {
            self.core.give_ticket(held.ticket);
        }
        let seats = self.core.seats.high_water() as usize;
        for (_, seat) in self.core.seats.iter() {
            assert!(seat.ticket.leave_home(), "a seat's ticket is not at home");
        }
        let count = self.core.tickets_max() - seats;
        let free: BTreeSet<u32> = (0..count).map(|_| self.core.take_spare(0).unwrap()).collect();
        assert_eq!(free.len(), count, "a spare is twice in the free list");
        assert_eq!(self.core.tickets_max(), seats + count, "a spare is not in the free list");
    }
}

fn spawn(bench: &Arc<Bench>, body: impl FnOnce(&Bench) + Send + 'static) -> thread::JoinHandle<()> {
    let bench = Arc::clone(bench);
    thread::spawn(move || body(&bench))
}

/// One thread has read the top ticket and the one below it. Another takes both, and
/// puts the first back: the same ticket is on top again, but what is below is not.
#[test]
fn pop_is_immune_to_aba() {
    check_all(|| {
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
        bench.lanes.push(ticket, spare);
        other.join().unwrap();
        bench.core.give_ticket(next.seat);
        bench.account(3);
    });
}

/// Two getters, two connections, one compaction: nobody misses.
#[test]
fn compaction_hides_nothing_from_two_getters() {
    check(2, || {
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
