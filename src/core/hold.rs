//! What threads hold on to for a moment, so that nobody takes it away meanwhile.
//!
//! A reader finds an item, says that it holds it, and then looks whether the item is still
//! there. Whoever takes an item out looks at what is held after that. In between both pass
//! their half of a [`barrier`], so that one of the two sees the other: the reader that the
//! item is gone, or the other that it is held.
//!
//! Each thread has a row of its own, so that readers do not meet; these are hazard pointers
//! (M. Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects", 2004).
//!
//! # Invariants
//!
//! * **O1** Whoever says that it holds something passes the light barrier before it looks
//!   whether that is there; whoever has taken something out passes the heavy one before it
//!   looks who holds it, and if that fails, takes it for held.
//! * **O2** A row has one thread at a time: numbers are given to threads once, until they
//!   end. So what is in a row beside those words needs no read-modify-write.

use crate::core::levels::Levels;
use crate::core::tagged::NIL;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, barrier};

/// How many items a thread may hold at once before it needs a second number.
const PLACES: usize = if cfg!(slabpool_loom) { 1 } else { 4 };
const NOTHING: u64 = 0;

/// What one thread holds.
#[derive(Debug)]
#[cfg_attr(not(slabpool_loom), repr(align(64)))]
pub struct Row {
    /// Whether `Holds::reach` has this row.
    known: AtomicBool,
    places: [AtomicU64; PLACES],
    /// What it has taken out, and perhaps is held.
    pub limbo: Pile,
    /// What it has taken out, and is held no more.
    pub spares: Pile,
    /// How many items it has put in, less those that it has taken out.
    balance: AtomicU64,
    /// Its number, while it is lent to a hold that gives it back; [`NIL`] is not lent.
    lent: AtomicU32,
}

// More would cost each hold a line.
const _: () = assert!(cfg!(slabpool_loom) || size_of::<Row>() == 64);

impl Default for Row {
    fn default() -> Self {
        Self {
            known: AtomicBool::new(false),
            places: std::array::from_fn(|_| AtomicU64::new(NOTHING)),
            limbo: Pile::default(),
            spares: Pile::default(),
            balance: AtomicU64::new(0),
            lent: AtomicU32::new(NIL),
        }
    }
}

/// A stack of numbers that is in a row: touched by one thread at a time (O2), so that all
/// accesses are Relaxed. The links are where the numbers are from.
#[derive(Debug)]
pub struct Pile {
    top: AtomicU32,
    count: AtomicU32,
}

impl Default for Pile {
    fn default() -> Self {
        Self { top: AtomicU32::new(NIL), count: AtomicU32::new(0) }
    }
}

impl Pile {
    /// Puts a number on top.
    pub fn push(&self, number: u32, link: &AtomicU32) {
        link.store(self.top.load(Ordering::Relaxed), Ordering::Relaxed);
        self.set(number, self.len() + 1);
    }

    /// Takes the number on top.
    pub fn pop<'a>(&self, link_of: impl FnOnce(u32) -> &'a AtomicU32) -> Option<u32> {
        let top = self.top.load(Ordering::Relaxed);
        (top != NIL).then(|| {
            self.set(link_of(top).load(Ordering::Relaxed), self.len() - 1);
            top
        })
    }

    /// Moves all that is here to a pile that is the caller's.
    pub fn take_all(&self) -> Self {
        let all = Self::default();
        all.set(self.top.load(Ordering::Relaxed), self.len());
        self.set(NIL, 0);
        all
    }

    pub fn len(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    fn set(&self, top: u32, count: u32) {
        self.top.store(top, Ordering::Relaxed);
        self.count.store(count, Ordering::Relaxed);
    }
}

/// What all threads hold of one structure.
#[derive(Debug)]
pub struct Holds {
    rows: Levels<Row>,
    /// Rows that were ever in use are below this.
    reach: AtomicU32,
}

/// The right to hold one item at a time. Lets go when it is dropped.
#[derive(Debug)]
pub struct Hold<'a> {
    pub row: &'a Row,
    place: &'a AtomicU64,
}

impl Holds {
    pub fn new() -> Self {
        #[cfg(not(slabpool_loom))]
        barrier::prepare();
        Self { rows: Levels::new(), reach: AtomicU32::new(0) }
    }

    /// A hold on nothing, yet.
    #[inline(always)]
    pub fn begin(&self) -> Hold<'_> {
        numbers::own()
            .and_then(|number| self.rows.find(number))
            // Relaxed, here and below: written by this thread, or by one before it, whose
            // number this was (O2).
            .filter(|row| row.known.load(Ordering::Relaxed))
            .and_then(Hold::within)
            .unwrap_or_else(|| self.begin_slowly())
    }

    /// The first time that a thread comes here, and when it holds much.
    #[cold]
    #[inline(never)]
    fn begin_slowly(&self) -> Hold<'_> {
        let own = numbers::own().and_then(|number| Hold::within(self.know(number)));
        if let Some(hold) = own {
            return hold;
        }
        // The thread is ending, or holds all that its row has places for.
        let number = numbers::take();
        let row = self.know(number);
        // Relaxed: as in `begin`.
        row.lent.store(number, Ordering::Relaxed);
        Hold::within(row).expect("whoever gave it back held nothing")
    }

    /// The row of a thread, in use from now on.
    fn know(&self, number: u32) -> &Row {
        self.rows.cover(number);
        let row = self.rows.get(number);
        if !row.known.load(Ordering::Relaxed) {
            // Relaxed: before this thread's first barrier (O1).
            self.reach.fetch_max(number + 1, Ordering::Relaxed);
            row.known.store(true, Ordering::Relaxed);
        }
        row
    }

    /// All that is held, in order: of what was taken out before, nothing else is in use,
    /// nor will be. `None` if that cannot be said.
    pub fn all(&self) -> Option<Vec<u64>> {
        if !barrier::heavy() {
            return None;
        }
        // Acquire: pairs with `keep` and `drop`: what was held before is not used any more.
        let places = self.rows().flat_map(|row| &row.places);
        let held = places.map(|place| place.load(Ordering::Acquire));
        let mut held: Vec<u64> = held.filter(|&item| item != NOTHING).collect();
        held.sort_unstable();
        Some(held)
    }

    /// For whoever has changed something that others look at when they have put an item
    /// in: they see the change, or the caller finds the item from here on.
    pub fn meet(&self) {
        // If it fails, this still holds of all who come some nanoseconds later.
        let _ = barrier::heavy();
    }

    /// The sum of all balances: exact at rest.
    pub fn balance(&self) -> usize {
        // Relaxed: a number.
        let balances = self.rows().map(|row| row.balance.load(Ordering::Relaxed));
        let sum = balances.fold(0, u64::wrapping_add);
        // Of two threads, one may be seen to take out what the other put in unseen.
        (sum as i64).max(0) as usize
    }

    /// The rows of all who hold something, or did.
    fn rows(&self) -> impl Iterator<Item = &Row> {
        // Relaxed: after a barrier (O1), where it matters.
        let reach = self.reach.load(Ordering::Relaxed);
        (0..reach).filter_map(|number| self.rows.find(number))
    }
}

