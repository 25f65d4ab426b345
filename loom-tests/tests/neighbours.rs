//! What peers of one pool do to each other, with all that a managed pool has: nudges, streams,
//! limits that change, and places that somebody starves for. Nobody is forgotten, and all adds
//! up.

mod common;

#[path = "common/town/mod.rs"]
mod town;

use common::{Ledger, check};
use slabpool::model::Way;
use town::*;

/// A connection becomes idle that one of its peer was nudged for, while another peer starves:
/// whichever of them gets it, the other gets what comes then.
#[test]
fn a_nudge_against_starve() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(1, 1, true);
        let lease = town.lease(0, ledger.connection(0));
        let own = town.sleep(0);
        let other = spawn(&town, |town| town.sleep(1));
        town.release(0, lease);
        let other = other.join().unwrap();
        town.satisfy(vec![own, other]);
        town.settle(&ledger, 1);
    });
}

/// The one who was nudged looks while his connection is closed for another peer.
#[test]
fn a_look_against_eviction() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(1, 1, true);
        let lease = town.lease(0, ledger.connection(0));
        let (mut own, other) = (town.sleep(0), town.sleep(1));
        let looks = spawn(&town, move |town| {
            if own.is_awake() {
                own.poll(town);
            }
            own
        });
        town.release(0, lease);
        let own = looks.join().unwrap();
        town.satisfy(vec![own, other]);
        town.settle(&ledger, 1);
    });
}

/// ... and goes away: the other peer is fed, and the next of its own is nudged.
#[test]
fn a_look_and_cancel_against_starve() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(1, 1, true);
        let lease = town.lease(0, ledger.connection(0));
        let (mut goes, stays, other) = (town.sleep(0), town.sleep(0), town.sleep(1));
        let looks = spawn(&town, move |town| {
            goes.poll(town);
            goes.leave(town);
        });
        town.release(0, lease);
        looks.join().unwrap();
        town.satisfy(vec![stays, other]);
        town.settle(&ledger, 1);
    });
}

/// The last stream of a connection ends while somebody at another peer comes to starve: the
/// connection is idle then, and closed for him.
#[test]
fn the_last_stream_against_starve() {
    check(3, || {
        let ledger = Ledger::default();
        let town = town(1, 1, false);
        let stream = town.open_new(0, ledger.connection(0));
        let other = spawn(&town, |town| town.sleep(1));
        town.end(stream);
        let other = other.join().unwrap();
        town.satisfy(vec![other]);
        town.settle(&ledger, 1);
    });
}

/// The same while one comes who shares: he counts on what is about to be idle, and may connect
/// if that is closed.
#[test]
fn the_last_stream_against_share_and_starve() {
    check(1, || {
        let ledger = Ledger::default();
        let town = town(1, 1, false);
        let stream = town.open_new(0, ledger.connection(0));
        let other = town.sleep(1);
        let shares = spawn(&town, |town| match town.share(0) {
            Ok(stream) => {
                town.end(stream);
                None
            }
            Err(sleeper) => Some(sleeper),
        });
        town.end(stream);
        let mut waiting = vec![other];
        waiting.extend(shares.join().unwrap());
        town.satisfy(waiting);
        town.settle(&ledger, 1);
    });
}

/// A sharer starves, with his wish covered by a channel that ends: he gets it, or a place.
#[test]
fn the_last_stream_against_a_sharer_who_starves() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(1, 2, false);
        town.limit.set(1);
        let stream = town.open_new(0, ledger.connection(0));
        let shares = spawn(&town, |town| town.share(0));
        town.end(stream);
        match shares.join().unwrap() {
            Ok(stream) => town.end(stream),
            Err(sleeper) => town.satisfy(vec![sleeper]),
        }
        town.settle(&ledger, 1);
    });
}

/// The limit is raised while one waits to share what has no room: he may connect, or has it.
#[test]
fn raised_against_share() {
    check(1, || {
        let ledger = Ledger::default();
        let town = town(4, 1, false);
        town.limit.set(1);
        let stream = town.open_new(0, ledger.connection(0));
        let shares = spawn(&town, |town| town.share(0).expect_err("there is no room"));
        town.resize(2);
        let shares = shares.join().unwrap();
        assert_eq!(town.desk(0).word.load().connecting(), 1);
        town.satisfy(vec![shares]);
        town.end(stream);
        town.settle(&ledger, 1);
    });
}

