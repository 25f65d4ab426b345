//! The lanes of one group: one, or several for threads that would contend.
//!
//! A thread pushes to its own lane and pops from its own lane first, then from
//! the others, so that order is LIFO per lane. How many there are, see
//! [`super::width`].

use crate::core::era::Era;
use crate::core::lane::Lane;
use crate::core::seat::Seat;
use crate::core::ticket::{Claim, IN_PLACE, Ticket};
use crate::core::width::{Plan, Width};
use crate::core::{Core, Found};

/// All lanes of a group.
#[derive(Debug)]
pub struct Lanes {
    /// In place, since most groups have no other.
    first: Lane,
    /// Beside the first lane: every push and pop reads it.
    pub(super) width: Width,
    /// Beside `width`, and away from the heads.
    pub era: Era,
}

// More would cost each group a line.
const _: () = assert!(cfg!(slabpool_loom) || size_of::<Lanes>() == 128);

impl Lanes {
    /// So many lanes, always.
    #[cfg(any(test, slabpool_loom))]
    pub fn new(count: usize) -> Self {
        Self::planned(Plan::Fixed(count))
    }

    /// One lane, and up to so many.
    #[cfg(any(test, slabpool_loom))]
    pub fn adaptive(most: usize) -> Self {
        Self::planned(Plan::UpTo(most))
    }

    pub fn planned(plan: Plan) -> Self {
        Self { first: Lane::new(), width: Width::new(plan), era: Era::new() }
    }

