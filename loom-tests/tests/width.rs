//! Groups get lanes, and use fewer of them again, while they are in use: nothing is hidden by
//! that, and whoever raises the tags of all lanes meets those who push to lanes that appear.

#[path = "common/bench.rs"]
mod bench;
mod common;
#[path = "common/desk.rs"]
mod desk;

use std::sync::Arc;

use bench::{Bench, spawn};
use common::{Conn, Handle, Ledger, check, handle, with_group};
use desk::{leased, peer, release, sleep};
use slabpool::model::{IN_PLACE, Lanes, Watched, choose_lane, widen};
use slabpool::{Pool, PooledOwned, Token};

/// A get looks through one lane while another one appears, gets a connection, and the first
/// loses its own: at each moment one is idle.
#[test]
fn a_get_while_lanes_appear() {
    check(3, || {
        let bench = Arc::new(Bench::adaptive());
        bench.release(bench.fresh());
        let held = bench.fresh();
        let other = spawn(&bench, |bench| {
            bench.lanes.widen();
            choose_lane(1);
            bench.release(held);
            choose_lane(0);
            let held = bench.get().expect("one for each");
            bench.release(held);
        });
        let held = bench.get().expect("one is idle at each moment");
        bench.release(held);
        other.join().unwrap();
        bench.account(2);
    });
}

/// Two threads allot lanes at once, and push to what they have found.
#[test]
fn lanes_are_allotted_once() {
    check(3, || {
        let bench = Arc::new(Bench::adaptive());
        let held = bench.fresh();
        let other = spawn(&bench, |bench| {
            choose_lane(1);
            bench.lanes.widen();
            bench.release(held);
        });
        choose_lane(1);
        let held = bench.fresh();
        bench.lanes.widen();
        bench.release(held);
        other.join().unwrap();
        bench.account(2);
    });
}

/// A thread uses lanes that another one has allotted a moment ago.
#[test]
fn lanes_are_there_when_they_are_found() {
    check(3, || {
        let bench = Arc::new(Bench::adaptive());
        let other = spawn(&bench, |bench| bench.lanes.widen());
        choose_lane(1);
        bench.release(bench.fresh());
        let held = bench.get().expect("it was just released");
        bench.release(held);
        other.join().unwrap();
        bench.account(1);
    });
}

/// A connection is leased in place in a lane that is not used any more when it comes back.
#[test]
fn narrowing_while_a_lease_is_out() {
    check(3, || {
        let bench = Arc::new(Bench::adaptive());
        bench.lanes.widen();
        choose_lane(1);
        bench.release(bench.fresh());
        let held = bench.get().unwrap();
        assert_eq!(held.ticket, IN_PLACE | 1);
        let other = spawn(&bench, |bench| {
            bench.lanes.narrow();
            if let Some(held) = bench.get() {
                bench.release(held);
            }
        });
        bench.release(held);
        other.join().unwrap();
        bench.account(1);
    });
}

/// Two threads of different lanes, and what there is lies in a lane that is used no more.
#[test]
fn both_steal_from_a_lane_that_is_not_used() {
    check(2, || {
        let bench = Arc::new(Bench::adaptive());
        bench.lanes.widen();
        choose_lane(1);
        bench.release(bench.fresh());
        bench.release(bench.fresh());
        bench.lanes.narrow();
        choose_lane(0);
        let round = |bench: &Bench| {
            let held = bench.get().expect("one for each");
            bench.release(held);
        };
        let other = spawn(&bench, round);
        round(&bench);
        other.join().unwrap();
        bench.account(2);
    });
}

