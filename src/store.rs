//! Where the connections are: a sharded slab, indexed by token.
//!
//! A record stays where it was put until it is removed, which its owner alone does: a slab
//! allocates pages, and neither moves nor frees them. So a get follows a plain pointer and
//! pays none of the slab's reference counting. Those who come with a token go through the
//! slab, and hold the record by a guard: if it is removed meanwhile, the slab keeps it for
//! as long as they do.

use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use sharded_slab::{Config, Entry, Slab};

use crate::core::seat::Field;
use crate::core::tagged::NIL;
use crate::group::Members;
use crate::sync::{Step, UnsafeCell};

/// How the slab spends the 64 bits of its keys: 14 for the thread, 25 for the
/// place, 25 for the generation.
#[derive(Debug)]
pub(crate) struct Layout;

impl Config for Layout {
    const MAX_THREADS: usize = 8_192;
    const MAX_PAGES: usize = 19;
    const INITIAL_PAGE_SIZE: usize = 32;
}

/// Live threads that can insert; a slab has a shard for each.
pub(crate) const THREADS_MAX: usize = Layout::MAX_THREADS;

/// Connections that a pool can hold, all inserted by one thread if need be.
pub(crate) const CONNECTIONS_MAX: usize = 1 << 23;

const _: () = {
    let per_thread = Layout::INITIAL_PAGE_SIZE * ((1 << Layout::MAX_PAGES) - 1);
    assert!(CONNECTIONS_MAX < per_thread);
};

/// A pooled connection and what belongs to it.
pub(crate) struct Record<K, C> {
    /// **R1** Initialised from insertion until the owner of the seat takes it out,
    /// and touched by that owner alone (S2).
    connection: UnsafeCell<MaybeUninit<C>>,
    pub group: Arc<Members<K>>,
    /// The number of its insertion, never used twice.
    pub serial: u64,
    /// This record's key in the slab.
    pub key: usize,
    pub seat: u32,
    /// When its lifetime ends.
    pub retire_at: u64,
    /// The incarnation from which its uses count. As `patience`.
    pub uses_base: Field,
    /// How long this connection may stay idle, whatever the group allows. Read and
    /// written by the owner of the seat alone (S2), while others may hold the record by
    /// its token.
    pub patience: Field,
    /// How often it may be leased, all in all, whatever the group allows. As `patience`.
    pub uses_max: Field,
}

// SAFETY: `connection` is touched by one thread at a time (R1), so `C: Send` is
// enough; the rest is shared as `Arc<Members<K>>` is, and plain numbers.
unsafe impl<K: Send + Sync, C: Send> Sync for Record<K, C> {}

impl<K, C> Record<K, C> {
    pub fn new(connection: C, group: Arc<Members<K>>, key: usize) -> Self {
        Self {
            connection: UnsafeCell::new(MaybeUninit::new(connection)),
            group,
            key,
            serial: 0,
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

/// The slab.
pub(crate) struct Store<T> {
    slab: Slab<T, Layout>,
    step: Step,
}

/// Where a record is, for whoever removes it.
pub(crate) struct Place<T> {
    pub key: usize,
    pub record: NonNull<T>,
}

impl<T> Store<T> {
    pub fn new() -> Self {
        Self { slab: Slab::new_with_config::<Layout>(), step: Step::new() }
    }

    /// Puts in what `make` makes of its key. `None`, with `make` not
    /// called, if this thread has no shard.
    pub fn insert(&self, make: impl FnOnce(usize) -> T) -> Option<Place<T>> {
        // The slab panics for a thread beyond its limit, before it does anything.
        let vacant = catch_unwind(AssertUnwindSafe(|| self.slab.vacant_entry())).ok()??;
        let key = vacant.key();
        vacant.insert(make(key));
        let guard = self.slab.get(key).expect("nobody else knows this key yet");
        let record = NonNull::from(&*guard);
        Some(Place { key, record })
    }

    /// The record with this key, held until the guard goes.
    pub fn get(&self, key: usize) -> Option<Entry<'_, T, Layout>> {
        self.step.observe();
        self.slab.get(key)
    }

    /// Removes a record. Its memory is used again when the last guard
    /// that others hold has gone.
    ///
    /// # Safety
    ///
    /// `key` came from `insert`, and was not removed yet. The caller does not use
    /// the record afterwards.
    pub unsafe fn remove(&self, key: usize) {
        self.step.observe();
        // The slab panics for a thread beyond twice its limit. The slot is lost,
        // the connection was taken out before.
        let removed = catch_unwind(AssertUnwindSafe(|| self.slab.remove(key)));
        debug_assert!(matches!(removed, Ok(true)), "the slab could not remove {key:#x}");
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
