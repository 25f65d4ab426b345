//! Which key is next: all alike, or some far more often than others, always in the same
//! order.

/// How unlike the keys are: the second is asked for half as often as the first, the third a
/// third as often, and so on.
const EXPONENT: f64 = 1.0;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each as often as any other.
    Uniform,
    /// By Zipf's law.
    Zipf,
}

/// `count` choices among `keys` keys. `seed` tells one thread's from another's.
pub fn choices(spread: Spread, keys: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut random = Random(seed);
    match spread {
        Spread::Uniform => (0..count).map(|_| (random.part() * keys as f64) as usize).collect(),
        Spread::Zipf => {
            let mut sum = 0.0;
            let weight = |rank: usize| {
                sum += (rank as f64).powf(-EXPONENT);
                sum
            };
            let sums: Vec<f64> = (1..=keys).map(weight).collect();
            let choose = |_| {
                let point = random.part() * sum;
                sums.partition_point(|sum| *sum < point).min(keys - 1)
            };
            (0..count).map(choose).collect()
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// From 0 to less than 1.
    fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The upper 53 bits, as many as a float has.
        ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
