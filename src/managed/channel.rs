//! A connection that serves several at a time, in its place.
//!
//! Channels come from an arena, and so may be tried by whoever once knew their number. If
//! the place has gone to another connection meanwhile, a stream of that begins; the caller
//! finds out whose it is while it has it.
//!
//! * **H4** The lease in a channel is put there by its owner, before the word says that it is
//!   open, and taken out by its owner, who has parked it (H2). In between it is read, by
//!   those who have a stream of it or hold it.

use std::fmt;

use crate::core::arena::{Arena, Record};
use crate::managed::streams::Streams;
use crate::sync::{AtomicU32, Ordering, UnsafeCell};

/// See the module.
pub struct Channel<L> {
    pub streams: Streams,
    lease: UnsafeCell<Option<L>>,
    /// The desk that it is listed at, while it is open.
    desk: AtomicU32,
    /// Its number in the order of that list.
    order: AtomicU32,
    free_link: AtomicU32,
}

/// All channels of a pool.
pub type Channels<L> = Arena<Channel<L>>;

// SAFETY: the lease is moved and changed by one owner at a time (H4), for which `L: Send` is
// enough. Several refer to it only by `lease`, which asks for `L: Sync`.
unsafe impl<L: Send> Sync for Channel<L> {}

impl<L> Channel<L> {
    /// Opens the channel.
    ///
    /// # Safety
    ///
    /// The caller owns the channel, having taken it from the arena, and does so no longer.
    pub unsafe fn fill(&self, lease: L, desk: u32, used: u32, limit: u32) {
        self.lease.with_mut(|place| {
            // SAFETY: the caller owns the channel (H4).
            let place = unsafe { &mut *place };
            debug_assert!(place.is_none(), "H4");
            *place = Some(lease);
        });
        // Relaxed: published with the word.
        self.desk.store(desk, Ordering::Relaxed);
        self.streams.begin(used, limit);
    }

    /// The lease, for one who has a stream.
    ///
    /// # Safety
    ///
    /// The caller has a stream of this channel, or holds it, for as long as it uses the
    /// reference.
    #[inline(always)]
    pub unsafe fn lease(&self) -> &L
    where
        L: Sync,
    {
        self.lease.with(|place| {
            // SAFETY: it is only read while the caller has its stream (H4).
            let place = unsafe { &*place };
            place.as_ref().expect("an open channel has a lease")
        })
    }

    /// Shows the lease to its owner.
    ///
    /// # Safety
    ///
    /// The caller owns the channel, having parked it.
    pub unsafe fn with_owned<R>(&self, look: impl FnOnce(&mut L) -> R) -> R {
        self.lease.with_mut(|place| {
            // SAFETY: the caller owns the channel (H4).
            let place = unsafe { &mut *place };
            look(place.as_mut().expect("an open channel has a lease"))
        })
    }

    /// Takes the lease out.
    ///
    /// # Safety
    ///
    /// The caller owns the channel, having parked it, and takes the lease out once.
    pub unsafe fn take(&self) -> L {
        self.lease.with_mut(|place| {
            // SAFETY: the caller owns the channel (H4).
            let place = unsafe { &mut *place };
            place.take().expect("an open channel has a lease")
        })
    }

    /// The desk that it is listed at. By one who has a stream, or owns it.
    #[inline(always)]
    pub fn desk(&self) -> u32 {
        // Relaxed: published with the word.
        self.desk.load(Ordering::Relaxed)
    }

    /// Its place in the order of activation.
    #[inline(always)]
    pub fn order(&self) -> u32 {
        // Relaxed: advice.
        self.order.load(Ordering::Relaxed)
    }

    /// The caller has the lock of the desk.
    pub fn set_order(&self, order: u32) {
        self.order.store(order, Ordering::Relaxed);
    }
}

impl<L> Default for Channel<L> {
    fn default() -> Self {
        Self {
            streams: Streams::default(),
            lease: UnsafeCell::new(None),
            desk: AtomicU32::new(0),
            order: AtomicU32::new(0),
            free_link: AtomicU32::new(0),
        }
    }
}

impl<L> Record for Channel<L> {
    fn free_link(&self) -> &AtomicU32 {
        &self.free_link
    }
}

impl<L> fmt::Debug for Channel<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("streams", &self.streams).finish_non_exhaustive()
    }
}
