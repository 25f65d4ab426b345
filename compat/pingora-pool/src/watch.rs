//! What an idle connection, its watcher, and whoever takes it out of the pool tell each other.
//!
//! ```text
//!         check            fail
//!   New --------> Checked -------> Gone             by the watcher
//!    |   pass |  ^   |
//!    |        v  | check
//!    |        Idle   |
//!    |         |     |
//!    +---------+-----+-----------> Used, Evicted, Gone
//!                                  by whoever took it out of the pool
//! ```
//!
//! # Invariants
//!
//! * **W1** Who has taken the connection out of the pool holds it alone. It says once what
//!   has become of it, unless the watcher has ended it before.
//! * **W2** What has become of it, once said, stays.
//! * **W3** The watcher has the stream from the beginning, and while the state is `Checked`.
//!   It has let go of it before it passes. Only a get that has lost its patience interferes.
//!
//! # Letting go
//!
//! Who gets a connection before its watcher has let go waits for the stream's lock, and then
//! finds out whether it has the stream alone. The watcher's guard gives up the lock, wakes
//! the getter, and only then gives up its share of the stream. To wake a runtime on another
//! thread takes as long as it takes that one to find the stream shared, and to throw the
//! connection away. So a getter in a runtime of one thread leaves that runtime's handle, and
//! the guard is dropped there: who is on the same thread cannot look in between.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::thread;

use atomic_waker::AtomicWaker;
use slabpool::Token;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch::Receiver;

/// How often a get lets a watcher finish that looks at the connection just now.
const PATIENCE: usize = 64;

/// No deadline.
const NEVER: u64 = u64::MAX;

const NEW: u8 = 0;
const IDLE: u8 = 1;
const CHECKED: u8 = 2;
const USED: u8 = 3;
const EVICTED: u8 = 4;
const GONE: u8 = 5;

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
            NEW | IDLE | CHECKED => None,
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
    /// The connection's name, when it is in the pool.
    token: OnceLock<Token>,
    /// When its idle timeout is over, in nanoseconds since the pool was made.
    deadline: AtomicU64,
    /// Changes when the connection is closed, if it can say so.
    closed: OnceLock<Receiver<bool>>,
    /// Where somebody waits for the watcher to let go.
    getter: OnceLock<Handle>,
    /// The watcher.
    waker: AtomicWaker,
}

