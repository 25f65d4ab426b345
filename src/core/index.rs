//! A table of items by hash that grows while it is in use: one list of all items in the
//! order of their hashes, and ways into it.
//!
//! # Layout
//!
//! A *place* is a node of the list: its hash, an item (a pointer that means nothing here),
//! and the word that leads to the next node. A *door* is a node without an item, at the
//! beginning of its part of the hashes. Doors are in an array by levels, each of which cuts
//! the hashes into twice as many parts as the one before. A hash leads to one door in each
//! level: the door of the level before is half its number. To grow is to go on to the next
//! level; its doors are put into the list one by one, by who looks for something behind them
//! first, reader or writer.
//!
//! ```text
//!   doors:   [1024]              [1025]              [1026] ...
//!               |                   |                   |
//!   list:    door -> 17a -> 1c3 -> door -> 401 -> ... -> door -> ...
//! ```
//!
//! # The word
//!
//! ```text
//!  63           30   29     28    27   26          0
//! +---------------+------+------+------+------------+
//! |      tag      | open | gone | door |   number   |   number == NIL: the end
//! +---------------+------+------+------+------------+
//! ```
//!
//! # Invariants
//!
//! * **X1** Every change of a word raises its tag; words are never reset. Places are never
//!   unmapped, and used again as places only. So a word that is what it was has not
//!   changed, and its node has been in the list all the time.
//! * **X2** The word of a node in the list leads to the next in order. A node is put in, and
//!   taken out, by an exchange of the word before it. A node that is `gone` stays as it is
//!   until it was taken out, and whoever has made it so owns it then.
//! * **X3** An item that a place in the list leads to is not given up before the place was
//!   taken out, and nobody holds the item then (O1).

mod doors;
mod places;
mod seek;

use crate::core::arena::{Arena, Record};
use crate::core::hold::{Hold, Holds};
use crate::core::levels::{FIRST, Levels};
use crate::core::tagged::NIL as NONE;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Crossing, Ordering, overwrite};

/// Doors in the first level; at least as many as in that of [`Levels`].
const FIRST_LEVEL: u32 = match () {
    () if cfg!(slabpool_loom) => 2,
    () if cfg!(test) => 6,
    () => 10,
};
const LAST_LEVEL: u32 = if cfg!(slabpool_loom) { 3 } else { 25 };
const _: () = assert!(1 << FIRST_LEVEL >= FIRST);

const TAG_ONE: u64 = 1 << 30;
/// The door may be begun at.
const OPEN: u64 = 1 << 29;
const GONE: u64 = 1 << 28;
const DOOR: u32 = 1 << 27;
/// Below all doors, and above all places.
const NIL: u32 = DOOR - 1;
const NODE_MASK: u64 = (1 << 28) - 1;

/// What the word of a node held at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn node(self) -> u32 {
        (self.0 & NODE_MASK) as u32
    }

    fn is_gone(self) -> bool {
        self.0 & GONE != 0
    }

    fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    /// The word that follows this one and leads to `node`.
    fn to(self, node: u32) -> Self {
        Self((self.0 & !NODE_MASK).wrapping_add(TAG_ONE) | u64::from(node))
    }
}

/// A node of the list that has an item.
#[derive(Debug)]
pub struct Place {
    next: AtomicU64,
    order: AtomicU32,
    item: AtomicPtr<()>,
    /// The next in a stack of places that are not in the list.
    free: AtomicU32,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(GONE | u64::from(NIL)),
            order: AtomicU32::new(0),
            item: AtomicPtr::new(std::ptr::null_mut()),
            free: AtomicU32::new(NONE),
        }
    }
}

impl Record for Place {
    fn free_link(&self) -> &AtomicU32 {
        &self.free
    }
}

#[derive(Debug)]
struct Door(AtomicU64);

impl Default for Door {
    fn default() -> Self {
        Self(AtomicU64::new(SHUT))
    }
}

/// The word of a door that nobody has put into the list.
const SHUT: u64 = NIL as u64;

/// Between two nodes of the list: the word of the first one, and what it held.
#[derive(Clone, Copy)]
pub struct Gap<'a> {
    at: &'a AtomicU64,
    word: Word,
}

