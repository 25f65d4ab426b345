//! The desk of a peer: its state word, and the line of those who wait.
//!
//! # The handshake
//!
//! Nobody sleeps while there is something for him. A waiter *stands in the line first,
//! and looks then*; whoever brings something *brings it first, and looks at the line
//! then*.
//!
//! * A **release** makes its connection idle by an exchange of a lane's head, and loads
//!   the state word after that. A waiter that has joined raises the tags of all heads
//!   (`Lanes::barrier`) before it looks for idle connections. So they meet in the head: a
//!   push that comes after sees the waiter, one that came before is seen.
//! * A **permit** is freed, and taken, in the state word itself, where the waiter's flag
//!   is as well.
//! * All others take the lock of the line: connects that have ended, closing, draining,
//!   whoever cancels.
//!
//! Connections are handed over, and come back if the one they were for has gone: from its
//! place in the line, where they lie until they are seen.
//!
//! No code of a user runs under the lock: what must be dropped, and who must be woken, is
//! an [`After`].

mod after;
mod barging;
mod connects;
mod handing;
mod health;
mod hub;
mod starving;
mod surplus;

use std::fmt;
use std::sync::PoisonError;
use std::task::{Context, Poll};

use crate::core::arena::Record;
use crate::managed::health::Vitals;
use crate::managed::limits::{Limits, Own};
use crate::managed::line::{Id, Left, Line, Polled};
use crate::managed::starved::Spot;
use crate::managed::streams::Begun;
use crate::managed::turn::Turn;
use crate::managed::word::{Bounds, Word};
use crate::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};
use after::After;
use hub::Hub;
pub use hub::Way;
pub use starving::Starving;
use surplus::Shedding;

/// What a desk deals in.
pub trait Trade {
    /// What is known of one who waits.
    type Waiter;
    /// A permit to open a connection, which frees itself when it is dropped.
    type Grant;
    /// A connection.
    type Lease;
    /// Why there will be none.
    type Failure: Clone;

    /// Whether it is too late to open a connection for this one.
    fn is_late(waiter: &Self::Waiter) -> bool;

    /// The time by which peers are down, in nanoseconds.
    fn now() -> u64 {
        0
    }
}

/// What waiting ends with.
pub type Outcome<T> = Result<<T as Trade>::Lease, <T as Trade>::Failure>;
type LineOf<T> = Line<<T as Trade>::Waiter, <T as Trade>::Grant, Outcome<T>>;

/// See the module.
pub struct Desk<T: Trade> {
    pub word: Word,
    pub turn: Turn,
    /// Of its peer (M7).
    pub limits: Limits,
    /// Of the key of the peer.
    hash: AtomicU64,
    /// The number of the channel that the next stream should be of, and one: the warmest
    /// that has room. 0 is none. Advice.
    hint: AtomicU32,
    room: Mutex<Room<T>>,
    free_link: AtomicU32,
}

struct Room<T: Trade> {
    line: LineOf<T>,
    hub: Hub<T::Lease>,
    /// How many connects have failed, and how the last one did.
    failures: u64,
    last: Option<T::Failure>,
    shedding: Shedding,
    health: Vitals,
    /// While the pool has no room for those who want a connect: no permits meanwhile.
    starving: Option<Spot>,
    /// What the peer has of its own; most have nothing.
    own: Option<Box<Own>>,
}

/// How a caller joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// Takes what comes first, and wants a connect at once.
    Wanting,
    /// Takes what comes first, and wants a connect later, unless there is nothing to wait
    /// for.
    Patient,
    /// Takes its own connect and nothing else, if that can be started at once.
    Apart,
}

/// One who waits, and how many connects had failed when that began.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    pub id: Id,
    pub failures: u64,
}

/// So many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineFull;

/// What a waiter finds.
pub enum News<T: Trade> {
    /// The end of the waiting.
    Outcome(Outcome<T>),
    /// The end of the waiting, for one who shares: a stream.
    Stream(Begun),
    /// A permit to connect. The waiting goes on.
    Grant(T::Grant),
    /// A hint that something may be idle: to look for it, and go on waiting if nothing is.
    Look,
}

