//! How many idle connections of a group are younger than one of them.
//!
//! The order is that in which gets would find them: in a lane from the top down. It is
//! what release times say, but where releases raced. Across lanes release times decide,
//! and a connection counts as no younger than any that lies above it; of the same time,
//! the lower lane goes first. So all idle connections of a group are in one order, and of
//! those at rest exactly `n` have fewer than `n` before them.
//!
//! A connection may move from a lane that was read to one that is read after it, by a get
//! and a release in between, and must not count twice. Then it was released at or after
//! the time at which the reading began. So of those in other lanes that were, it cannot be
//! told whether they count; where that makes a difference, there is no rank.
//!
//! A rank is of interest only up to some number, and the search for it stops there: its
//! cost does not grow with the group, but with void tickets on the way.

use crate::core::lanes::Lanes;
use crate::core::ticket::Claim;
use crate::core::{Core, Found};

/// What lies above a ticket in its lane.
struct Above {
    count: u32,
    /// As `count`, but released so late that they may have been counted elsewhere.
    moving: u32,
    /// The oldest release among them.
    oldest: u64,
    met: bool,
}

impl Above {
    fn nothing() -> Self {
        Self { count: 0, moving: 0, oldest: u64::MAX, met: false }
    }

    /// Adds a ticket. False if it is void.
    fn add(&mut self, found: Found<'_>) -> bool {
        let good = found.is_good();
        if good {
            self.oldest = self.oldest.min(found.seat.stamp.get());
        }
        good
    }
}

