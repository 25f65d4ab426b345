//! The bound of the pool: a count of permits, one for each connection in it, and how
//! many there may be.
//!
//! # Layout of the word
//!
//! ```text
//!    63   62        48 47            24 23             0
//! +------+------------+----------------+----------------+
//! |closed|  leaving   |      max       |      used      |
//! +------+------------+----------------+----------------+
//! ```
//!
//! All in one word, so that a permit is compared with the capacity in force, and not with
//! one that was.
//!
//! # Invariants
//!
//! * **B1** `used` rises only in a step that finds it below `max`. It may be above only
//!   because `max` was lowered, and then only falls.
//! * **B2** `leaving` of the connections above `max` are being closed by someone, so
//!   that several who close the excess do not close more than that.
//! * **B3** `used` does not rise once the pool is closed: when it is zero, it stays so.
//!
//! Accesses are Relaxed unless it is said why not: the word guards no data, only itself.
//! Who may touch a connection is decided by its seat.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::store::CONNECTIONS_MAX;
use crate::sync::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const MAX_SHIFT: u32 = COUNT_BITS;
const LEAVING_SHIFT: u32 = 2 * COUNT_BITS;

const USED_ONE: u64 = 1;
const LEAVING_ONE: u64 = 1 << LEAVING_SHIFT;
const LEAVING_MAX: u64 = (CLOSED >> LEAVING_SHIFT) - 1;

/// Set when the pool was closed: no permits are given out any more.
const CLOSED: u64 = 1 << 63;

const _: () = assert!(CONNECTIONS_MAX as u64 <= COUNT_MASK);

/// What the word held at one moment.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn used(self) -> u64 {
        self.0 & COUNT_MASK
    }

    fn max(self) -> u64 {
        self.0 >> MAX_SHIFT & COUNT_MASK
    }

    fn leaving(self) -> u64 {
        (self.0 & !CLOSED) >> LEAVING_SHIFT
    }

    fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// So many connections are too many.
    fn excess(self) -> u64 {
        self.used().saturating_sub(self.max())
    }
}

/// Who must know of permits that come free.
pub(crate) trait Heir: fmt::Debug + Send + Sync {
    /// There may be room. Called by whoever has made it, with no lock held, where code of
    /// the user may run.
    fn freed(&self);
}

/// Permits, given out and free.
#[derive(Debug)]
pub(crate) struct Capacity {
    word: AtomicU64,
    /// Set before the pool is in use, or never.
    heir: OnceLock<Arc<dyn Heir>>,
    /// Wakes those who wait for the last permit of a closed pool.
    #[cfg(feature = "tokio")]
    emptied: tokio::sync::Notify,
}

impl Capacity {
    pub fn new(max: usize) -> Self {
        let capacity = Self {
            word: AtomicU64::new(0),
            heir: OnceLock::new(),
            #[cfg(feature = "tokio")]
            emptied: tokio::sync::Notify::new(),
        };
        capacity.set_max(max);
        capacity
    }

    fn look(&self) -> Word {
        Word(self.word.load(Relaxed))
    }

    /// The capacity in force.
    pub fn max(&self) -> usize {
        self.look().max() as usize
    }

    /// Gives out no more permits. Their number only falls from here on (B3).
    pub fn close(&self) {
        self.word.fetch_or(CLOSED, Relaxed);
    }

    /// For whoever was refused for that reason, and has read it then.
    pub fn is_closed(&self) -> bool {
        self.look().is_closed()
    }

    /// How many permits are out.
    #[cfg(any(feature = "tokio", slabpool_loom))]
    pub fn used(&self) -> usize {
        // Acquire: pairs with the Release of whoever freed a permit. What became of
        // its connection is seen.
        Word(self.word.load(crate::sync::Ordering::Acquire)).used() as usize
    }

    /// Waits until no permit of a closed pool is out.
    #[cfg(feature = "tokio")]
    pub async fn emptied(&self) {
        let mut emptied = std::pin::pin!(self.emptied.notified());
        // Before the count is read: whoever frees the last one after that wakes us.
        emptied.as_mut().enable();
        if self.used() > 0 {
            emptied.await;
        }
    }

    /// What must be done after a permit was freed, with what the word held before.
    fn freed(&self, before: Word) {
        debug_assert_ne!(before.used(), 0, "a permit was freed twice");
        #[cfg(feature = "tokio")]
        if before.is_closed() && before.used() == 1 {
            self.emptied.notify_waiters();
        }
        self.tell();
    }

    /// Says who must know of permits that come free. Once, before the pool is in use.
    #[cfg(any(feature = "tokio", slabpool_loom))]
    pub fn bequeath(&self, heir: Arc<dyn Heir>) {
        self.heir.set(heir).expect("there is one heir");
    }

    /// There may be room, or less of it.
    #[inline(always)]
    pub fn tell(&self) {
        /// Out of the way of those who have no heir.
        #[cold]
        #[inline(never)]
        fn freed(heir: &Arc<dyn Heir>) {
            heir.freed();
        }
        if let Some(heir) = self.heir.get() {
            freed(heir);
        }
    }

    /// Changes the capacity. Permits that are out stay so.
    pub fn set_max(&self, max: usize) {
        debug_assert!(max <= CONNECTIONS_MAX, "{max} was not validated");
        let max = (max as u64) << MAX_SHIFT;
        self.update(|word| Some(word.0 & !(COUNT_MASK << MAX_SHIFT) | max));
    }

