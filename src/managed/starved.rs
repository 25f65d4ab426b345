//! Who waits for room in the whole pool: the desks whose callers may connect by the limits
//! of their peer, and find that all that the pool may hold is in use.
//!
//! # The handshake
//!
//! As at a [desk](super::desk): who starves *stands in the queue first, and looks then*;
//! whoever makes room *makes it first, and looks at the queue then*. Between the two steps
//! each of them has a fence, so that one of the two sees the other:
//!
//! * who starves writes `hungry`, and looks for free places and idle connections then;
//! * whoever closes a connection, gives up a place or raises the capacity changes the
//!   capacity's word, and looks at `hungry` then;
//! * whoever makes a connection idle writes the state of its seat, and looks at `hungry`
//!   then, because an idle connection can be closed to make room.
//!
//! Whoever sees it *feeds* ([`Starved::feed`]): takes a place, and hands it to the desk
//! that starves for longest, so that nobody who comes later gets in between. A place that
//! nobody takes frees itself, which is the next occasion to feed.
//!
//! A connection that is released goes to its own peer's line first, since that costs no
//! connect. But not for ever: no more than [`PASSED_MAX`] times in a row past others that
//! starve.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering, fence};

/// So many connections in a row may stay with their peers while others starve for room.
const PASSED_MAX: u32 = 16;

/// A desk's place in the queue: who has the least is first.
pub type Spot = u64;

/// See the module.
#[derive(Debug)]
pub struct Starved {
    /// Whether anybody is in the queue. Changes under its lock alone.
    hungry: AtomicBool,
    /// How many connections were left to their own peers since somebody was fed.
    passed: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: Spot,
    desks: BTreeMap<Spot, u32>,
}

/// What feeding needs to know of desks and places.
pub trait Larder {
    /// A place in the pool, which frees itself when it is dropped.
    type Unit;

    /// Whether a desk still starves, with this spot. If not, it leaves the queue.
    fn starves(&self, spot: Spot, desk: u32) -> bool;

    /// A place, if one can be had. Called without a lock; may run code of the user.
    fn take(&self) -> Option<Self::Unit>;

    /// Hands a place to a desk whose spot it was. Gives it back if it is not needed.
    fn hand(&self, spot: Spot, desk: u32, unit: Self::Unit) -> Option<Self::Unit>;
}

impl Default for Starved {
    fn default() -> Self {
        Self {
            hungry: AtomicBool::new(false),
            passed: AtomicU32::new(0),
            queue: Mutex::new(Queue::default()),
        }
    }
}

impl Starved {
    /// A desk joins the queue. The caller holds the lock of its line, and feeds after
    /// that.
    pub fn enrol(&self, desk: u32) -> Spot {
        let mut queue = self.lock();
        let spot = queue.next;
        queue.next += 1;
        queue.desks.insert(spot, desk);
        // Relaxed: the fences are between this and what either side does next.
        self.hungry.store(true, Ordering::Relaxed);
        spot
    }

    /// Whether anybody starves, for one who might overtake.
    pub fn is_hungry(&self) -> bool {
        // Relaxed: whoever comes too early for it has come first.
        self.hungry.load(Ordering::Relaxed)
    }

    /// As [`Starved::is_hungry`], for one who has just made room.
    pub fn is_hungry_now(&self) -> bool {
        // SeqCst: pairs with the fence in `feed`.
        fence(Ordering::SeqCst);
        self.hungry.load(Ordering::Relaxed)
    }

    /// As [`Starved::is_hungry_now`], for one whose last change of anything shared was a
    /// read-modify-write: a release, which has pushed its ticket.
    #[inline(always)]
    pub fn is_hungry_after_push(&self) -> bool {
        push_fence();
        self.hungry.load(Ordering::Relaxed)
    }

    /// Hands out places for as long as there are any, and desks that starve.
    #[cold]
    pub fn feed<L: Larder>(&self, larder: &L) {
        while self.feed_one(larder, None) {}
    }

    /// A connection of this desk has come back, and others wait for it there: feeds one of
    /// those who starve elsewhere, if they were passed over often enough.
    #[cold]
    pub fn feed_others<L: Larder>(&self, larder: &L, own: u32) {
        // Relaxed, all of them: any order will do, and a count more or less.
        if self.passed.fetch_add(1, Ordering::Relaxed) >= PASSED_MAX {
            self.feed_one(larder, Some(own));
        }
    }

    /// Hands out a place, if there is one. `spared` is not given any. True if there may be
    /// more to do.
    fn feed_one<L: Larder>(&self, larder: &L, spared: Option<u32>) -> bool {
        while let Some((spot, desk)) = self.first(spared) {
            // Before anything is closed for it.
            if !larder.starves(spot, desk) {
                self.strike(spot);
                continue;
            }
            // SeqCst: pairs with those in `is_hungry_now` and `push_fence`. Either whoever
            // makes room sees that somebody starves, or the room is seen here.
            fence(Ordering::SeqCst);
            let Some(mut unit) = larder.take() else { return false };
            while let Some((spot, desk)) = self.pop(spared) {
                match larder.hand(spot, desk, unit) {
                    Some(left) => unit = left,
                    None => {
                        self.passed.store(0, Ordering::Relaxed);
                        return true;
                    }
                }
            }
            // Nobody took it: it frees itself here.
        }
        false
    }

    fn first(&self, spared: Option<u32>) -> Option<(Spot, u32)> {
        self.lock().first(spared)
    }

    fn pop(&self, spared: Option<u32>) -> Option<(Spot, u32)> {
        let mut queue = self.lock();
        let first = queue.first(spared)?;
        queue.desks.remove(&first.0);
        self.note(&queue);
        Some(first)
    }

    fn strike(&self, spot: Spot) {
        let mut queue = self.lock();
        queue.desks.remove(&spot);
        self.note(&queue);
    }

    fn note(&self, queue: &Queue) {
        if queue.desks.is_empty() {
            // Relaxed: as in `enrol`.
            self.hungry.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock can fail half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The first desk, but for this one.
    fn first(&self, spared: Option<u32>) -> Option<(Spot, u32)> {
        let mut desks = self.desks.iter().map(|(&spot, &desk)| (spot, desk));
        desks.find(|&(_, desk)| Some(desk) != spared)
    }
}

/// A fence, for one whose last change of anything shared was a read-modify-write.
///
/// On x86 that is a full fence already: every one of them is a locked instruction, after
/// which a load is not done early. The language does not promise it, so the compiler is
/// kept from moving the load, and all others, models too, get a fence that it does promise.
#[inline(always)]
fn push_fence() {
    if cfg!(all(any(target_arch = "x86_64", target_arch = "x86"), not(slabpool_loom), not(miri))) {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}
