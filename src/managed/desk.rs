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

use std::fmt;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use crate::core::arena::Record;
use crate::managed::line::{Id, Left, Line, Polled};
use crate::managed::word::{Bounds, State, Word};
use crate::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};

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
}

/// What waiting ends with.
pub type Outcome<T> = Result<<T as Trade>::Lease, <T as Trade>::Failure>;
type LineOf<T> = Line<<T as Trade>::Waiter, <T as Trade>::Grant, Outcome<T>>;

/// See the module.
pub struct Desk<T: Trade> {
    pub word: Word,
    /// Of the key of the peer.
    hash: AtomicU64,
    room: Mutex<Room<T>>,
    free_link: AtomicU32,
}

struct Room<T: Trade> {
    line: LineOf<T>,
    /// How many connects have failed, and how the last one did.
    failures: u64,
    last: Option<T::Failure>,
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
    /// A permit to connect. The waiting goes on.
    Grant(T::Grant),
}

/// What is to be done without the lock, by dropping this. So it is made before the lock is
/// taken.
#[must_use = "somebody may have to be woken"]
pub struct After<T: Trade> {
    wakers: Vec<Waker>,
    grants: Vec<T::Grant>,
    failure: Option<T::Failure>,
}

impl<T: Trade> Default for After<T> {
    fn default() -> Self {
        Self { wakers: Vec::new(), grants: Vec::new(), failure: None }
    }
}

impl<T: Trade> After<T> {
    fn note(&mut self, (waker, grant): (Option<Waker>, Option<T::Grant>)) {
        self.wakers.extend(waker);
        self.grants.extend(grant);
    }
}

impl<T: Trade> Drop for After<T> {
    fn drop(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
        // Permits that were not used free themselves, and so find their next waiter.
        self.grants.clear();
    }
}

impl<T: Trade> Desk<T> {
    /// Joins those who wait. The caller is a visitor, and looks after this for idle
    /// connections, and whether the pool is closed.
    pub fn join(
        &self,
        who: T::Waiter,
        how: Joins,
        bounds: Bounds,
        make: impl Fn() -> T::Grant,
    ) -> Result<Ticket, LineFull> {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let Room { line, failures, .. } = &mut *room;
        let failures = *failures;
        let may =
            how == Joins::Apart && line.next_wanting(T::is_late).is_none() && !T::is_late(&who);
        if may && self.word.reserve(bounds) {
            return Ok(Ticket { id: line.join_apart(who, make()), failures });
        }
        // Nothing can be returned where nothing is.
        let wants = how != Joins::Patient || self.word.load().connections() == 0;
        let id = line.join(who, wants);
        // Before it looks for a permit: whoever frees one after that look sees the flag.
        self.word.set_waiting(true);
        self.allot(line, bounds, make, &mut after);
        let covered = self.word.load().connecting() as usize;
        let alone = line.waiting().saturating_sub(covered);
        let full = alone > bounds.waiters as usize && !line.is_granted(id);
        if full {
            let left = line.leave(id);
            after.note((left.waker, left.grant));
        }
        self.word.set_waiting(!line.is_empty());
        if full { Err(LineFull) } else { Ok(Ticket { id, failures }) }
    }

    /// One who waits wants a connect from now on.
    pub fn want(&self, id: Id, bounds: Bounds, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        room.line.want(id);
        self.allot(&mut room.line, bounds, make, &mut after);
    }

    /// What there is for one who waits.
    pub fn poll(&self, id: Id, cx: &mut Context<'_>) -> Poll<News<T>> {
        // Cloned before the lock is taken, and what it replaces dropped after.
        let mut waker = Some(cx.waker().clone());
        match self.lock().line.poll(id, &mut waker) {
            Polled::Outcome(outcome) => Poll::Ready(News::Outcome(outcome)),
            Polled::Grant(grant) => Poll::Ready(News::Grant(grant)),
            Polled::Nothing => Poll::Pending,
        }
    }

    /// Gives up a place. What is left there is for somebody else.
    pub fn leave(&self, id: Id) -> Left<T::Grant, Outcome<T>> {
        let _spare;
        let mut room = self.lock();
        let left = room.line.leave(id);
        self.word.set_waiting(!room.line.is_empty());
        _spare = room.line.shrink();
        left
    }

    /// Hands a connection over to the first in the line. Gives it back if nobody is there.
    pub fn give(&self, lease: T::Lease) -> Result<(), T::Lease> {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.hand_over(&mut room.line, lease, None, &mut after)
    }

    /// As [`Desk::give`], of a connection that was just opened. The one that it was opened
    /// for goes first if it waits apart.
    pub fn give_new(
        &self,
        lease: T::Lease,
        by: Id,
        bounds: Bounds,
        make: impl Fn() -> T::Grant,
    ) -> Result<(), T::Lease> {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.word.opened();
        let given = self.hand_over(&mut room.line, lease, Some(by), &mut after);
        room.line.reopen(by);
        self.allot(&mut room.line, bounds, make, &mut after);
        given
    }

