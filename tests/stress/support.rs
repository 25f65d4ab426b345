//! What the threads need.

use std::hint;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often something is done: less without optimisation, and a few times under Miri or Valgrind.
pub const fn rounds(count: usize) -> usize {
    if cfg!(any(miri, slabpool_slow)) {
        count / 5_000 + 2
    } else if cfg!(debug_assertions) {
        count / 10
    } else {
        count
    }
}

/// Where threads wait for each other without sleeping, so that they leave together.
#[derive(Debug)]
pub struct Gate {
    arrived: AtomicUsize,
    threads: usize,
}

impl Gate {
    pub fn new(threads: usize) -> Self {
        Self { arrived: AtomicUsize::new(0), threads }
    }

    pub fn pass(&self) {
        let ticket = self.arrived.fetch_add(1, Ordering::AcqRel);
        let full = (ticket / self.threads + 1) * self.threads;
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::Acquire) < full {
            spins += 1;
            if spins.is_multiple_of(1_000) {
                std::thread::yield_now();
            }
            hint::spin_loop();
        }
    }
}

/// Numbers without pattern, the same in every run (Marsaglia's xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: usize) -> Self {
        Self((seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}
