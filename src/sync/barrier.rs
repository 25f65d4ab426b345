//! A barrier in two halves, of which the frequent one costs next to nothing.
//!
//! Of two threads that each write, pass their half, and then read what the other writes, one
//! sees the other's. With two equal halves both are a full fence, which costs as much as a
//! read-modify-write. Here [`light`] keeps only the compiler from reordering, and [`heavy`]
//! has the kernel put a full fence into every running thread of the process. A thread that
//! does not run has passed one when it was stopped.
//!
//! This is `membarrier(2)` of Linux 4.14 and later (M. Desnoyers; as asymmetric fences in
//! P1202 of the C++ committee), 0.2 to 1 us a call. Where it is missing, and in
//! models, both halves are fences.

#[cfg(not(slabpool_loom))]
pub(crate) use self::imp::prepare;
pub(crate) use self::imp::{heavy, light};

#[cfg(slabpool_loom)]
mod imp {
    use loom::sync::atomic::{Ordering, fence};

    pub(crate) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() -> bool {
        fence(Ordering::SeqCst);
        true
    }
}

#[cfg(not(slabpool_loom))]
mod imp {
    use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};

    /// Both halves are fences.
    const FENCES: u8 = 0;
    /// The kernel does it.
    const KERNEL: u8 = 1;
    /// The kernel did it, and refuses now: `light` is a fence from now on, but some thread may
    /// not know yet.
    const REFUSED: u8 = 2;

    /// Process-wide, as what it says.
    static MODE: AtomicU8 = AtomicU8::new(FENCES);

    /// Asks the kernel for its help. Before the first pass of whatever is guarded.
    pub(crate) fn prepare() {
        // Relaxed, here and below: whoever shares what is guarded has published this too.
        if MODE.load(Ordering::Relaxed) == FENCES && kernel::register() && kernel::barrier() {
            let _ = MODE.compare_exchange(FENCES, KERNEL, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The half of those who come often.
    #[inline(always)]
    pub(crate) fn light() {
        if MODE.load(Ordering::Relaxed) == KERNEL {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// The other half. False if nothing follows from it: the kernel does not let a process
    /// do that any more which could before.
    #[must_use]
    pub(crate) fn heavy() -> bool {
        // Those who have seen another mode than `KERNEL` have passed a fence.
        fence(Ordering::SeqCst);
        match MODE.load(Ordering::Relaxed) {
            FENCES => true,
            KERNEL if kernel::barrier() || kernel::register() && kernel::barrier() => true,
            _ => {
                MODE.store(REFUSED, Ordering::Relaxed);
                false
            }
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    mod kernel {
        use rustix::thread::{MembarrierCommand, membarrier};

        pub(super) fn register() -> bool {
            membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        }

        pub(super) fn barrier() -> bool {
            membarrier(MembarrierCommand::PrivateExpedited).is_ok()
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    mod kernel {
        pub(super) fn register() -> bool {
            false
        }

        pub(super) fn barrier() -> bool {
            false
        }
    }
}