/// What was found.
pub enum Sought<'a> {
    /// A place whose item is held.
    Found(Found<'a>),
    /// There is none. Here it would be.
    Gap(Gap<'a>),
}

/// What comes after a gap.
enum Step<'a> {
    /// A place of the order that is looked for, perhaps not in the list any more, and its
    /// word.
    Same(&'a Place, Word),
    /// What stands before that.
    On(Gap<'a>),
    /// What stands after it, or nothing.
    End,
    /// Others have changed the list.
    Changed,
}

/// A place in the list, as it was when its item was held.
pub struct Found<'a> {
    pub item: *mut (),
    /// The word of the place, as it was.
    own: Gap<'a>,
    before: Gap<'a>,
}

/// The table.
#[derive(Debug)]
pub struct Index {
    doors: Levels<Door>,
    places: Arena<Place>,
    level: AtomicU32,
    pub holds: Holds,
    crossing: Crossing,
}

impl Index {
    pub fn new() -> Self {
        let index = Self {
            doors: Levels::new(),
            places: Arena::new(),
            level: AtomicU32::new(FIRST_LEVEL),
            holds: Holds::new(),
            crossing: Crossing::unseen(),
        };
        index.doors.cover((1 << FIRST_LEVEL) - FIRST);
        let end = 2 << FIRST_LEVEL;
        for number in 1 << FIRST_LEVEL..end {
            let next = if number + 1 == end { NIL } else { DOOR | (number + 1) };
            overwrite(&index.door(number).0, OPEN | u64::from(next), Ordering::Relaxed);
        }
        index
    }

    /// For models of the index itself: see [`Crossing`].
    #[cfg(slabpool_loom)]
    pub fn seen() -> Self {
        Self { crossing: Crossing::seen(), ..Self::new() }
    }

    #[inline(always)]
    fn door(&self, number: u32) -> &Door {
        self.doors.get(number - FIRST)
    }

    #[inline(always)]
    fn load(&self, at: &AtomicU64) -> Word {
        self.crossing.pass();
        // Acquire: pairs with the Release of whoever changed it (`exchange`). Each change
        // is a read-modify-write, so that all of them before it are seen as well.
        Word(at.load(Ordering::Acquire))
    }

    /// Whether the word before a gap is what it was.
    #[inline(always)]
    fn stands(&self, gap: Gap<'_>) -> bool {
        self.load(gap.at) == gap.word
    }

    #[inline(always)]
    fn exchange(&self, gap: Gap<'_>, next: Word) -> bool {
        self.crossing.pass();
        // Release: pairs with the Acquire in `load`. Relaxed on failure: it is loaded again.
        let exchange =
            gap.at.compare_exchange(gap.word.0, next.0, Ordering::Release, Ordering::Relaxed);
        exchange.is_ok()
    }

    /// The number of an order's door in a level.
    #[inline(always)]
    fn door_of(order: u32, level: u32) -> u32 {
        1 << level | order >> (u32::BITS - level)
    }

    /// The door to begin at: this one. If nobody has put it in, this does.
    #[inline(always)]
    fn begin(&self, number: u32) -> Gap<'_> {
        let at = &self.door(number).0;
        let word = self.load(at);
        if word.is_open() { Gap { at, word } } else { self.begin_anew(number) }
    }

    /// Where a hash stands in the list, after the doors that begin with it.
    #[inline(always)]
    pub fn order_of(hash: u64) -> u32 {
        // In models all begin at one door.
        const USED: u32 = if cfg!(slabpool_loom) { FIRST_LEVEL } else { 0 };
        (hash >> (u32::BITS + USED)) as u32 | 1
    }

    /// Where a door stands in the list: by the first order that begins with it, and before
    /// those of later levels.
    fn order_of_door(number: u32) -> u32 {
        number << number.leading_zeros() << 1
    }

    /// Takes a node out that is gone, and comes after `gap`.
    #[cold]
    #[inline(never)]
    fn unlink<'a>(&self, gap: Gap<'a>, next: Word) -> Option<Gap<'a>> {
        let word = gap.word.to(next.node());
        self.exchange(gap, word).then_some(Gap { at: gap.at, word })
    }

    /// Puts a place into the list, which the caller owns. False if the list was changed
    /// there, by something alike perhaps.
    pub fn link(&self, hold: &Hold<'_>, gap: Gap<'_>, place: u32) -> bool {
        let word = &self.places.get(place).next;
        // Relaxed: the place is the caller's. Release: as in `fill`.
        let own = Word(word.load(Ordering::Relaxed) & !GONE);
        overwrite(word, own.to(gap.word.node()).0, Ordering::Release);
        let linked = self.exchange(gap, gap.word.to(place));
        if linked {
            hold.row.count(1);
            self.grow_if_full();
        }
        linked
    }

    /// Takes out what was found. `None` if somebody else does, or it has changed: the caller
    /// looks again. The place is the caller's, its item may be held by others.
    pub fn take_out(&self, order: u32, hold: &Hold<'_>, found: &Found<'_>) -> Option<u32> {
        let next = found.own.word;
        let gone = Word(next.to(next.node()).0 | GONE);
        if !self.exchange(found.own, gone) {
            return None;
        }
        if self.unlink(found.before, gone).is_none() {
            // Whoever passes there takes it out. If nobody has, this does.
            self.seek_and(order, |_| {}, |_| false);
        }
        hold.row.count(-1);
        Some(found.before.word.node())
    }
}