/// The limit is lowered while the last stream of one of two connections ends: one of them goes,
/// now or when its turn comes.
#[test]
fn lowered_against_the_last_stream() {
    check(1, || {
        let ledger = Ledger::default();
        let town = town(4, 2, false);
        let stream = town.open_new(0, ledger.connection(0));
        let lease = town.lease(0, ledger.connection(1));
        let other = spawn(&town, move |town| town.release(0, lease));
        let third = spawn(&town, move |town| town.end(stream));
        town.resize(1);
        other.join().unwrap();
        third.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 1);
        town.settle(&ledger, 2);
    });
}

/// A connection is held for a look while its last stream ends: whoever lets go last owns it.
#[test]
fn hold_against_the_last_stream() {
    check(3, || {
        let ledger = Ledger::default();
        let town = town(1, 1, false);
        let stream = town.open_new(0, ledger.connection(0));
        let looker = spawn(&town, |town| town.refresh(0, 3));
        town.end(stream);
        looker.join().unwrap();
        assert_eq!(ledger.dropped_in_all(), 0);
        town.settle(&ledger, 1);
    });
}

/// ... while another one comes for the connection alone, who must not meet the look.
#[test]
fn hold_against_the_last_stream_and_get() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(1, 1, false);
        let stream = town.open_new(0, ledger.connection(0));
        let looker = spawn(&town, |town| town.refresh(0, 2));
        let user = spawn(&town, |town| {
            if let Some(lease) = town.peers[0].group.get_owned() {
                town.release(0, lease);
            }
        });
        town.end(stream);
        looker.join().unwrap();
        user.join().unwrap();
        town.settle(&ledger, 1);
    });
}

/// A look finds that the connection serves more, while one comes to wait: it is his.
#[test]
fn a_look_that_finds_more_against_share() {
    check(3, || {
        let ledger = Ledger::default();
        let town = town(1, 1, false);
        town.limit.set(1);
        let stream = town.open_new(0, ledger.connection(0));
        let shares = spawn(&town, |town| town.share(0));
        town.refresh(0, 2);
        match shares.join().unwrap() {
            Ok(stream) => town.end(stream),
            Err(sleeper) => town.satisfy(vec![sleeper]),
        }
        town.end(stream);
        town.settle(&ledger, 1);
    });
}

/// A connection is drained while it is held: whoever lets go last closes it.
#[test]
fn hold_against_drain() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(1, 1, false);
        let stream = town.open_new(0, ledger.connection(0));
        let looker = spawn(&town, |town| town.refresh(0, 2));
        let drainer = spawn(&town, |town| {
            town.desk(0).drain_channels().into_iter().for_each(|index| town.finish(index));
        });
        town.end(stream);
        looker.join().unwrap();
        drainer.join().unwrap();
        // It may have been idle when nothing was there to be drained.
        town.peers[0].group.clear();
        assert_eq!(ledger.dropped_in_all(), 1);
        town.settle(&ledger, 1);
    });
}

/// There is room in a channel again while another one ends, and whoever comes without a lock
/// goes by the hint: what he finds is a stream, or nothing.
#[test]
fn warm_against_the_last_stream() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(2, 2, false);
        let older = town.open_new(0, ledger.connection(0));
        let full = town.share(0).ok().expect("there is room");
        assert_eq!(full.channel, older.channel);
        let newer = town.open_new(0, ledger.connection(1));
        let other = spawn(&town, move |town| town.end(full));
        let third = spawn(&town, |town| town.hinted(0).into_iter().for_each(|s| town.end(s)));
        town.end(newer);
        other.join().unwrap();
        third.join().unwrap();
        let next = town.share(0).ok().expect("there is room");
        assert_eq!(next.channel, older.channel);
        town.end(next);
        town.end(older);
        town.settle(&ledger, 2);
    });
}

