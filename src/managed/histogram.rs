//! Times, in buckets.

use std::fmt;
use std::time::Duration;

use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering};

/// Buckets for each power of two, as a power of two.
const PARTS_BITS: u32 = 2;
const PARTS: usize = 1 << PARTS_BITS;
/// Times from this many microseconds on, as a power of two, are in the last bucket: 71
/// minutes.
const LAST_BITS: u32 = 32;
const BUCKETS: usize = (LAST_BITS - PARTS_BITS) as usize * PARTS + PARTS + 1;

/// How many times there were, by how long they are: up to 3 µs to the microsecond, above
/// that in four buckets for each power of two, so that a bucket's upper bound is at most a
/// quarter more than what is in it. All above 71 minutes are in the last one.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    /// Nanoseconds.
    sum: u64,
    max: u64,
}

impl Histogram {
    /// How many times there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The longest one, exactly; zero if there is none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// Their mean; zero if there are none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count()).unwrap_or(0))
    }

    /// A time that this part of them do not exceed: `quantile(0.99)` is exceeded by one in
    /// a hundred. It is the upper bound of a bucket, or the longest time if that is less.
    /// Zero if there are none.
    ///
    /// # Panics
    ///
    /// If `part` is not between 0 and 1.
    pub fn quantile(&self, part: f64) -> Duration {
        assert!((0.0..=1.0).contains(&part), "quantile {part}, it must lie between 0 and 1");
        let rank = (part * self.count() as f64).ceil().max(1.0) as u64;
        let mut passed = 0;
        let reached = self.counts.iter().position(|count| {
            passed += count;
            passed >= rank
        });
        reached.map_or(Duration::ZERO, |index| upper_bound(index).min(self.max()))
    }

    /// The buckets, shortest times first, each with the longest time that falls into it, and
    /// how many have. The bound of the last one is [`Duration::MAX`].
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = (Duration, u64)> + '_ {
        self.counts.iter().enumerate().map(|(index, &count)| (upper_bound(index), count))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum: 0, max: 0 }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

/// The bucket of a time, in nanoseconds.
fn index_of(nanos: u64) -> usize {
    let micros = nanos.div_ceil(1_000);
    if micros < PARTS as u64 {
        return micros as usize;
    }
    let bits = micros.ilog2();
    if bits >= LAST_BITS {
        return BUCKETS - 1;
    }
    let part = micros >> (bits - PARTS_BITS) & (PARTS as u64 - 1);
    (bits - PARTS_BITS + 1) as usize * PARTS + part as usize
}

/// The longest time in a bucket.
fn upper_bound(index: usize) -> Duration {
    if index == BUCKETS - 1 {
        return Duration::MAX;
    }
    if index < PARTS {
        return Duration::from_micros(index as u64);
    }
    let (power, part) = (index / PARTS - 1, (index % PARTS) as u64);
    Duration::from_micros(((PARTS as u64 + part + 1) << power) - 1)
}

/// A histogram that is being filled, by many. Each number stands for itself.
#[derive(Debug)]
pub(crate) struct Times {
    counts: [Counter; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Times {
    pub fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Relaxed, all of them: numbers, and nothing that they would guard.
        self.sum.fetch_add(nanos, Ordering::Relaxed);
        if nanos > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(nanos, Ordering::Relaxed);
        }
        self.counts[index_of(nanos)].add();
    }

    pub fn add_to(&self, histogram: &mut Histogram) {
        for (sum, count) in histogram.counts.iter_mut().zip(&self.counts) {
            *sum += count.get();
        }
        histogram.sum = histogram.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
        histogram.max = histogram.max.max(self.max.load(Ordering::Relaxed));
    }

    pub fn read(&self) -> Histogram {
        let mut histogram = Histogram::default();
        self.add_to(&mut histogram);
        histogram
    }
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| Counter::default()),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    const MICRO: u64 = 1_000;

    /// Every time lies in a bucket whose bound is not below it, and less than a quarter
    /// above; and the bounds rise.
    #[test]
    fn buckets_are_where_they_say() {
        let mut micros = 1;
        while micros < 1 << 33 {
            for nanos in [micros * MICRO - 1, micros * MICRO, micros * MICRO + 1] {
                let index = index_of(nanos);
                let (time, bound) = (Duration::from_nanos(nanos), upper_bound(index));
                assert!(time <= bound, "{time:?} in {bound:?}");
                assert!(index == 0 || time > upper_bound(index - 1), "{time:?} in {bound:?}");
                if micros < 1 << 32 && micros > 4 {
                    assert!(bound.as_nanos() * 4 <= u128::from(nanos + MICRO) * 5);
                }
            }
            micros += micros / 7 + 1;
        }
        let bounds: Vec<_> = Histogram::default().buckets().map(|(bound, _)| bound).collect();
        assert!(bounds.is_sorted_by(|a, b| a < b));
        assert_eq!((bounds[0], bounds[BUCKETS - 1]), (Duration::ZERO, Duration::MAX));
        assert_eq!(bounds[BUCKETS - 2], Duration::from_micros((1 << 32) - 1));
    }

    #[test]
    fn what_was_recorded_can_be_read() {
        let times = Times::default();
        assert_eq!(times.read(), Histogram::default());
        assert_eq!(times.read().quantile(0.5), Duration::ZERO);
        assert_eq!(times.read().mean(), Duration::ZERO);
        for millis in 1..101 {
            times.record(Duration::from_millis(millis));
        }
        let read = times.read();
        assert_eq!((read.count(), read.max()), (100, Duration::from_millis(100)));
        assert_eq!(read.sum(), Duration::from_millis(5_050));
        assert_eq!(read.mean(), Duration::from_micros(50_500));
        for (part, exact) in [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            let (found, exact) = (read.quantile(part), Duration::from_millis(exact));
            assert!(found >= exact && found <= exact * 5 / 4, "{part}: {found:?}");
        }
        assert_eq!(read.quantile(1.0), Duration::from_millis(100));
        assert_eq!(read.buckets().map(|(_, count)| count).sum::<u64>(), 100);
        times.record(Duration::MAX);
        assert_eq!(times.read().buckets().last(), Some((Duration::MAX, 1)));
        assert_eq!(times.read().quantile(1.0), times.read().max());
    }

    #[test]
    #[should_panic(expected = "quantile 1.5, it must lie between 0 and 1")]
    fn a_quantile_above_one() {
        Histogram::default().quantile(1.5);
    }

    #[test]
    #[should_panic(expected = "quantile NaN")]
    fn a_quantile_that_is_no_number() {
        Histogram::default().quantile(f64::NAN);
    }
}