    /// All that are there.
    pub(super) fn all(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.first).chain(self.width.rest())
    }

    /// All that are there. Whoever uses one that comes later sees what the caller did
    /// before (N2).
    fn settle(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.first).chain(self.width.settle())
    }

    fn get(&self, index: usize) -> &Lane {
        if index == 0 { &self.first } else { &self.width.rest()[index - 1] }
    }

    /// The caller's lane, and its number.
    #[inline(always)]
    pub(super) fn own(&self) -> (u32, &Lane) {
        if self.width.get() == 1 { (0, &self.first) } else { self.own_of_many() }
    }

    #[cold]
    fn own_of_many(&self) -> (u32, &Lane) {
        let number = thread_number() as u32 % self.width.get();
        // Not the first one, and there by now: the width is not ordered with the lanes.
        let far = number.checked_sub(1).and_then(|far| self.width.rest().get(far as usize));
        far.map_or((0, &self.first), |far| (number, far))
    }

    /// Leases the connection on top of the caller's lane, and leaves the ticket there: see
    /// [`Lane::claim_top`]. Returns what the lease has instead of a ticket, the
    /// seat, and its incarnation from now on. `None` proves nothing.
    #[inline(always)]
    pub fn claim_top<'a>(&self, core: &'a Core) -> Option<(u32, &'a Seat, u64)> {
        let (number, own) = self.own();
        let (seat, incarnation) = own.claim_top(core)?;
        Some((IN_PLACE | number, seat, incarnation))
    }

    /// Makes a connection idle that was leased in place, if its ticket still lies on top:
    /// in the lane that it came from, whoever releases it. `rest` makes the seat idle.
    ///
    /// `None` if it does not lie there, and the connection still is the caller's. False if
    /// others came in between: the connection is idle, perhaps without a ticket.
    #[inline(always)]
    pub fn rest_in_place(&self, lease: u32, seat: u32, rest: impl FnOnce()) -> Option<bool> {
        let (head, top) = self.of_lease(lease).held(seat)?;
        rest();
        // To the same: whoever read the ticket as void fails to take it away.
        Some(head.renew(top))
    }

    /// Takes the ticket of a seat away from the top of the lane in which its connection was
    /// leased in place. The caller, who has leased it, owns the ticket then. False if it
    /// does not lie there any more.
    pub fn lift(&self, core: &Core, lease: u32, seat: u32) -> bool {
        self.of_lease(lease).lift(core, seat)
    }

    /// Whether the ticket of a seat, whose connection was leased in place and is idle by
    /// now, certainly is near the top. See [`Lane::vouch`].
    pub fn vouch(&self, core: &Core, lease: u32, seat: u32) -> bool {
        self.of_lease(lease).vouch(core, seat)
    }

    /// The lane in which a connection was leased in place.
    #[inline(always)]
    fn of_lease(&self, lease: u32) -> &Lane {
        if lease == IN_PLACE { &self.first } else { self.far_of_lease(lease) }
    }

    #[cold]
    fn far_of_lease(&self, lease: u32) -> &Lane {
        self.get((lease & !IN_PLACE) as usize)
    }

    /// Puts a ticket on top of the caller's lane.
    #[inline(always)]
    pub fn push(&self, core: &Core, ticket: &Ticket, index: u32) {
        let (_, own) = self.own();
        own.push(core, ticket, index, || self.failed(core, own));
    }

    /// Puts a ticket on top, unless `cap` or more idle connections are there.
    /// False leaves the ticket with the caller.
    ///
    /// The count is exact because a group with a cap pushes to one lane only.
    pub fn push_capped(&self, core: &Core, index: u32, cap: u32) -> bool {
        self.note_cap();
        let elsewhere = self.width.rest().iter().map(|lane| lane.live(core)).sum();
        self.first.push_capped(core, index, cap, elsewhere)
    }

    /// See [`Lane::pop_home`]: from the caller's lane. `None` proves nothing.
    #[inline(always)]
    pub fn pop_home<'a>(&self, core: &'a Core) -> Option<(u32, &'a Seat)> {
        let (_, own) = self.own();
        own.pop_home(core, || self.failed(core, own))
    }

    /// See [`Lane::pop_spare`]: from the caller's lane. `None` proves nothing.
    #[inline(always)]
    pub fn pop_spare<'a>(&self, core: &'a Core) -> Option<(u32, Found<'a>)> {
        self.own().1.pop_spare(core)
    }

    /// Takes the newest ticket of the caller's lane, or of another one. The caller
    /// owns it. `None` proves that all lanes were empty at one moment.
    ///
    /// Starts over only when another thread has pushed or popped meanwhile.
    pub fn pop<'a>(&self, core: &'a Core) -> Option<(u32, Found<'a>)> {
        loop {
            let count = self.width.rest().len() + 1;
            let own = if count == 1 { 0 } else { self.own().0 as usize };
            let found = (0..count).find_map(|step| self.get((own + step) % count).pop(core));
            if found.is_some() {
                return found;
            }
            if self.were_bare() {
                return None;
            }
        }
    }

    /// See [`Lane::emptiness`]: the sum over all lanes, and how many there are.
    fn emptiness(&self) -> Option<(u64, usize)> {
        self.all().try_fold((0_u64, 0), |(sum, count), lane| {
            Some((sum.wrapping_add(lane.emptiness()?), count + 1))
        })
    }

    /// Whether all lanes were empty at one moment, of void tickets as well. False proves
    /// nothing.
    ///
    /// The moment is when the second look begins. If there are no more lanes then than at
    /// the first look, there were no others.
    pub fn were_bare(&self) -> bool {
        let before = self.emptiness();
        before.is_some() && before == self.emptiness()
    }

    /// See [`Lane::barrier`].
    pub fn barrier(&self) {
        self.settle().for_each(Lane::barrier);
    }

    /// Takes all tickets. See [`Lane::drain`].
    pub fn drain(&self, core: &Core, mut each: impl FnMut(Claim)) {
        self.settle().for_each(|lane| lane.drain(core, &mut each));
    }

    /// See [`Lane::trim`].
    pub fn trim(&self, core: &Core) -> usize {
        self.all().map(|lane| lane.trim(core)).sum()
    }

    /// See [`Lane::walk`].
    pub fn walk(&self, core: &Core, mut visit: impl FnMut(Claim) -> bool) -> bool {
        let mut go_on = true;
        self.all().all(|lane| {
            !go_on
                || lane.walk(core, |claim| {
                    go_on = visit(claim);
                    go_on
                })
        })
    }

    /// See [`Lane::compact`].
    pub fn compact(&self, core: &Core) -> bool {
        self.all().all(|lane| lane.compact(core))
    }

    /// How many idle connections lie here: exact at rest. Costs a walk.
    pub fn live(&self, core: &Core) -> u32 {
        self.all().map(|lane| lane.live(core)).sum()
    }
}

#[cfg(slabpool_loom)]
pub use numbers::NUMBER;
pub use numbers::{change_number, thread_number};

#[cfg(not(slabpool_loom))]
mod numbers {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Relaxed: any number will do.
        static NUMBER: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed));
    }

    /// A small number for each thread, to choose its lane by.
    pub fn thread_number() -> usize {
        NUMBER.try_with(Cell::get).unwrap_or(0)
    }

    /// Gives the thread the next number, whose lane is another one.
    pub fn change_number() {
        // A thread that ends has none.
        let _ = NUMBER.try_with(|number| number.set(number.get().wrapping_add(1)));
    }
}

/// In models, each thread says its number itself.
#[cfg(slabpool_loom)]
mod numbers {
    use std::cell::Cell;

    loom::thread_local! {
        pub static NUMBER: Cell<usize> = Cell::new(0);
    }

    pub fn thread_number() -> usize {
        NUMBER.with(Cell::get)
    }

    pub fn change_number() {}
}