/// A peer goes down while two wait to share what is being opened: each is told, or sees it
/// himself.
#[test]
fn down_against_share() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(4, 2, false);
        let mut first = town.share(0).expect_err("nothing is there");
        let grant = town.start(&mut first);
        let other = spawn(&town, |town| {
            let other = town.share(0).expect_err("nothing is there");
            (other, town.desk(0).refuses())
        });
        town.fail(&first, grant, true);
        let (mut other, refused) = other.join().unwrap();
        assert!(first.is_awake());
        first.poll(&town);
        assert!(first.was_told("refused"));
        other.poll(&town);
        let told = other.was_told("down") || other.was_told("refused");
        assert!(told || (refused && other.news.is_none()), "forgotten");
        first.leave(&town);
        other.leave(&town);
        town.desk(0).recover(&town.bounds, || Grant::of(0));
        town.settle(&ledger, 0);
    });
}

/// ... and the only stream there is ends meanwhile: it is his who waits, unless he is told.
#[test]
fn down_against_the_last_stream() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(4, 2, false);
        town.limit.set(1);
        let stream = town.open_new(0, ledger.connection(0));
        let mut waits = town.share(0).expect_err("there is no room");
        let grant = town.start(&mut waits);
        let other = spawn(&town, move |town| town.end(stream));
        town.fail(&waits, grant, true);
        other.join().unwrap();
        assert!(waits.is_awake(), "forgotten");
        waits.poll(&town);
        if waits.was_told("refused") {
            waits.leave(&town);
        } else {
            town.satisfy(vec![waits]);
        }
        town.desk(0).recover(&town.bounds, || Grant::of(0));
        town.settle(&ledger, 1);
    });
}

/// The one connect fails that two wait for who share, beside a connection that serves one: the
/// other is told, gets that when it is released, or may connect.
#[test]
fn a_failed_connect_against_share() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(4, 2, false);
        let lease = town.lease(0, ledger.connection(0));
        let mut first = town.share(0).expect_err("nothing is idle");
        let grant = town.start(&mut first);
        let other = spawn(&town, |town| town.share(0).expect_err("nothing is idle"));
        town.fail(&first, grant, false);
        let mut other = other.join().unwrap();
        first.leave(&town);
        assert!(other.is_awake(), "forgotten");
        other.poll(&town);
        if other.was_told("refused") {
            other.leave(&town);
        } else {
            town.satisfy(vec![other]);
        }
        town.release(0, lease);
        town.settle(&ledger, 1);
    });
}

/// A peer that starves goes down while somebody comes to starve at another one: the place that
/// was to be had is his.
#[test]
fn down_against_starve() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(2, 2, false);
        let lease = town.lease(0, ledger.connection(0));
        let (mut tries, mut starves) = (town.sleep(1), town.sleep(1));
        let grant = town.start(&mut tries);
        assert!(starves.news.is_none(), "there is one place");
        let other = spawn(&town, |town| town.sleep(0));
        town.fail(&tries, grant, true);
        let other = other.join().unwrap();
        assert!(starves.is_awake(), "forgotten");
        starves.poll(&town);
        assert!(starves.was_told("refused"));
        tries.leave(&town);
        starves.leave(&town);
        town.satisfy(vec![other]);
        town.desk(1).recover(&town.bounds, || Grant::of(1));
        town.release(0, lease);
        town.settle(&ledger, 1);
    });
}

/// The connection is of no more use that one who shares has found, and another one waits for
/// him to open it: that one may connect.
#[test]
fn a_prospect_in_vain_against_share() {
    check(2, || {
        let ledger = Ledger::default();
        let town = town(1, 1, false);
        town.lease(0, ledger.connection(0)).release();
        assert_eq!(town.desk(0).enter(), Way::Look);
        let lease = town.peers[0].group.get_owned().expect("one is idle");
        let other = spawn(&town, |town| town.share(0).expect_err("nobody has opened it"));
        lease.close();
        town.desk(0).unprospect(false, &town.bounds, || Grant::of(0));
        town.satisfy(vec![other.join().unwrap()]);
        town.settle(&ledger, 1);
    });
}
