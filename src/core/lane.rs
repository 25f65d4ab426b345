//! A lock-free LIFO of tickets whose bottom can be cleaned while it is in use.
//!
//! A plain stack of connections hides what lies below the top: an evictor that
//! removes a connection from the middle leaves a dead record there, for ever if
//! nobody pops that deep. Popping everything and pushing the rest back would hide
//! live connections for a while. Tickets solve both: they can be *copied*, since
//! only one of all tickets for the same incarnation can be redeemed.
//!
//! # Layout
//!
//! Four stacks in a ring, of which one is in use, and a second one after the lane
//! was compacted. Pushes go to the current one; pops take the current one first,
//! then the one before it (*middle*), then the one before that (*old*).
//!
//! ```text
//!             epoch % 4
//!                 |
//!   heads:   [ current ] -> ticket -> ticket -> ...      newest
//!            [ middle  ] -> ticket -> ...
//!            [ old     ] -> (empty, but for a moment)    oldest
//!            [ spare   ] -> (empty; four, since 4 divides with a mask)
//! ```
//!
//! [`Lane::compact`] makes the spare stack the current one. What was current comes
//! to rest: nobody pushes there any more. It then copies the tickets of middle and
//! old that are still good into one new chain, puts that in the middle's place with
//! one exchange, and only then takes the old chain away. At each moment every idle
//! connection has a ticket that a getter can find.
//!
//! # Invariants
//!
//! * **L1** Pushes go to the current stack only: a push reads the head first and
//!   the epoch after it, and `rotate` raises the head's tag after it has
//!   published the epoch. A push that saw the old epoch fails its exchange.
//! * **L2** The chain below a head changes only by changes of that head (K1, T1).
//!   An exchange that succeeds proves that all that was read of the chain since
//!   the head was loaded is true.
//! * **L3** One thread compacts a lane at a time; those who come meanwhile go away.
//! * **L4** Whenever the ring turns, the stacks before middle are empty: the merge
//!   before it has emptied the old one, and nobody pushes to any but the current.
//! * **L5** A head that is the same after something was read of the ticket on its top was
//!   the same meanwhile (T1): it was read of a ticket of this lane.

use crate::core::chain::{
    ATTEMPTS, Copy, Walk, count, count_sealed, depth_of, descend, discard, pop_stack, walk_stack,
};
use crate::core::tagged::{Head, Tagged};
use crate::core::ticket::Claim;
use crate::core::top::leased_in_place;
use crate::core::width::Strain;
use crate::core::{Core, Found};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Stacks in a lane.
pub const STACKS: usize = 4;

/// One LIFO. Its own cache line: every get and release in the group writes it.
#[derive(Debug)]
#[repr(align(64))]
pub struct Lane {
    pub(super) heads: [Head; STACKS],
    pub(super) epoch: AtomicU64,
    compacting: AtomicBool,
    pub(super) strain: Strain,
}

// More would cost each group a line.
const _: () = assert!(cfg!(slabpool_loom) || size_of::<Lane>() == 64);

impl Lane {
    pub fn new() -> Self {
        Self {
            heads: std::array::from_fn(|_| Head::new()),
            epoch: AtomicU64::new(0),
            compacting: AtomicBool::new(false),
            strain: Strain::new(),
        }
    }

    /// Puts a ticket on top, unless `cap` or more idle connections are there.
    /// False leaves the ticket with the caller.
    ///
    /// `elsewhere` is how many lie in other lanes.
    pub fn push_capped(&self, core: &Core, index: u32, cap: u32, elsewhere: u32) -> bool {
        let ticket = core.find(index).ticket;
        loop {
            let (head, top) = self.current();
            if let Some(seat) = leased_in_place(core, top) {
                if head.unlink(top, seat.ticket.below()) {
                    seat.ticket.go_home();
                }
                continue;
            }
            let others = self.others(head);
            let mut depth = depth_of(core, top).map(|below| below + 1);
            let beside = others.iter().try_fold(elsewhere, |sum, &(_, other_top)| {
                Some(sum.saturating_add(depth_of(core, other_top)?))
            });
            let roomy = depth.zip(beside).is_some_and(|(own, rest)| own + rest <= cap);
            if !roomy {
                // Void tickets count as depth, or it is not known: count.
                let Some(below) = count(core, head, top) else { continue };
                let beside = others.iter().try_fold(elsewhere, |sum, &(other, other_top)| {
                    Some(sum.saturating_add(count(core, other, other_top)?.live))
                });
                let Some(beside) = beside else { continue };
                if below.live.saturating_add(beside) >= cap {
                    return false;
                }
                depth = Some(below.all + 1);
            }
            // Compaction moves tickets between the others: perhaps past the count.
            if others.iter().any(|&(other, other_top)| other.load() != other_top) {
                continue;
            }
            ticket.set_depth(depth);
            ticket.set_below(top.index());
            // L2: nothing was pushed on this stack since it was counted, and the
            // other two together only shrink (L1).
            if head.publish(top, index) {
                return true;
            }
        }
    }