impl Watch {
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(NEW),
            token: OnceLock::new(),
            deadline: AtomicU64::new(NEVER),
            closed: OnceLock::new(),
            getter: OnceLock::new(),
            waker: AtomicWaker::new(),
        }
    }

    /// Names the connection, which is in the pool, or was.
    pub fn pooled_as(&self, token: Token) {
        // It is put in once.
        let _ = self.token.set(token);
    }

    /// None if it was not taken in, or is about to be.
    pub fn token(&self) -> Option<Token> {
        self.token.get().copied()
    }

    /// What has become of the connection, or who is to be woken when that is known.
    pub fn poll_end(&self, waker: &Waker) -> Option<End> {
        self.waker.register(waker);
        // Either the register before it comes after the wake in `claim` or `say`, or that
        // wakes us. Acquire: pairs with the Release in `claim`, for the getter.
        End::of(self.state.load(Ordering::Acquire))
    }

    /// Says when the idle timeout is over.
    pub fn expire_at(&self, deadline: u64) {
        // Relaxed: for gets after the next `step`, which is a Release. Others do not know of it.
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Says who knows whether the connection is closed.
    pub fn closed_by(&self, closed: Receiver<bool>) {
        // There is one watcher, which says it once.
        let _ = self.closed.set(closed);
    }

    /// By the watcher, before it touches the stream (W3).
    pub fn check(&self) -> Result<Check<'_>, End> {
        self.step(CHECKED)?;
        Ok(Check { watch: self })
    }

    /// By the watcher: the connection is not to be used any more. `Err` if something else has
    /// become of it. If not, it is still in the pool, or somebody has it who will find out.
    pub fn end(&self) -> Result<(), End> {
        self.step(GONE)
    }

    /// The runtime in which the watcher is to let go of the stream.
    pub fn getter(&self) -> Option<&Handle> {
        self.getter.get()
    }

    /// By who has taken the connection out of the pool, to use it (W1). False if it is to be
    /// closed instead. `now` tells the time since the pool was made, in nanoseconds.
    pub fn claim(&self, now: impl FnOnce() -> u64) -> bool {
        let mut patience = PATIENCE;
        // Relaxed: only compared.
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            match state {
                GONE => return false,
                CHECKED if patience > 0 => {
                    patience -= 1;
                    thread::yield_now();
                    state = self.state.load(Ordering::Relaxed);
                    continue;
                }
                NEW | CHECKED => self.wait_here(),
                _ => debug_assert_eq!(state, IDLE, "in the pool, and something became of it (W1)"),
            }
            // Acquire: pairs with the Release in `step`, for the deadline. Release: pairs with
            // the Acquire there, for the getter.
            let (set, failed) = (Ordering::AcqRel, Ordering::Relaxed);
            match self.state.compare_exchange(state, USED, set, failed) {
                Ok(_) => break,
                Err(other) => state = other,
            }
        }
        self.waker.wake();
        // Relaxed: see above. If the watcher sets it now, it has just begun to run.
        let deadline = self.deadline.load(Ordering::Relaxed);
        let in_time = deadline == NEVER || now() < deadline;
        in_time && self.closed.get().is_none_or(|closed| matches!(closed.has_changed(), Ok(false)))
    }

    /// Says where the getter waits, if that matters.
    fn wait_here(&self) {
        if let Ok(runtime) = Handle::try_current()
            && runtime.runtime_flavor() == RuntimeFlavor::CurrentThread
        {
            // The same, if it is set: there is one getter (W1).
            let _ = self.getter.set(runtime);
        }
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

    /// By the watcher: from whatever it is, if nothing has become of the connection.
    fn step(&self, to: u8) -> Result<(), End> {
        let open = |state| End::of(state).is_none().then_some(to);
        // Release: pairs with the Acquire in `claim`, for the deadline. Acquire: with the
        // Release there, for the getter.
        match self.state.fetch_update(Ordering::Release, Ordering::Acquire, open) {
            Ok(_) => Ok(()),
            Err(state) => Err(End::of(state).expect("there is no other reason")),
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
        self.finish(IDLE)
    }

    /// The connection is not to be used any more. `Err` if something else has become of it.
    pub fn fail(self) -> Result<(), End> {
        self.finish(GONE)
    }

    fn finish(self, to: u8) -> Result<(), End> {
        let watch = self.watch;
        std::mem::forget(self);
        watch.step(to)
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        let _ = self.watch.step(GONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> u64 {
        panic!("there is no deadline")
    }

    #[test]
    fn what_the_watcher_has_ended_is_not_used() {
        // Before it is out of the pool.
        let watch = Watch::new();
        assert_eq!(watch.end(), Ok(()));
        assert!(!watch.claim(never));
        // After a look, and by a panic.
        let watch = Watch::new();
        assert_eq!(watch.check().unwrap().fail(), Ok(()));
        assert!(!watch.claim(never));
        let watch = Watch::new();
        drop(watch.check().unwrap());
        assert!(!watch.claim(never));
    }

    #[test]
    fn what_was_said_first_stays() {
        for end in [End::Used, End::Evicted, End::Gone] {
            let watch = Watch::new();
            let check = watch.check().unwrap();
            watch.say(end);
            watch.say(End::Gone);
            watch.say(End::Evicted);
            assert_eq!(check.pass(), Err(end));
            assert_eq!(watch.check().map(drop), Err(end));
            assert_eq!(watch.end(), Err(end));
            assert_eq!(watch.poll_end(Waker::noop()), Some(end));
        }
    }

    #[test]
    fn a_get_interferes_when_its_patience_is_at_an_end() {
        let watch = Watch::new();
        let check = watch.check().unwrap();
        assert!(watch.claim(never));
        assert_eq!(check.fail(), Err(End::Used));
        assert!(watch.getter().is_none(), "there is no runtime");
    }

    #[test]
    fn a_get_waits_for_a_look() {
        for _ in 0..100 {
            let watch = Watch::new();
            let check = watch.check().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| assert!(watch.claim(never)));
                // Either it waits for this, or it lost its patience before.
                assert!(matches!(check.pass(), Ok(()) | Err(End::Used)));
            });
            assert_eq!(watch.poll_end(Waker::noop()), Some(End::Used));
        }
    }

    #[test]
    fn a_deadline_is_the_first_moment_that_is_too_late() {
        for (now, in_time) in [(6, true), (7, false), (8, false)] {
            let watch = Watch::new();
            watch.expire_at(7);
            assert_eq!(watch.check().unwrap().pass(), Ok(()));
            assert_eq!(watch.claim(|| now), in_time);
        }
    }
}