/// Lanes that are strained just as maintenance loses interest in them are not forgotten.
#[test]
fn strained_against_forgotten() {
    check(3, || {
        let bench = Arc::new(Bench::adaptive());
        let mut watched = Watched::default();
        let mut tick = 0;
        let mut step = |watched: &mut Watched| {
            tick += 1;
            // SAFETY: the bench has the lanes.
            unsafe { watched.step(&bench.core, tick) };
        };
        bench.lanes.strained(&bench.core);
        step(&mut watched);
        assert_eq!((bench.lanes.in_use(), watched.count()), (2, 1));
        bench.lanes.narrow();
        let other = spawn(&bench, |bench| bench.lanes.strained(&bench.core));
        step(&mut watched);
        step(&mut watched);
        other.join().unwrap();
        (0..6).for_each(|_| step(&mut watched));
        assert_eq!((bench.lanes.in_use(), watched.count()), (1, 0));
    });
}

/// Two groups are strained at once, while maintenance takes the list.
#[test]
fn everybody_on_the_list_is_found() {
    check(3, || {
        let (bench, second) = (Arc::new(Bench::adaptive()), Arc::new(Lanes::adaptive(2)));
        let other = {
            let second = Arc::clone(&second);
            spawn(&bench, move |bench| second.strained(&bench.core))
        };
        bench.lanes.strained(&bench.core);
        let mut watched = Watched::default();
        // SAFETY: the lanes are ours.
        unsafe { watched.step(&bench.core, 1) };
        other.join().unwrap();
        // SAFETY: as above.
        unsafe { watched.step(&bench.core, 1) };
        let used = [bench.lanes.in_use(), second.in_use()];
        assert_eq!((used, watched.count()), ([2, 2], 2));
    });
}

/// A pool whose groups may have two lanes. Connection 0 is leased, with its ticket, so that
/// its release pushes it to the lane of whoever releases it. Connection 1 is leased too.
type Scene = (Pool<u8, Conn>, Handle, Token, [PooledOwned<u8, Conn>; 2]);

fn scene(ledger: &Ledger) -> Scene {
    let pool = Pool::builder().capacity(4).idle_timeout(None).build().unwrap();
    let group = handle(&pool, 1);
    let token = group.put(ledger.connection(0)).unwrap();
    group.put(ledger.connection(1)).unwrap();
    let upper = group.get_owned().unwrap();
    let lower = group.get_owned().unwrap();
    assert_eq!((upper.number, lower.number), (1, 0));
    (pool, group, token, [lower, upper])
}

/// One thread allots a lane, another one pushes to it if it finds it, and a third one does
/// something after which the connection must be gone.
fn release_into_a_new_lane_against(deed: fn(&Handle, Token)) {
    check(2, move || {
        let ledger = Ledger::default();
        let (pool, group, token, [lower, upper]) = scene(&ledger);
        let widens = with_group(&group, |group| widen(&group));
        let other = with_group(&group, move |group| deed(&group, token));
        choose_lane(1);
        lower.release();
        widens.join().unwrap();
        other.join().unwrap();
        assert_eq!(ledger.dropped(0), 1, "closed by now, not at the next get");
        assert_eq!(pool.status().idle, 0);
        drop(upper);
        group.resume();
        drop(group);
        ledger.settle(pool, 2);
    });
}

#[test]
fn evict_against_a_release_into_a_new_lane() {
    release_into_a_new_lane_against(|group, token| assert!(group.pool().evict(token)));
}

#[test]
fn drain_against_a_release_into_a_new_lane() {
    release_into_a_new_lane_against(|group, _| group.drain());
}

#[test]
fn close_against_a_release_into_a_new_lane() {
    release_into_a_new_lane_against(|group, _| group.pool().close());
}

/// ... and a third one comes to wait for the connection: it is his.
#[test]
fn wait_against_a_release_into_a_new_lane() {
    check(2, || {
        let ledger = Ledger::default();
        let (pool, group, _, [lower, upper]) = scene(&ledger);
        let peer = peer(&group, true);
        let widens = with_group(&group, |group| widen(&group));
        let waiter = desk::spawn(&peer, |peer| sleep(&peer));
        choose_lane(1);
        release(&peer, lower);
        widens.join().unwrap();
        let lease = leased(waiter.join().unwrap().end(&peer));
        release(&peer, lease);
        drop(upper);
        desk::free(&peer, false);
        desk::settle(peer, group, pool, &ledger, 2);
    });
}
