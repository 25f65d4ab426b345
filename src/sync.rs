//! The atomics and cells that the crate is built on: those of std, or loom's
//! when `loom-tests` compiles the crate as its own library.
//!
//! Everything whose interleavings matter goes through here. What does not
//! (reference counts, the queues) uses std and the named crates
//! directly, and is a single opaque step to a model. A [`Step`] beside it shows the
//! model that it is there.

pub(crate) use self::imp::*;

pub(crate) mod barrier;

#[cfg(not(slabpool_loom))]
mod imp {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
    };
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::{ThreadId, yield_now};

    pub(crate) fn current_thread() -> ThreadId {
        std::thread::current().id()
    }

    /// Stores a value, while others may exchange it.
    #[inline(always)]
    pub(crate) fn overwrite(word: &AtomicU64, value: u64, ordering: Ordering) {
        word.store(value, ordering);
    }

    /// `std`'s cell behind the interface of loom's.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Lends the content for reading. To dereference is the caller's risk.
        #[inline(always)]
        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        /// Lends the content for writing. To dereference is the caller's risk.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }

    /// Nothing, outside models.
    #[derive(Debug)]
    pub(crate) struct Step;

    impl Step {
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn publish(&self) {}

        #[inline(always)]
        pub(crate) fn observe(&self) {}
    }

    /// Nothing, outside models.
    #[derive(Debug)]
    pub(crate) struct Crossing;

    impl Crossing {
        pub(crate) fn unseen() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn pass(&self) {}
    }
}

#[cfg(slabpool_loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread::{ThreadId, yield_now};

    pub(crate) fn current_thread() -> ThreadId {
        loom::thread::current().id()
    }

    /// Stores a value, while others may exchange it. An exchange as well, because loom
    /// does not know that nothing comes between the two halves of one: it would let a
    /// store that came later be lost to an exchange that came first.
    pub(crate) fn overwrite(word: &AtomicU64, value: u64, ordering: Ordering) {
        word.swap(value, ordering);
    }

    /// Stands for an opaque step that follows it at once, of an `ArcSwap`, a queue or
    /// a slab: loom then tries the steps of different threads in every order, and
    /// knows that such a structure publishes what is put into it.
    #[derive(Debug)]
    pub(crate) struct Step(AtomicUsize);

    impl Step {
        pub(crate) fn new() -> Self {
            Self(AtomicUsize::new(0))
        }

        /// Before something is put in.
        pub(crate) fn publish(&self) {
            self.0.fetch_add(1, Ordering::Release);
        }

        /// Before something is looked for. Always finds what was put in last, hence
        /// a read-modify-write.
        pub(crate) fn observe(&self) {
            self.0.fetch_add(0, Ordering::Acquire);
        }
    }

    /// Stands before accesses to words that some threads only read, and others read and then
    /// exchange. Of a word, loom remembers the last access alone: that is the second one's own,
    /// and so it would not try to read the word before and after the exchange. Relaxed: orders
    /// nothing.
    #[derive(Debug)]
    pub(crate) struct Crossing(Option<AtomicUsize>);

    impl Crossing {
        pub(crate) fn unseen() -> Self {
            Self(None)
        }

        /// For models of just this: it makes many more executions.
        pub(crate) fn seen() -> Self {
            Self(Some(AtomicUsize::new(0)))
        }

        pub(crate) fn pass(&self) {
            if let Some(word) = &self.0 {
                word.fetch_add(0, Ordering::Relaxed);
            }
        }
    }
}
