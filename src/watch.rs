//! How the pool is told that something has happened to an idle connection, without a
//! task or an allocation for each.
//!
//! A seat of a pool that watches has a *bell*: a waker that says the seat's number. It
//! is registered with whatever wakes readers of the connection, when the connection
//! becomes idle. When it is woken it puts the number into a queue, which the reaper
//! empties: it looks at the connection as `retain` does, and closes it or registers the
//! bell again.
//!
//! The bell is not touched when the connection is leased. Most users then wait for an
//! answer, by which their own waker takes its place; some do not, and then it is still
//! registered on release and need not be again. What tells is the number of its clones,
//! which falls by one when it is woken or replaced.
//!
//! A bell that rings while the connection is leased, because something has come that
//! nobody waits for yet, says nothing about the connection; but it may also ring just
//! before the connection becomes idle. So the reaper keeps each ring until it has looked
//! at the connection, or that has gone.
//!
//! # Invariants
//!
//! * **W1** The bell of a seat is registered, replaced and read by the owner of the seat
//!   alone (S2). Wakers ring it, whenever they like, also when the pool has gone.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_queue::SegQueue;

use crate::connection::Liveness;
use crate::core::arena::{Arena, Record};
use crate::core::tagged::NIL;
use crate::sync::{AtomicBool, AtomicU32, Ordering, Step, UnsafeCell, fence};

/// The bells of all seats, and what they ring to.
#[derive(Debug)]
pub(crate) struct Bells {
    hooks: Arena<Hook>,
    belfry: Arc<Belfry>,
}

impl Bells {
    pub fn new() -> Self {
        Self { hooks: Arena::new(), belfry: Arc::new(Belfry::new()) }
    }

    pub fn belfry(&self) -> &Arc<Belfry> {
        &self.belfry
    }

    /// Makes sure that a seat has a bell, for a connection that is not watched yet. Not
    /// later, since a release must not allocate.
    ///
    /// # Safety
    ///
    /// The caller owns the seat.
    pub unsafe fn cover(&self, seat: u32) {
        self.hooks.cover(seat);
        let hook = self.hooks.get(seat);
        hook.set_watched(false);
        hook.bell.with_mut(|place| {
            // SAFETY: W1, by the caller's promise.
            let place = unsafe { &mut *place };
            // What the old one rings for is not this connection's.
            if !place.as_ref().is_some_and(Watcher::is_alone) {
                *place = Some(Watcher::new(seat, &self.belfry));
            }
        });
    }

    /// Whether the connection in a seat was found to be watched when it became idle.
    pub fn is_watched(&self, seat: u32) -> bool {
        self.hooks.get(seat).is_watched()
    }

    /// Whether the bell of a seat is registered still, and was not rung.
    ///
    /// # Safety
    ///
    /// As [`Bells::listen`].
    #[inline(always)]
    pub unsafe fn is_listening(&self, seat: u32) -> bool {
        self.hooks.get(seat).bell.with(|place| {
            // SAFETY: W1, by the caller's promise.
            let watcher = unsafe { &*place };
            watcher.as_ref().is_some_and(Watcher::is_listening)
        })
    }

    /// Sees to it that the bell of a seat rings when something happens to its
    /// connection, by `poll`. `lost` becomes true if it was watched before, and cannot be
    /// any more.
    ///
    /// # Safety
    ///
    /// The caller owns the seat, which was covered.
    pub unsafe fn listen(
        &self,
        seat: u32,
        lost: &mut bool,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<Liveness>,
    ) -> Liveness {
        let hook = self.hooks.get(seat);
        hook.bell.with_mut(|place| {
            // SAFETY: W1, by the caller's promise.
            let place = unsafe { &mut *place };
            let watcher = place.as_mut().expect("a seat that was covered has a bell");
            let answer = watcher.listen(poll);
            *lost = hook.is_watched() && !answer.is_pending();
            hook.set_watched(answer.is_pending());
            match answer {
                Poll::Pending => Liveness::Alive,
                Poll::Ready(liveness) => liveness,
            }
        })
    }

    /// Makes the bell of a seat say nothing more about a connection that leaves.
    ///
    /// # Safety
    ///
    /// As [`Bells::listen`].
    pub unsafe fn silence(&self, seat: u32) {
        self.hooks.get(seat).bell.with(|place| {
            // SAFETY: W1, by the caller's promise.
            let watcher = unsafe { &*place };
            if let Some(watcher) = watcher {
                watcher.bell.state.silence();
            }
        });
    }
}

/// Where the bell of a seat hangs, once it has one. Has the seat's index.
struct Hook {
    bell: UnsafeCell<Option<Watcher>>,
    watched: AtomicBool,
    unused: AtomicU32,
}

// SAFETY: the cell is touched by one thread at a time (W1), and its content may be sent.
unsafe impl Sync for Hook {}

impl Default for Hook {
    fn default() -> Self {
        Self {
            bell: UnsafeCell::new(None),
            watched: AtomicBool::new(false),
            unused: AtomicU32::new(NIL),
        }
    }
}

impl Record for Hook {
    fn free_link(&self) -> &AtomicU32 {
        &self.unused
    }
}