impl<T: Trade> Desk<T> {
    /// Joins those who wait. The caller is a visitor, and looks after this for idle
    /// connections, and whether the pool is closed.
    pub fn join(
        &self,
        who: T::Waiter,
        how: Joins,
        bounds: &Limits,
        make: impl Fn() -> T::Grant,
    ) -> Result<Ticket, LineFull> {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let failures = room.failures;
        let may = how == Joins::Apart
            && room.starving.is_none()
            && room.line.next_wanting(T::is_late).is_none()
            && !T::is_late(&who);
        if may && self.reserve(&room, bounds.load()) {
            return Ok(Ticket { id: room.line.join_apart(who, make()), failures });
        }
        // Nothing can be returned where nothing is.
        let wants = how != Joins::Patient || self.word.load().connections() == 0;
        let id = room.line.join(who, wants);
        // Before it looks for a permit: whoever frees one after that look sees the flag.
        self.word.set_waiting(true);
        self.allot(&mut room, bounds, make, &mut after);
        let covered = self.word.load().connecting() as usize;
        let alone = room.line.waiting().saturating_sub(covered);
        let full = alone > bounds.load().waiters as usize && !room.line.is_granted(id);
        if full {
            let left = room.line.leave(id);
            after.note((left.waker, left.grant));
        }
        self.settle(&mut room.line, &mut after);
        if full { Err(LineFull) } else { Ok(Ticket { id, failures }) }
    }

    /// What there is for one who waits.
    pub fn poll(&self, id: Id, cx: &mut Context<'_>) -> Poll<News<T>> {
        // Cloned before the lock is taken, and what it replaces dropped after.
        let mut waker = Some(cx.waker().clone());
        let mut room = self.lock();
        match room.line.poll(id, &mut waker) {
            Polled::Outcome(outcome) => Poll::Ready(News::Outcome(outcome)),
            Polled::Stream(stream) => Poll::Ready(News::Stream(stream)),
            Polled::Grant(grant) => Poll::Ready(News::Grant(grant)),
            Polled::Look => {
                self.turn.set_nudged(room.line.nudged());
                Poll::Ready(News::Look)
            }
            Polled::Nothing => Poll::Pending,
        }
    }

    /// Gives up a place. What is left there is for somebody else.
    pub fn leave(&self, id: Id) -> Left<T::Grant, Outcome<T>> {
        let _spare;
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let left = room.line.leave(id);
        self.settle(&mut room.line, &mut after);
        _spare = room.line.shrink();
        left
    }

    /// Ends the waiting of all.
    pub fn fail_all(&self, failure: T::Failure) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        for id in room.line.all() {
            after.note(room.line.resolve(id, Err(failure.clone())));
        }
        room.starving = None;
        self.settle(&mut room.line, &mut after);
    }

    /// How many wait, with a connect under way for them or not.
    pub fn waiting(&self) -> usize {
        self.lock().line.waiting()
    }

    /// Takes up the desk for the peer whose key has this hash, and which has this of its own.
    /// The caller owns it, and holds the lock of the shard.
    pub fn take_up(&self, hash: u64, own: Option<Box<Own>>, pool: &Limits) {
        // Relaxed: the lock of the shard publishes it.
        self.hash.store(hash, Ordering::Relaxed);
        self.lock().own = own;
        self.relimit(pool);
    }

    /// Works out the limits of the peer anew, from those of the pool (M7).
    pub fn relimit(&self, pool: &Limits) {
        let room = self.lock();
        let bounds = pool.load();
        self.limits.store(room.own.as_ref().map_or(bounds, |own| own.over(bounds)));
    }

    /// What the peer has of its own.
    pub fn own(&self) -> Own {
        self.lock().own.as_deref().copied().unwrap_or_default()
    }

    /// Of the key of the peer that has the desk, or had it.
    pub fn hash(&self) -> u64 {
        // Relaxed: who goes by it takes the lock of the shard, and looks again.
        self.hash.load(Ordering::Relaxed)
    }

    /// Gives up the desk. The caller owns it.
    pub fn clear(&self) {
        // Relaxed: advice.
        self.hint.store(0, Ordering::Relaxed);
        let mut room = self.lock();
        room.health.recover();
        room.starving = None;
        let (last, hub, own) = (room.last.take(), room.hub.clear(), room.own.take());
        drop(room);
        drop((last, hub, own));
    }

    fn lock(&self) -> MutexGuard<'_, Room<T>> {
        // Nothing under the lock can fail half-way: a panic there is a bug, and the line as
        // good as it was.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Trade> Default for Desk<T> {
    fn default() -> Self {
        Self {
            word: Word::default(),
            turn: Turn::default(),
            limits: Limits::new(Bounds::default()),
            hash: AtomicU64::new(0),
            hint: AtomicU32::new(0),
            room: Mutex::new(Room {
                line: Line::default(),
                hub: Hub::default(),
                failures: 0,
                last: None,
                shedding: Shedding::default(),
                health: Vitals::default(),
                starving: None,
                own: None,
            }),
            free_link: AtomicU32::new(0),
        }
    }
}

impl<T: Trade> Record for Desk<T> {
    fn free_link(&self) -> &AtomicU32 {
        &self.free_link
    }
}

impl<T: Trade> fmt::Debug for Desk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("word", &self.word).finish_non_exhaustive()
    }
}
