//! Where the connections are: in sharded slabs, indexed by token.
//!
//! A record is pinned from its insertion to its removal by a guard of the slab
//! that is forgotten and made good later. So its address stays valid, and a get
//! follows a plain pointer and pays none of the slab's reference counting. Those
//! who come with a token go through the slab.

use std::fmt;
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use sharded_slab::{Config, Entry};

use crate::core::seat::Field;
use crate::core::tagged::NIL;
use crate::group::Members;
use crate::shelf::{Layout, PER_THREAD, Shelves};
use crate::sync::{Step, UnsafeCell};

/// Live threads that can insert; a slab has a shard for each.
pub(crate) const THREADS_MAX: usize = Layout::MAX_THREADS;

/// Connections that a pool can hold, all inserted by one thread if need be.
pub(crate) const CONNECTIONS_MAX: usize = 1 << 23;

const _: () = assert!(CONNECTIONS_MAX < PER_THREAD);

/// A pooled connection and what belongs to it.
pub(crate) struct Record<K, C> {
    /// **R1** Initialised from insertion until the owner of the seat takes it out,
    /// and touched by that owner alone (S2).
    connection: UnsafeCell<MaybeUninit<C>>,
    pub group: Arc<Members<K>>,
    pub seat: u32,
    /// When its lifetime ends.
    pub retire_at: u64,
    /// The incarnation from which its uses count. As `patience`.
    pub uses_base: Field,
    /// How long this connection may stay idle, whatever the group allows. Written by the
    /// owner of the seat alone (S2), while others may hold the record by its token or its
    /// key; what those read holds if they then seize the seat in the incarnation that
    /// they saw before.
    pub patience: Field,
    /// How often it may be leased, all in all, whatever the group allows. As `patience`.
    pub uses_max: Field,
}

// SAFETY: `connection` is touched by one thread at a time (R1), so `C: Send` is
// enough; the rest is shared as `Arc<Members<K>>` is, and plain numbers.
unsafe impl<K: Send + Sync, C: Send> Sync for Record<K, C> {}

impl<K, C> Record<K, C> {
    pub fn new(connection: C, group: Arc<Members<K>>) -> Self {
        Self {
            connection: UnsafeCell::new(MaybeUninit::new(connection)),
            group,
            seat: NIL,
            retire_at: 0,
            uses_base: Field::default(),
            patience: Field::default(),
            uses_max: Field::default(),
        }
    }

    /// # Safety
    ///
    /// The caller owns the seat for as long as it uses the reference, and has not
    /// taken the connection.
    #[inline(always)]
    pub unsafe fn connection(&self) -> &C {
        self.connection.with(|place| {
            // SAFETY: nobody else touches it (R1), by the caller's promise.
            let content = unsafe { &*place };
            // SAFETY: initialised (R1), by the caller's promise.
            unsafe { content.assume_init_ref() }
        })
    }

    /// # Safety
    ///
    /// As [`Record::connection`], and there is no other reference.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
    pub unsafe fn connection_mut(&self) -> &mut C {
        self.connection.with_mut(|place| {
            // SAFETY: nobody else touches it (R1), by the caller's promise.
            let content = unsafe { &mut *place };
            // SAFETY: initialised (R1), by the caller's promise.
            unsafe { content.assume_init_mut() }
        })
    }

    /// # Safety
    ///
    /// The caller owns the seat, and this is called once in the record's life.
    pub unsafe fn take(&self) -> C {
        self.connection.with_mut(|place| {
            // SAFETY: nobody else touches it (R1), by the caller's promise.
            let content = unsafe { &mut *place };
            // SAFETY: initialised (R1), and not read again.
            unsafe { content.assume_init_read() }
        })
    }
}

/// The slabs.
pub(crate) struct Store<T> {
    slabs: Shelves<T>,
    step: Step,
}

/// The pin on a record, by whoever must make it good.
pub(crate) struct Place<T> {
    pub key: usize,
    pub record: NonNull<T>,
}

impl<T> Store<T> {
    pub fn new() -> Self {
        Self { slabs: Shelves::new(), step: Step::new() }
    }

    /// Puts in what `make` makes, pinned. `None`, with `make` not called, if this thread has
    /// no shard.
    pub fn insert(&self, make: impl FnOnce() -> T) -> Option<Place<T>> {
        // The slab panics for a thread beyond its limit, before it does anything.
        let (key, pin) = catch_unwind(AssertUnwindSafe(|| self.slabs.insert(make))).ok()??;
        let record = NonNull::from(&*pin);
        // Made good in `remove`.
        mem::forget(pin);
        Some(Place { key, record })
    }

    /// The record with this key, held until the guard goes.
    pub fn get(&self, key: usize) -> Option<Entry<'_, T, Layout>> {
        self.step.observe();
        let (slab, key) = self.slabs.find(key)?;
        slab.get(key)
    }

    /// Unpins and removes a record. Its memory is used again when the last guard
    /// that others hold has gone.
    ///
    /// # Safety
    ///
    /// `key` came from `insert`, and was not removed yet. The caller does not use
    /// the record afterwards.
    pub unsafe fn remove(&self, key: usize) {
        self.step.observe();
        let removed = catch_unwind(AssertUnwindSafe(|| {
            let Some((slab, key_there)) = self.slabs.find(key) else { return };
            let Some(guard) = slab.get(key_there) else { return };
            // SAFETY: a guard is the slab, the slot and the key: this copy is, bit
            // for bit, the pin that `insert` forgot (R1), and stands for it.
            let pin = unsafe { ptr::read(&guard) };
            slab.remove(key_there);
            self.slabs.removed(key);
            drop(guard);
            drop(pin);
        }));
        // The slab panics for a thread beyond twice its limit. The slot is lost,
        // the connection was taken out before.
        debug_assert!(removed.is_ok(), "the slab could not remove {key:#x}");
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