impl Hook {
    fn is_watched(&self) -> bool {
        // Relaxed: published with the state (S3); wrong for a moment at worst.
        self.watched.load(Ordering::Relaxed)
    }

    fn set_watched(&self, watched: bool) {
        // Relaxed: published with the state (S3).
        self.watched.store(watched, Ordering::Relaxed);
    }
}

/// A bell, and its owner's knowledge of it.
struct Watcher {
    bell: Arc<Bell>,
    waker: Waker,
    /// References to the bell when it was registered.
    registered: usize,
}

impl Watcher {
    /// References to a bell that is registered nowhere: `bell` and `waker`.
    const OWN: usize = 2;

    fn new(seat: u32, belfry: &Arc<Belfry>) -> Self {
        let belfry = Arc::clone(belfry);
        let bell = Arc::new(Bell { state: BellState::new(), seat, belfry });
        let waker = Waker::from(Arc::clone(&bell));
        Self { bell, waker, registered: 0 }
    }

    fn references(&self) -> usize {
        Arc::strong_count(&self.bell)
    }

    /// Whether nobody else can ring the bell, or still does.
    fn is_alone(&self) -> bool {
        // Says to a model what is said below.
        self.bell.belfry.step.observe();
        let alone = self.references() == Self::OWN;
        // Acquire: pairs with the Release by which `Arc` gives a reference up, so that
        // the ring of whoever had one comes before what the state says next.
        fence(Ordering::Acquire);
        alone
    }

    /// Whether the bell was not rung, and is registered still.
    ///
    /// Who wakes it takes the reference away first, or rings first. If neither is seen
    /// here, the reaper hears of it, and looks when the connection is idle. Who replaces
    /// it does so on the path of the owner.
    #[inline(always)]
    fn is_listening(&self) -> bool {
        self.bell.state.is_listening() && self.references() == self.registered
    }

    fn listen(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<Liveness>) -> Poll<Liveness> {
        self.bell.state.listen();
        let answer = poll(&mut Context::from_waker(&self.waker));
        self.registered = self.references();
        // Without a clone nobody will wake us, unless somebody has already.
        let registered = self.registered > Self::OWN || !self.bell.state.is_listening();
        if answer.is_pending() && registered {
            return answer;
        }
        self.bell.state.silence();
        Poll::Ready(match answer {
            Poll::Ready(liveness) => liveness,
            Poll::Pending => Liveness::Alive,
        })
    }
}

/// What is woken.
#[derive(Debug)]
struct Bell {
    state: BellState,
    seat: u32,
    belfry: Arc<Belfry>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.ring() {
            self.belfry.ring(self.seat);
        }
    }
}

/// Whether a bell may ring, and has.
///
/// ```text
///            listen             ring
///   Silent ---------> Listening ----> Rung
///     ^ ^   silence    |    ^  listen  |
///     | +--------------+    +----------+
///     +--------------------------------+
/// ```
///
/// All accesses are Relaxed: the registration publishes `Listening` to whoever rings,
/// and the queue publishes the ring to the reaper.
#[derive(Debug)]
struct BellState(AtomicU32);

impl BellState {
    const SILENT: u32 = 0;
    const LISTENING: u32 = 1;
    const RUNG: u32 = 2;

    fn new() -> Self {
        Self(AtomicU32::new(Self::SILENT))
    }

    fn is_listening(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::LISTENING
    }

    fn listen(&self) {
        self.0.store(Self::LISTENING, Ordering::Relaxed);
    }

    fn silence(&self) {
        self.0.store(Self::SILENT, Ordering::Relaxed);
    }

    /// True if this is the first ring.
    fn ring(&self) -> bool {
        self.0
            .compare_exchange(Self::LISTENING, Self::RUNG, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// Where all bells of a pool ring. Stays as long as one of them does.
#[derive(Debug)]
pub(crate) struct Belfry {
    rung: SegQueue<u32>,
    step: Step,
    #[cfg(feature = "tokio")]
    reaper: tokio::sync::Notify,
}

impl Belfry {
    fn new() -> Self {
        Self {
            rung: SegQueue::new(),
            step: Step::new(),
            #[cfg(feature = "tokio")]
            reaper: tokio::sync::Notify::new(),
        }
    }

    fn ring(&self, seat: u32) {
        self.keep(seat);
        self.wake_reaper();
    }

    /// Keeps a ring for the next step of the reaper, whenever that is.
    pub fn keep(&self, seat: u32) {
        self.step.publish();
        self.rung.push(seat);
    }

    /// Makes the reaper look now.
    pub fn wake_reaper(&self) {
        #[cfg(feature = "tokio")]
        self.reaper.notify_one();
    }

    /// How often a bell was rung that the reaper has not heard of.
    pub fn len(&self) -> usize {
        self.step.observe();
        self.rung.len()
    }

    /// A seat whose bell was rung.
    pub fn next(&self) -> Option<u32> {
        self.step.observe();
        self.rung.pop()
    }

    /// Waits until a bell was rung.
    #[cfg(feature = "tokio")]
    pub async fn rung(&self) {
        self.reaper.notified().await;
    }
}
