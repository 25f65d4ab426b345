//! What an idle connection, its watcher, and whoever takes it out of the pool tell each other.
//!
//! ```text
//!            check                fail
//!   Idle -----------> Checked ---------> Gone       by the watcher
//!    | ^    pass         |
//!    | +-----------------+
//!    |                   |
//!    +-------------------+-------------> Used, Evicted, Gone
//!                                        by whoever took it out of the pool
//! ```
//!
//! # Invariants
//!
//! * **W1** Who has taken the connection out of the pool holds it alone. It says once what
//!   has become of it, unless the watcher has ended it before.
//! * **W2** What has become of it, once said, stays.
//! * **W3** The watcher touches the stream only while the state is `Checked`, or after a get
//!   that lost its patience. It has let go of it before it passes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::thread;

use atomic_waker::AtomicWaker;
use tokio::sync::watch::Receiver;

/// How often a get lets a watcher finish that looks at the connection just now.
const PATIENCE: usize = 64;

/// No deadline.
const NEVER: u64 = u64::MAX;

const IDLE: u8 = 0;
const CHECKED: u8 = 1;
const USED: u8 = 2;
const EVICTED: u8 = 3;
const GONE: u8 = 4;

/// What has become of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody got it.
    Used,
    /// It gave way to the bound.
    Evicted,
    /// It was closed, for whatever other reason.
    Gone,
}

impl End {
    fn of(state: u8) -> Option<Self> {
        match state {
            IDLE | CHECKED => None,
            USED => Some(Self::Used),
            EVICTED => Some(Self::Evicted),
            GONE => Some(Self::Gone),
            _ => unreachable!("there is no state {state}"),
        }
    }

    fn state(self) -> u8 {
        match self {
            Self::Used => USED,
            Self::Evicted => EVICTED,
            Self::Gone => GONE,
        }
    }
}

/// Shared by an idle connection and its watcher.
#[derive(Debug)]
pub(crate) struct Watch {
    state: AtomicU8,
    /// When its idle timeout is over, in nanoseconds since the pool was made.
    deadline: AtomicU64,
    /// Changes when the connection is closed, if it can say so.
    closed: OnceLock<Receiver<bool>>,
    /// The watcher.
    waker: AtomicWaker,
}

impl Watch {
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(IDLE),
            deadline: AtomicU64::new(NEVER),
            closed: OnceLock::new(),
            waker: AtomicWaker::new(),
        }
    }

    /// What has become of the connection, or who is to be woken when that is known.
    pub fn poll_end(&self, waker: &Waker) -> Option<End> {
        self.waker.register(waker);
        // Relaxed: either the register before it comes after the wake in `say`, and
        // synchronises with it, or that wakes us.
        End::of(self.state.load(Ordering::Relaxed))
    }

    /// Says when the idle timeout is over.
    pub fn expire_at(&self, deadline: u64) {
        // Relaxed: for gets after a `pass`, which is a Release. Others do not know of it.
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Says who knows whether the connection is closed.
    pub fn closed_by(&self, closed: Receiver<bool>) {
        // There is one watcher, which says it once.
        let _ = self.closed.set(closed);
    }

    /// By the watcher, before it touches the stream (W3).
    pub fn check(&self) -> Result<Check<'_>, End> {
        // Relaxed: the stream's lock orders what is done to that.
        self.step(IDLE, CHECKED, Ordering::Relaxed)?;
        Ok(Check { watch: self })
    }

    /// By the watcher: the connection is not to be used any more. `Err` if something else has
    /// become of it. If not, it is still in the pool, or somebody has it who will find out.
    pub fn end(&self) -> Result<(), End> {
        // Relaxed: nothing is handed over.
        self.step(IDLE, GONE, Ordering::Relaxed)
    }

    /// By who has taken the connection out of the pool, to use it (W1). False if it is to be
    /// closed instead. `now` tells the time since the pool was made, in nanoseconds.
    pub fn claim(&self, now: impl FnOnce() -> u64) -> bool {
        let mut patience = PATIENCE;
        loop {
            let from = if patience > 0 { IDLE } else { CHECKED };
            // Acquire: pairs with the Release in `pass`, for the deadline.
            match self.state.compare_exchange(from, USED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                // The watcher has ended it, and will find it gone from the pool.
                Err(GONE) => return false,
                Err(CHECKED) => {
                    patience -= 1;
                    thread::yield_now();
                }
                Err(IDLE) => patience = PATIENCE,
                Err(state) => unreachable!("in the pool, and in state {state} (W1)"),
            }
        }
        self.waker.wake();
        // Relaxed: see above. If the watcher sets it now, it has just begun to run.
        let deadline = self.deadline.load(Ordering::Relaxed);
        let in_time = deadline == NEVER || now() < deadline;
        in_time && self.closed.get().is_none_or(|closed| matches!(closed.has_changed(), Ok(false)))
    }

    /// By who has taken the connection out of the pool, or not put it in (W1).
    pub fn say(&self, end: End) {
        // Relaxed: nothing is handed over, and the wake publishes it.
        let (set, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        let open = |state| End::of(state).is_none().then_some(end.state());
        if self.state.fetch_update(set, failed, open).is_ok() {
            self.waker.wake();
        }
    }

    fn step(&self, from: u8, to: u8, ordering: Ordering) -> Result<(), End> {
        // Relaxed on failure: what has become of it is all that is of interest.
        match self.state.compare_exchange(from, to, ordering, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(state) => Err(End::of(state).expect("there is one watcher")),
        }
    }
}

/// The watcher touches the stream. If that panics, the connection is gone.
#[must_use]
pub(crate) struct Check<'a> {
    watch: &'a Watch,
}

impl Check<'_> {
    /// The connection is well, and the watcher has let go of it.
    pub fn pass(self) -> Result<(), End> {
        let watch = self.watch;
        std::mem::forget(self);
        // Release: pairs with the Acquire in `claim`.
        watch.step(CHECKED, IDLE, Ordering::Release)
    }

    /// The connection is not to be used any more. `Err` if something else has become of it.
    pub fn fail(self) -> Result<(), End> {
        let watch = self.watch;
        std::mem::forget(self);
        // Relaxed: nothing is handed over.
        watch.step(CHECKED, GONE, Ordering::Relaxed)
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        let _ = self.watch.step(CHECKED, GONE, Ordering::Relaxed);
    }
}
