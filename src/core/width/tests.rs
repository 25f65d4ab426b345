use std::sync::atomic::{AtomicBool as Flag, AtomicUsize};
use std::thread;

use super::*;
use crate::core::strained::Watched;
use crate::core::ticket::Claim;

/// Makes a new connection idle.
fn fill(core: &Core, lanes: &Lanes) -> u32 {
    let index = core.take_seat().unwrap();
    let ticket = core.take_ticket(index).unwrap();
    release(core, lanes, ticket, Claim { seat: index, incarnation: 0 });
    index
}

fn get(core: &Core, lanes: &Lanes) -> Option<(u32, Claim)> {
    while let Some((ticket, found)) = lanes.pop(core) {
        let claim = found.claim();
        if found.seat.state.claim(claim.incarnation).is_ok() {
            return Some((ticket, Claim { incarnation: claim.incarnation + 1, ..claim }));
        }
        core.give_ticket(ticket);
    }
    None
}

fn release(core: &Core, lanes: &Lanes, ticket: u32, claim: Claim) {
    let found = core.find(ticket).ticket;
    found.set_incarnation(claim.incarnation);
    core.seats.get(claim.seat).state.rest(claim.incarnation);
    lanes.push(core, found, ticket);
}

/// One step of maintenance in each tick.
fn step(watched: &mut Watched, core: &Core, tick: u64) {
    // SAFETY: the caller has the lanes (N1).
    unsafe { watched.step(core, tick) };
}

#[test]
fn failures_are_a_strain_if_they_come_together() {
    let (core, lanes) = (Core::new(), Lanes::adaptive(4));
    let mut watched = Watched::default();
    let fail = |count| (0..count).for_each(|_| lanes.disturbed(&core));
    for tick in 1..50 {
        fail(STRAIN - 1);
        step(&mut watched, &core, tick);
    }
    assert_eq!((lanes.in_use(), watched.count()), (1, 0));
    fail(STRAIN);
    assert_eq!(lanes.in_use(), 1, "who fails does not allocate");
    step(&mut watched, &core, 50);
    assert_eq!((lanes.in_use(), lanes.all().count(), watched.count()), (2, 4, 1));
    // They are there now. The thread moves to a lane of its own each time.
    fail(2 * STRAIN);
    assert_eq!(lanes.in_use(), 4);
    fail(9 * STRAIN);
    assert_eq!(lanes.in_use(), 4, "there are no more");
}

#[test]
fn an_insertion_answers_as_well() {
    let (core, lanes) = (Core::new(), Lanes::adaptive(2));
    lanes.answer();
    assert_eq!(lanes.in_use(), 1);
    lanes.strained(&core);
    lanes.answer();
    assert_eq!((lanes.in_use(), lanes.all().count()), (2, 2));
    let mut watched = Watched::default();
    step(&mut watched, &core, 1);
    assert_eq!((lanes.in_use(), watched.count()), (2, 1), "answered once");
}

#[test]
fn a_fixed_number_stays() {
    for count in [1, 3] {
        let (core, lanes) = (Core::new(), Lanes::new(count));
        (0..10 * STRAIN).for_each(|_| lanes.disturbed(&core));
        lanes.answer();
        let mut watched = Watched::default();
        (1..99).for_each(|tick| step(&mut watched, &core, tick));
        assert_eq!((lanes.in_use(), lanes.all().count(), watched.count()), (count, count, 0));
    }
}

#[test]
fn a_group_with_a_cap_uses_one_lane() {
    let (core, lanes) = (Core::new(), Lanes::adaptive(4));
    lanes.widen();
    fill(&core, &lanes);
    lanes.note_cap();
    assert_eq!(lanes.in_use(), 1);
    lanes.strained(&core);
    assert_eq!(lanes.in_use(), 1);
    // The cap is gone.
    lanes.strained(&core);
    assert_eq!(lanes.in_use(), 2);
}

#[test]
fn cold_lanes_go_out_of_use_one_by_one_and_hide_nothing() {
    let (core, lanes) = (Core::new(), Lanes::adaptive(4));
    let mut watched = Watched::default();
    lanes.strained(&core);
    step(&mut watched, &core, 1);
    lanes.strained(&core);
    assert_eq!(lanes.in_use(), 4);
    // One in each lane.
    for _ in 0..4 {
        fill(&core, &lanes);
        change_number();
    }
    // All lanes are busy: nothing changes.
    for tick in 2..40 {
        for lane in lanes.all() {
            (0..BUSY).for_each(|_| lane.barrier());
        }
        step(&mut watched, &core, tick);
        assert_eq!(lanes.in_use(), 4);
    }
    let mut seen = Vec::new();
    for tick in 40..80 {
        step(&mut watched, &core, tick);
        seen.push(lanes.in_use());
    }
    seen.dedup();
    assert_eq!((seen, watched.count()), (vec![4, 2, 1], 0));
    assert_eq!(std::iter::from_fn(|| get(&core, &lanes)).count(), 4);
}

/// Two threads with as many connections, and one that changes the number of lanes all the
/// time, allots the first of them on the way, and compacts them.
#[test]
fn nobody_misses_while_lanes_come_and_go() {
    const USERS: usize = 3;
    let rounds = if cfg!(miri) { 50 } else { 100_000 };
    for _ in 0..3 {
        let (core, lanes) = (Core::new(), Lanes::adaptive(4));
        let owned: Vec<Flag> = (0..USERS).map(|_| Flag::new(false)).collect();
        for _ in 0..USERS {
            fill(&core, &lanes);
        }
        let working = AtomicUsize::new(USERS);
        thread::scope(|scope| {
            for _ in 0..USERS {
                scope.spawn(|| {
                    for round in 0..rounds {
                        let (ticket, claim) = get(&core, &lanes).expect("one for each");
                        let owned = &owned[claim.seat as usize];
                        assert!(!owned.swap(true, Ordering::Acquire), "two owners");
                        owned.store(false, Ordering::Release);
                        if round % 100 == 0 {
                            change_number();
                        }
                        let own = core.seats.get(claim.seat);
                        let ticket = match ticket == claim.seat {
                            true => ticket,
                            false => core.prefer_home(ticket, own, claim.seat),
                        };
                        release(&core, &lanes, ticket, claim);
                    }
                    working.fetch_sub(1, Ordering::Release);
                });
            }
            scope.spawn(|| {
                let mut watched = Watched::default();
                for tick in 0.. {
                    lanes.strained(&core);
                    step(&mut watched, &core, tick);
                    lanes.narrow();
                    lanes.compact(&core);
                    if working.load(Ordering::Acquire) == 0 {
                        break;
                    }
                }
            });
        });
        assert_eq!(std::iter::from_fn(|| get(&core, &lanes)).count(), USERS);
    }
}