    /// Whether anybody would take a connection that was opened for this place.
    pub fn has_taker(&self, by: Id) -> bool {
        let mut room = self.lock();
        room.line.waits_apart(by) || !room.line.is_empty()
    }

    /// A connection that was just opened is idle. Somebody may have joined meanwhile: the
    /// caller looks at the word after this.
    pub fn shelved_new(&self, bounds: Bounds, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.word.opened();
        self.allot(&mut room.line, bounds, make, &mut after);
    }

    /// A connect has failed. Its permit is freed.
    ///
    /// The one that it was for learns it, if it still waits. If the peer has nothing left,
    /// no connection and no other connect, all learn it who wanted a connect: nothing
    /// could serve them. If there are only other connects, these decide; none is started
    /// in place of this one. If there are connections, the next one gets its turn.
    pub fn fail(
        &self,
        by: Id,
        failure: T::Failure,
        bounds: Bounds,
        make: impl Fn() -> T::Grant,
    ) -> State {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let Room { line, failures, last } = &mut *room;
        *failures += 1;
        after.failure = last.replace(failure.clone());
        if line.waits(by) {
            after.note(line.resolve(by, Err(failure.clone())));
        }
        let state = self.word.free(true);
        if state.connections() == 0 {
            for id in line.all() {
                if line.wants(id) {
                    after.note(line.resolve(id, Err(failure.clone())));
                }
            }
        } else if state.connections() > state.connecting() {
            self.allot(line, bounds, make, &mut after);
        }
        self.word.set_waiting(!line.is_empty());
        state
    }

    /// Ends the waiting of all.
    pub fn fail_all(&self, failure: T::Failure) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        for id in room.line.all() {
            after.note(room.line.resolve(id, Err(failure.clone())));
        }
        self.word.set_waiting(false);
    }

    /// A permit came free.
    pub fn freed(&self, bounds: Bounds, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.allot(&mut room.line, bounds, make, &mut after);
    }

    /// Hands a connection that is idle to the first in the line, if there are both. `read`
    /// tells of a waiter what `take` needs to find one that is idle.
    ///
    /// One is enough: whoever makes a connection idle comes here.
    pub fn serve<R>(
        &self,
        read: impl Fn(&T::Waiter) -> R,
        take: impl Fn(R) -> Option<T::Lease>,
        release: impl Fn(T::Lease),
    ) {
        while let Some(found) = self.first(&read) {
            let Some(lease) = take(found) else { return };
            match self.give(lease) {
                Ok(()) => return,
                // Whoever it was for has gone. Another may have joined since.
                Err(lease) => release(lease),
            }
        }
    }

    fn first<R>(&self, read: impl FnOnce(&T::Waiter) -> R) -> Option<R> {
        self.lock().line.first().map(|(_, who)| read(who))
    }

    /// How the last connect failed, if one has since this ticket was drawn.
    pub fn failure_since(&self, ticket: Ticket) -> Option<T::Failure> {
        let room = self.lock();
        let last = room.last.as_ref().filter(|_| room.failures != ticket.failures);
        last.cloned()
    }

    /// How many wait, with a connect under way for them or not.
    pub fn waiting(&self) -> usize {
        self.lock().line.waiting()
    }

    /// Takes up the desk for the peer whose key has this hash. The caller owns it.
    pub fn take_up(&self, hash: u64) {
        // Relaxed: the lock of the shard publishes it.
        self.hash.store(hash, Ordering::Relaxed);
    }

    /// Of the key of the peer that has the desk, or had it.
    pub fn hash(&self) -> u64 {
        // Relaxed: who goes by it takes the lock of the shard, and looks again.
        self.hash.load(Ordering::Relaxed)
    }

    /// Gives up the desk. The caller owns it.
    pub fn clear(&self) {
        let last = self.lock().last.take();
        drop(last);
    }

    fn hand_over(
        &self,
        line: &mut LineOf<T>,
        lease: T::Lease,
        to: Option<Id>,
        after: &mut After<T>,
    ) -> Result<(), T::Lease> {
        let to = to.filter(|&id| line.waits_apart(id)).or_else(|| line.first().map(|(id, _)| id));
        let Some(to) = to else { return Err(lease) };
        after.note(line.resolve(to, Ok(lease)));
        self.word.set_waiting(!line.is_empty());
        Ok(())
    }

    /// Permits connects: as many as are wanted and not under way, within the bounds.
    fn allot(
        &self,
        line: &mut LineOf<T>,
        bounds: Bounds,
        make: impl Fn() -> T::Grant,
        after: &mut After<T>,
    ) {
        while self.word.load().may_connect(line.demand(), bounds) {
            let Some(id) = line.next_wanting(T::is_late) else { return };
            if !self.word.reserve(bounds) {
                return;
            }
            after.wakers.extend(line.grant(id, make()));
        }
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
            hash: AtomicU64::new(0),
            room: Mutex::new(Room { line: Line::default(), failures: 0, last: None }),
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