impl Row {
    /// Gives back the number that was lent with it.
    #[cold]
    #[inline(never)]
    fn give_back(&self) {
        // Relaxed: as in `begin`; the number hands it on.
        let number = self.lent.load(Ordering::Relaxed);
        self.lent.store(NIL, Ordering::Relaxed);
        numbers::give(number);
    }

    /// Counts items that were put in, or taken out.
    pub fn count(&self, items: i32) {
        // Relaxed: written by one thread at a time (O2).
        let balance = self.balance.load(Ordering::Relaxed);
        self.balance.store(balance.wrapping_add_signed(items.into()), Ordering::Relaxed);
    }
}

impl<'a> Hold<'a> {
    #[inline(always)]
    fn within(row: &'a Row) -> Option<Self> {
        // Relaxed: written by this thread alone (O2).
        let place = row.places.iter().find(|place| place.load(Ordering::Relaxed) == NOTHING)?;
        Some(Self { row, place })
    }

    /// Holds an item from now on, instead of what was held before. The caller looks
    /// whether it is still there after that.
    #[inline(always)]
    pub fn keep(&self, item: u64) {
        // Release: what was held before is let go, as in `drop`.
        self.place.store(item, Ordering::Release);
        barrier::light();
    }

    /// For whoever has put an item in, or found one: see [`Holds::meet`].
    pub fn meet(&self) {
        barrier::light();
    }
}

impl Drop for Hold<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `Holds::all`: what was held is not used any more.
        self.place.store(NOTHING, Ordering::Release);
        // Relaxed: as in `begin`.
        if self.row.lent.load(Ordering::Relaxed) != NIL {
            self.row.give_back();
        }
    }
}

/// A small number for each thread that lives.
#[cfg(not(slabpool_loom))]
mod numbers {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crossbeam_queue::SegQueue;

    static FREE: SegQueue<u32> = SegQueue::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);

    const UNSET: u32 = u32::MAX;
    const ENDED: u32 = u32::MAX - 1;

    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(UNSET) };
        static END: End = const { End };
    }

    /// Gives the number of a thread back when that ends.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            let number = NUMBER.replace(ENDED);
            if number < ENDED {
                give(number);
            }
        }
    }

    /// The number of this thread, unless it is about to end.
    #[inline(always)]
    pub fn own() -> Option<u32> {
        let number = NUMBER.get();
        if number < ENDED { Some(number) } else { first(number) }
    }

    #[cold]
    fn first(number: u32) -> Option<u32> {
        if number == ENDED || END.try_with(|_| {}).is_err() {
            return None;
        }
        let number = take();
        NUMBER.set(number);
        Some(number)
    }

    /// A number that nobody has.
    pub fn take() -> u32 {
        // Relaxed: a counter. The queue hands on what the last owner did.
        FREE.pop().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub fn give(number: u32) {
        FREE.push(number);
    }
}

/// In models, threads have a number each, and none is used again.
#[cfg(slabpool_loom)]
mod numbers {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    loom::lazy_static! {
        static ref NEXT: AtomicU32 = AtomicU32::new(0);
    }

    loom::thread_local! {
        static NUMBER: Cell<Option<u32>> = Cell::new(None);
    }

    pub fn own() -> Option<u32> {
        NUMBER
            .try_with(|own| {
                if own.get().is_none() {
                    own.set(Some(take()));
                }
                own.get()
            })
            .ok()
            .flatten()
    }

    pub fn take() -> u32 {
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub fn give(_: u32) {}
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_found_until_it_is_let_go() {
        let holds = Holds::new();
        let many: Vec<_> = (1..=3 * PLACES as u64)
            .map(|item| {
                let hold = holds.begin();
                hold.keep(item);
                hold
            })
            .collect();
        assert_eq!(holds.all(), Some((1..=3 * PLACES as u64).collect()));
        many[4].keep(700);
        assert_eq!(holds.all().unwrap().last(), Some(&700));
        drop(many);
        assert_eq!(holds.all(), Some(vec![]));
    }

    #[test]
    fn threads_that_come_and_go_share_rows() {
        let holds = Holds::new();
        for item in 1..50 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let hold = holds.begin();
                    hold.keep(item);
                    assert_eq!(holds.all(), Some(vec![item]));
                });
            });
        }
        assert_eq!(holds.all(), Some(vec![]));
    }
}