    /// Whether nothing may be in the pool, and nothing is, or the pool is closed.
    pub fn is_shut(&self) -> bool {
        let word = self.look();
        word.is_closed() || word.max() == 0 && word.used() == 0
    }

    /// Takes a permit if one is free (B1, B3).
    pub fn reserve(&self) -> Option<Permit<'_>> {
        let is_free = |word: Word| !word.is_closed() && word.used() < word.max();
        self.update(|word| is_free(word).then_some(word.0 + USED_ONE)).then(|| Permit(self))
    }

    /// The permit that was left with a connection, when that is removed.
    pub fn reclaim(&self) -> Permit<'_> {
        Permit(self)
    }

    /// The right to close one of the connections that are too many, if there is one that
    /// nobody is closing yet (B2).
    pub fn claim_excess(&self) -> Option<Excess<'_>> {
        // Looked at in each piece of maintenance: no write if there is nothing to do.
        self.update(|word| {
            let unclaimed = word.excess() > word.leaving() && word.leaving() < LEAVING_MAX;
            unclaimed.then(|| word.0 + LEAVING_ONE)
        })
        .then(|| Excess(self))
    }

    fn update(&self, next: impl Fn(Word) -> Option<u64>) -> bool {
        self.word.fetch_update(Relaxed, Relaxed, |word| next(Word(word))).is_ok()
    }
}

/// The right of one connection to be in the pool. Dropping it frees it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit<'a>(&'a Capacity);

impl Permit<'_> {
    /// Leaves the permit with a connection, until it is reclaimed.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    /// The permit for another connection in place of the one that it was reclaimed
    /// from. `None` if the pool holds too many, or is closed: then it is freed.
    pub fn pass_on(self) -> Option<Self> {
        // An exchange in either case: what it finds is the capacity in force, under which
        // the other connection comes in (B1). Release: as in `drop`.
        let must_go = |word: Word| word.excess() > 0 || word.is_closed();
        let next = |word| if must_go(Word(word)) { word - USED_ONE } else { word };
        let before = self.0.word.fetch_update(Release, Relaxed, |word| Some(next(word)));
        let before = Word(before.expect("there always is a next word"));
        if !must_go(before) {
            return Some(self);
        }
        // First, since code of others is run next.
        let capacity = self.0;
        std::mem::forget(self);
        capacity.freed(before);
        None
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `used`.
        self.0.freed(Word(self.0.word.fetch_sub(USED_ONE, Release)));
    }
}

/// The right to close one connection of those that are too many. Dropping it leaves that
/// to others.
#[derive(Debug)]
#[must_use]
pub(crate) struct Excess<'a>(&'a Capacity);

impl Excess<'_> {
    /// A connection was closed. Frees its permit.
    pub fn shed(self, permit: Permit<'_>) {
        std::mem::forget(permit);
        // In one step: in between, the excess would look smaller than it is.
        // Release: as in the drop of a permit.
        let before = Word(self.0.word.fetch_sub(LEAVING_ONE + USED_ONE, Release));
        debug_assert_ne!(before.leaving(), 0, "an excess was shed twice");
        let capacity = self.0;
        std::mem::forget(self);
        capacity.freed(before);
    }
}

impl Drop for Excess<'_> {
    fn drop(&mut self) {
        let before = Word(self.0.word.fetch_sub(LEAVING_ONE, Relaxed));
        debug_assert_ne!(before.leaving(), 0, "an excess was shed twice");
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    fn out(capacity: &Capacity, count: usize) {
        (0..count).for_each(|_| capacity.reserve().expect("there is room").leave());
    }

    #[test]
    fn there_are_as_many_permits_as_the_capacity_says() {
        for max in [0, 1, 5, CONNECTIONS_MAX] {
            let capacity = Capacity::new(max);
            assert_eq!((capacity.max(), capacity.is_shut()), (max, max == 0));
            let some = max.min(5);
            out(&capacity, some);
            assert_eq!(capacity.reserve().is_some(), max > some);
            assert!(capacity.claim_excess().is_none());
        }
    }

    #[test]
    fn a_permit_passes_on_within_the_bound_only() {
        let capacity = Capacity::new(3);
        out(&capacity, 3);
        capacity.reclaim().pass_on().expect("full, and no more").leave();
        capacity.set_max(1);
        assert!(capacity.reclaim().pass_on().is_none());
        assert!(capacity.reclaim().pass_on().is_none());
        capacity.reclaim().pass_on().expect("in bounds again").leave();
        assert!(capacity.reserve().is_none());
        capacity.set_max(0);
        assert!(capacity.reclaim().pass_on().is_none());
        assert!(capacity.is_shut());
    }

    #[test]
    fn the_excess_is_claimed_once() {
        let capacity = Capacity::new(5);
        out(&capacity, 5);
        capacity.set_max(3);
        let (one, two) = (capacity.claim_excess().unwrap(), capacity.claim_excess().unwrap());
        assert!(capacity.claim_excess().is_none(), "both are being closed");
        one.shed(capacity.reclaim());
        assert!(capacity.claim_excess().is_none());
        drop(two);
        let again = capacity.claim_excess().expect("nobody closes it now");
        capacity.set_max(4);
        assert!(capacity.claim_excess().is_none());
        again.shed(capacity.reclaim());
        assert!(capacity.reserve().is_some(), "the one that was closed after all");
    }
}
