//! Numbers without pattern, the same in every run with the same seed.

use std::sync::OnceLock;

/// Marsaglia's xorshift, started by a mix of the seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers for this seed, and this part of the run.
    pub fn new(seed: u64, part: u64, thread: u64) -> Self {
        let mixed = [part, thread].into_iter().fold(mix(seed), |mixed, next| mix(mixed ^ next));
        Self(mixed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `sides`.
    pub fn below(&mut self, sides: u64) -> u64 {
        (self.next() >> 11) % sides
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number below [`KEYS`], small ones far more often than large ones: as often as
    /// Zipf's law has it.
    pub fn zipf(&mut self) -> u64 {
        static TABLE: OnceLock<Vec<u16>> = OnceLock::new();
        const SAMPLES: usize = 1 << 16;
        let table = TABLE.get_or_init(|| {
            let part = |sample| (sample as f64 + 0.5) / SAMPLES as f64;
            (0..SAMPLES).map(|sample| (KEYS as f64).powf(part(sample)) as u16 - 1).collect()
        });
        u64::from(table[(self.next() >> 48) as usize])
    }
}

/// Keys that are drawn by [`Dice::zipf`].
pub const KEYS: u64 = 4_096;

/// Splitmix64: seeds that are next to each other give numbers that are not.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