impl Lanes {
    /// How many of those that `counts` come before an idle connection, if that is less
    /// than `enough`; else `enough`.
    ///
    /// `None` if it cannot be told, because others changed the lanes all the time, or
    /// because the connection is not there. `now` is read before the call. With `prove` each lane was as it was read at
    /// one moment; without, nothing is written to the lanes.
    pub fn rank(
        &self,
        core: &Core,
        claim: Claim,
        enough: u32,
        now: u64,
        prove: bool,
        counts: impl Fn(Found<'_>) -> bool,
    ) -> Option<u32> {
        let stamp = core.seats.get(claim.seat).stamp.get();
        let mut crowded = false;
        for (number, lane) in self.all().enumerate() {
            let above = lane.scan(core, prove, Above::nothing, |above, found| {
                let good = above.add(found);
                above.met = found.claim() == claim;
                above.count += u32::from(good && !above.met && counts(found));
                !above.met && above.count < enough
            })?;
            if above.met {
                let rest = enough - above.count;
                let home = (number, above.oldest);
                return Some(above.count + self.younger(core, home, rest, now, prove, counts)?);
            }
            // Younger than one of these, it would have been met: a get has just taken its
            // ticket, or it is about to be pushed.
            crowded |= above.count >= enough && stamp <= above.oldest;
        }
        // Then it lies below them.
        crowded.then_some(enough)
    }

    /// How many of those that `counts`, up to `enough`, are younger than a connection that
    /// was just taken from the top of a lane, and was released at `stamp`. `now` is read
    /// before that.
    pub fn rank_of_top(
        &self,
        core: &Core,
        stamp: u64,
        enough: u32,
        now: u64,
        counts: impl Fn(Found<'_>) -> bool,
    ) -> Option<u32> {
        if self.all().nth(1).is_none() {
            return Some(0);
        }
        // Before all others of the same time.
        self.younger_than(core, |_, oldest| oldest > stamp, enough, now, true, counts)
    }

    /// How many come before one in the lane `home.0`, of those in the other lanes.
    /// `home.1` is the oldest release at its place or above it.
    fn younger(
        &self,
        core: &Core,
        home: (usize, u64),
        enough: u32,
        now: u64,
        prove: bool,
        counts: impl Fn(Found<'_>) -> bool,
    ) -> Option<u32> {
        let (lane, stamp) = home;
        let before = |number: usize, oldest| {
            number != lane && (oldest > stamp || oldest == stamp && number < lane)
        };
        self.younger_than(core, before, enough, now, prove, counts)
    }

    fn younger_than(
        &self,
        core: &Core,
        before: impl Fn(usize, u64) -> bool,
        enough: u32,
        now: u64,
        prove: bool,
        counts: impl Fn(Found<'_>) -> bool,
    ) -> Option<u32> {
        let mut moving = 0;
        let sum = self.all().enumerate().try_fold(0, |sum: u32, (number, lane)| {
            // The first void ticket must not decide for a lane that is left out.
            if sum >= enough || !before(number, u64::MAX) {
                return Some(sum);
            }
            let above = lane.scan(core, prove, Above::nothing, |above, found| {
                if !above.add(found) {
                    return true;
                }
                let younger = before(number, above.oldest);
                if younger && counts(found) {
                    let certain = found.seat.stamp.get() < now;
                    *(if certain { &mut above.count } else { &mut above.moving }) += 1;
                }
                younger && sum + above.count < enough
            })?;
            moving += above.moving;
            Some(sum + above.count)
        })?;
        (sum >= enough || sum.saturating_add(moving) < enough).then_some(sum)
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;
    use crate::core::lanes::{change_number, thread_number};

    #[test]
    fn void_tickets_and_those_that_do_not_count_take_no_place() {
        let (core, lanes) = (Core::new(), Lanes::new(1));
        for stamp in 0..8 {
            let index = core.take_seat().unwrap();
            let (seat, ticket) = (core.seats.get(index), core.take_ticket(index).unwrap());
            seat.stamp.set(stamp);
            let found = core.find(ticket);
            found.ticket.set_incarnation(1);
            seat.state.rest(1);
            lanes.push(&core, found.ticket, ticket);
        }
        let rank = |seat, enough, counts: fn(Found<'_>) -> bool| {
            let claim = Claim { seat, incarnation: 1 };
            let (proved, read) = (
                lanes.rank(&core, claim, enough, 9, true, counts),
                lanes.rank(&core, claim, enough, 9, false, counts),
            );
            assert_eq!(proved, read);
            proved
        };
        let ranks = |counts| (0..8).rev().map(|seat| rank(seat, 9, counts)).collect::<Vec<_>>();
        assert_eq!(ranks(|_| true), (0..8).map(Some).collect::<Vec<_>>());
        assert_eq!(rank(5, 2, |_| true), Some(2));
        assert_eq!(rank(0, 2, |_| true), Some(2));
        assert_eq!(ranks(|found| found.claim().seat % 2 == 0)[..4], [0, 0, 1, 1].map(Some));
        assert!(core.seats.get(6).state.seize(1));
        assert_eq!(ranks(|_| true)[2..], [1, 2, 3, 4, 5, 6].map(Some));
        // Its ticket was taken.
        assert!(lanes.pop(&core).is_some());
        assert_eq!(rank(7, 1, |_| true), None);
        assert_eq!(rank(7, 9, |_| true), None);
        assert_eq!(lanes.rank_of_top(&core, 7, 3, 9, |_| true), Some(0));
    }

    /// Several lanes, in each of which later releases lie above earlier ones, and some of the
    /// same time in several: against all of them, put in order.
    #[test]
    fn lanes_are_one_order() {
        const LANES: u32 = 3;
        let (core, lanes) = (Core::new(), Lanes::new(LANES as usize));
        // Seat, release, lane.
        let mut all: Vec<(u32, u64, u32)> = Vec::new();
        for number in 0..24_u32 {
            (0..u32::from(number % 5 > 0)).for_each(|_| change_number());
            let (index, stamp) = (core.take_seat().unwrap(), u64::from(number / 3));
            let (seat, ticket) = (core.seats.get(index), core.take_ticket(index).unwrap());
            seat.stamp.set(stamp);
            let found = core.find(ticket);
            found.ticket.set_incarnation(1);
            seat.state.rest(1);
            lanes.push(&core, found.ticket, ticket);
            all.push((index, stamp, thread_number() as u32 % LANES));
        }
        assert!((0..LANES).all(|lane| all.iter().filter(|it| it.2 == lane).count() > 3));
        let before = |one: (u32, u64, u32), other: (u32, u64, u32)| {
            if one.2 == other.2 {
                return other.0 > one.0;
            }
            other.1 > one.1 || other.1 == one.1 && other.2 < one.2
        };
        for (&one, prove) in all.iter().flat_map(|one| [(one, true), (one, false)]) {
            let claim = Claim { seat: one.0, incarnation: 1 };
            for enough in [1, 4, 9, 99] {
                let expected = all.iter().filter(|&&other| before(one, other)).count() as u32;
                let rank = lanes.rank(&core, claim, enough, 99, prove, |_| true);
                assert_eq!(rank.map(|rank| rank.min(enough)), Some(expected.min(enough)));
                let even = |it: &&(u32, u64, u32)| it.0.is_multiple_of(2) && before(one, **it);
                let expected = all.iter().filter(even).count() as u32;
                let counts = |found: Found<'_>| found.claim().seat.is_multiple_of(2);
                let rank = lanes.rank(&core, claim, enough, 99, prove, counts);
                assert_eq!(rank.map(|rank| rank.min(enough)), Some(expected.min(enough)));
            }
        }
        for stamp in 0..9 {
            let expected = all.iter().filter(|it| it.1 > stamp).count() as u32;
            let rank = |now| lanes.rank_of_top(&core, stamp, 6, now, |_| true);
            assert_eq!(rank(99).map(|rank| rank.min(6)), Some(expected.min(6)));
            // They may all have been counted elsewhere.
            assert_eq!(rank(0), (expected < 6).then_some(0));
        }
    }
}