    /// Takes the newest ticket and its number. The caller owns it.
    ///
    /// `None` says that each stack was empty when it was looked at, not that all
    /// were at once; see [`Lane::emptiness`].
    pub fn pop<'a>(&self, core: &'a Core) -> Option<(u32, Found<'a>)> {
        // Relaxed: a late view of the epoch costs order among threads that race,
        // and finds the same tickets.
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.below(epoch).find_map(|head| pop_stack(head, core))
    }

    /// The stacks from the newest to the oldest.
    fn below(&self, epoch: u64) -> impl Iterator<Item = &Head> {
        (0..STACKS as u64).map(move |age| &self.heads[stack(epoch.wrapping_sub(age))])
    }

    /// A number that changes with every change of the lane, or `None` when some
    /// stack holds a ticket. Two equal numbers prove that the whole lane was empty
    /// at the moment between them: each head's word only rises (T1).
    pub fn emptiness(&self) -> Option<u64> {
        self.heads.iter().try_fold(0_u64, |sum, head| {
            let top = head.load();
            top.is_empty().then(|| sum.wrapping_add(top.bits()))
        })
    }

    /// How often the lane was changed, modulo some number.
    pub fn changes(&self) -> u64 {
        self.heads.iter().fold(0, |sum, head| sum.wrapping_add(head.load().tag()))
    }

    /// Whoever pushes or pops from now on sees what the caller did before; and
    /// the caller sees what was done before every push that came first.
    pub fn barrier(&self) {
        self.heads.iter().for_each(Head::bump);
    }

    /// Takes all tickets. Stands for [`Lane::barrier`] as well.
    ///
    /// Starts over only when another thread has compacted the lane meanwhile.
    pub fn drain(&self, core: &Core, mut each: impl FnMut(Claim)) {
        loop {
            // Relaxed: checked again below.
            let epoch = self.epoch.load(Ordering::Relaxed);
            // From the oldest to the newest, as tickets move while an epoch lasts,
            // so that none escapes.
            for age in (0..STACKS as u64).rev() {
                let first = self.heads[stack(epoch.wrapping_sub(age))].detach();
                discard(core, first, &mut each);
            }
            // Relaxed: if `rotate` raised the tag of the current stack before it was
            // detached, the Acquire in `detach` makes the new epoch visible here.
            if self.epoch.load(Ordering::Relaxed) == epoch {
                return;
            }
        }
    }

    /// Throws away void tickets that lie on top. Returns how many.
    pub fn trim(&self, core: &Core) -> usize {
        let mut trimmed = 0;
        for head in &self.heads {
            loop {
                let top = head.load();
                if top.is_empty() {
                    break;
                }
                let found = core.find(top.index());
                if found.is_good() {
                    break;
                }
                // L2: if the ticket was not the top any more, this fails.
                if head.unlink(top, found.ticket.below()) {
                    core.give_ticket(top.index());
                    trimmed += 1;
                }
            }
        }
        trimmed
    }

    /// Shows the claims from the newest to the oldest, as they hang together;
    /// after a change it may show some again. Stops when `visit` returns false.
    ///
    /// Returns false if it gave up because the chain changed too often.
    pub fn walk(&self, core: &Core, mut visit: impl FnMut(Claim) -> bool) -> bool {
        // Relaxed: as in `pop`.
        let epoch = self.epoch.load(Ordering::Relaxed);
        for head in self.below(epoch) {
            match walk_stack(core, head, &mut visit) {
                Walk::Finished => {}
                Walk::Stopped => return true,
                Walk::Disturbed => return false,
            }
        }
        true
    }

    /// Throws away void tickets wherever they lie. Returns false if that did not
    /// succeed, because getters changed the lower stacks all the time, or because
    /// another thread is at it.
    pub fn compact(&self, core: &Core) -> bool {
        // Acquire: pairs with the Release below, so that the ring is seen as the
        // last one to compact left it.
        if self.compacting.swap(true, Ordering::Acquire) {
            return false;
        }
        // What an earlier attempt had to leave comes first.
        let done = self.merge(core) && {
            self.rotate();
            self.merge(core)
        };
        // Release: pairs with the Acquire above.
        self.compacting.store(false, Ordering::Release);
        done
    }

    /// Makes the spare stack, which is empty, the current one.
    fn rotate(&self) {
        // Relaxed: only the compacting thread writes it (L3).
        let epoch = self.epoch.load(Ordering::Relaxed);
        debug_assert!(self.heads[stack(epoch + 1)].load().is_empty(), "L4");
        // Relaxed: the tag that is raised next publishes it (L1).
        self.epoch.store(epoch + 1, Ordering::Relaxed);
        self.heads[stack(epoch)].bump();
    }

    /// Merges the good tickets of middle and old into the middle stack. True if the
    /// old one is empty afterwards.
    fn merge(&self, core: &Core) -> bool {
        // Relaxed: as in `rotate`.
        let epoch = self.epoch.load(Ordering::Relaxed);
        let middle = &self.heads[stack(epoch.wrapping_sub(1))];
        let old = &self.heads[stack(epoch.wrapping_sub(2))];
        (0..ATTEMPTS).any(|_| {
            let (middle_top, old_top) = (middle.load(), old.load());
            if middle_top.is_empty() && old_top.is_empty() {
                return true;
            }
            let mut copy = Copy::new();
            let copied = copy.append(core, middle, middle_top) && copy.append(core, old, old_top);
            copy.number(core);
            // The seal proves what was read of the old stack, the exchange what
            // was read of the middle one (L2). A connection taken from the old
            // stack in between leaves a void copy, no more.
            if copied && old.seal(old_top).is_some() && middle.publish(middle_top, copy.first) {
                discard(core, middle_top.index(), &mut |_| {});
                discard(core, old.detach(), &mut |_| {});
                return true;
            }
            discard(core, copy.first, &mut |_| {});
            false
        })
    }

    /// The heads beside one, and what they hold.
    fn others(&self, head: &Head) -> [(&Head, Tagged); STACKS - 1] {
        let mut others = self.heads.iter().filter(|other| !std::ptr::eq(*other, head));
        std::array::from_fn(|_| {
            let other = others.next().expect("one of the heads is left out");
            (other, other.load())
        })
    }

    /// Reads the tickets from the newest to the oldest until `visit` returns false, into
    /// a sum that begins as `start`.
    ///
    /// With `prove`, each stack hung together as it was read. `None` if that could not be
    /// shown, because others changed the lane all the time or compact it.
    pub fn scan<S>(
        &self,
        core: &Core,
        prove: bool,
        start: impl Fn() -> S,
        visit: impl Fn(&mut S, Found<'_>) -> bool,
    ) -> Option<S> {
        // Relaxed: as in `pop`.
        let epoch = self.epoch.load(Ordering::Relaxed);
        'attempt: for _ in 0..ATTEMPTS {
            let mut stacks = [const { None }; STACKS];
            let tops = self.below(epoch).map(|head| (head, head.load()));
            tops.zip(&mut stacks).for_each(|(top, place)| *place = Some(top));
            // Acquire: pairs with the Release in `compact`. After the heads: if one of them
            // holds copies, whose originals may still be there, this is seen.
            if prove && self.compacting.load(Ordering::Acquire) {
                return None;
            }
            let (mut sum, mut go_on) = (start(), true);
            for (head, top) in stacks.into_iter().flatten().filter(|(_, top)| !top.is_empty()) {
                let complete = descend(core, head, top, |found| {
                    go_on = visit(&mut sum, found);
                    go_on
                });
                let disturbed = !complete && go_on;
                // L2: what was read hung from this head.
                if disturbed || prove && head.seal(top).is_none() {
                    continue 'attempt;
                }
                if !go_on {
                    break;
                }
            }
            return Some(sum);
        }
        None
    }

    /// How many idle connections lie here: exact at rest.
    pub fn live(&self, core: &Core) -> u32 {
        self.heads.iter().map(|head| count_sealed(core, head)).sum()
    }
}

/// The stack of an epoch.
#[inline(always)]
pub(super) fn stack(epoch: u64) -> usize {
    epoch as usize % STACKS
}
