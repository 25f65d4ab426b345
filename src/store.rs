//! Where the connections are: in sharded slabs, indexed by token.
//!
//! A seat gets its record when it is taken for the first time, and keeps it: connections
//! come and go in it. The record is pinned by a guard of the slab that is forgotten. So its
//! address stays valid, and a get follows a plain pointer and pays none of the slab's
//! reference counting, nor does an insertion. Those who come with a token go through the
//! slab.

use std::fmt;
use std::mem::{self, MaybeUninit};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use sharded_slab::{Config, Entry};

use crate::core::seat::Field;
use crate::group::Members;
use crate::shelf::{Layout, PER_THREAD, Shelves};
use crate::sync::{AtomicPtr, Ordering, UnsafeCell};

/// Live threads that can make a pool larger than it ever was; a slab has a shard for each.
pub(crate) const THREADS_MAX: usize = Layout::MAX_THREADS;

/// Connections that a pool can hold, all inserted by one thread if need be.
pub(crate) const CONNECTIONS_MAX: usize = 1 << 23;

const _: () = assert!(CONNECTIONS_MAX < PER_THREAD);

/// A pooled connection and what belongs to it; or a place for one, while its seat is vacant.
///
/// **R2** A record is of one seat, pinned from its making, and gone with its slab. What is
/// in it is written by the owner of the seat alone (S2).
pub(crate) struct Record<K, C> {
    /// **R1** Initialised from insertion until the owner of the seat takes it out,
    /// and touched by that owner alone (S2).
    connection: UnsafeCell<MaybeUninit<C>>,
    pub group: Home<K>,
    pub seat: u32,
    _made: Made,
    /// When its lifetime ends. As `patience`.
    pub retire_at: Field,
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

/// Takes one of the bytes that are free beside the number of the seat. Its other values tell
/// the slab's empty slots from full ones, which saves each of them 8 bytes.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Made {
    Yes,
}

const _: () = assert!(cfg!(slabpool_loom) || size_of::<Option<Record<u8, u64>>>() == 56);

// SAFETY: `connection` is touched by one thread at a time (R1), so `C: Send` is
// enough; the rest is shared as `Arc<Members<K>>` is, and plain numbers.
unsafe impl<K: Send + Sync, C: Send> Sync for Record<K, C> {}

impl<K, C> Record<K, C> {
    /// Of a seat, with nothing in it.
    pub fn new(seat: u32) -> Self {
        Self {
            connection: UnsafeCell::new(MaybeUninit::uninit()),
            group: Home(AtomicPtr::new(null_mut())),
            seat,
            _made: Made::Yes,
            retire_at: Field::default(),
            uses_base: Field::default(),
            patience: Field::default(),
            uses_max: Field::default(),
        }
    }

    /// Puts a connection in.
    ///
    /// # Safety
    ///
    /// The caller owns the seat, and there is none in it.
    pub unsafe fn put(&self, connection: C) {
        self.connection.with_mut(|place| {
            // SAFETY: nobody else touches it (R1), by the caller's promise.
            let content = unsafe { &mut *place };
            content.write(connection);
        });
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
    /// The caller owns the seat, and this is called once for what was put in.
    pub unsafe fn take(&self) -> C {
        self.connection.with_mut(|place| {
            // SAFETY: nobody else touches it (R1), by the caller's promise.
            let content = unsafe { &mut *place };
            // SAFETY: initialised (R1), and not read again.
            unsafe { content.assume_init_read() }
        })
    }
}

/// The group of a connection: a reference of its own, from its insertion until the owner of
/// the seat takes it back. For that owner it is the group. Others go by
/// [`held`](crate::directory::Directory::held).
pub(crate) struct Home<K>(AtomicPtr<Members<K>>);

impl<K> Home<K> {
    /// By the owner of the seat (S2), in a record that has none.
    pub fn set(&self, group: Arc<Members<K>>) {
        // Release: pairs with `look`; and whoever sees it sees the number of the insertion.
        self.0.store(Arc::into_raw(group).cast_mut(), Ordering::Release);
    }

    /// Takes it back, by the owner of the seat (S2), who then lets the connection leave it.
    /// `None` if there is none.
    pub fn take(&self) -> Option<Arc<Members<K>>> {
        // Relaxed: the owner's own. That it is gone is published by what retires the group.
        let group = NonNull::new(self.0.load(Ordering::Relaxed))?;
        self.0.store(null_mut(), Ordering::Relaxed);
        // SAFETY: from `set`, and taken once (S2).
        Some(unsafe { Arc::from_raw(group.as_ptr()) })
    }

    /// Where the group is, for those who have yet to hold it.
    pub fn look(&self) -> *mut Members<K> {
        // Acquire: pairs with `set`.
        self.0.load(Ordering::Acquire)
    }
}

impl<K> Deref for Home<K> {
    type Target = Members<K>;

    #[inline(always)]
    fn deref(&self) -> &Members<K> {
        // Relaxed: whoever made the caller the owner has published it.
        let group = self.0.load(Ordering::Relaxed);
        debug_assert!(!group.is_null(), "only the owner of a connection asks for its group");
        // SAFETY: from `set`; the caller owns the seat (S2), and keeps what is in it.
        unsafe { &*group }
    }
}

impl<K> Drop for Home<K> {
    fn drop(&mut self) {
        // Of a lease that was forgotten.
        drop(self.take());
    }
}

/// The slabs.
pub(crate) struct Store<T> {
    slabs: Shelves<T>,
}

/// A record that was put in.
pub(crate) struct Place<T> {
    pub key: usize,
    pub record: NonNull<T>,
}

impl<T> Store<T> {
    pub fn new() -> Self {
        Self { slabs: Shelves::new() }
    }

    /// Puts in what `make` makes, pinned. `None`, with `make` not called, if this thread has
    /// no shard.
    pub fn insert(&self, make: impl FnOnce() -> T) -> Option<Place<T>> {
        // The slab panics for a thread beyond its limit, before it does anything.
        let (key, pin) = catch_unwind(AssertUnwindSafe(|| self.slabs.insert(make))).ok()??;
        let record = NonNull::from(&*pin);
        // For ever (R2).
        mem::forget(pin);
        Some(Place { key, record })
    }

    /// The record with this key, held until the guard goes.
    pub fn get(&self, key: usize) -> Option<Entry<'_, T, Layout>> {
        let (slab, key) = self.slabs.find(key)?;
        slab.get(key)
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
