//! Clocks. Inside the crate a time is a number of nanoseconds since the clock's
//! own beginning; `u64` holds 584 years of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A time or span that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a pool reads the time from.
///
/// [`Clock::coarse`] is the default. [`Clock::manual`] makes expiry a matter of
/// the test, not of the machine.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Coarse,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The coarse monotonic clock of the system: 2 to 3 ns a reading, without
    /// entering the kernel, and up to one timer interrupt (1 to 4 ms) behind.
    ///
    /// On systems without one this is [`std::time::Instant`].
    pub fn coarse() -> Self {
        Self(Source::Coarse)
    }

    /// A clock that stands still until it is told to advance.
    ///
    /// ```
    /// use std::time::Duration;
    /// use slabpool::{Clock, Pool};
    ///
    /// let clock = Clock::manual();
    /// let pool = Pool::<u8, String>::builder()
    ///     .idle_timeout(Duration::from_secs(30))
    ///     .clock(clock.clone())
    ///     .build()?;
    /// pool.put(&1, "a connection".to_owned())?;
    /// clock.advance(Duration::from_secs(30));
    /// assert!(pool.get(&1).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn manual() -> ManualClock {
        ManualClock(Arc::new(AtomicU64::new(0)))
    }

    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::Coarse => coarse_now(),
            // Acquire: a thread that was told that the time has come sees it.
            Source::Manual(now) => now.load(Ordering::Acquire),
        }
    }
}

/// A [`Clock`] that tests turn by hand. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the time forward; past 584 years in all it stops.
    pub fn advance(&self, by: Duration) {
        let by = nanos(by);
        // AcqRel: pairs with the Acquire in `Clock::now`. The closure never
        // returns None.
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| Some(now.saturating_add(by)));
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self(Source::Manual(clock.0))
    }
}

impl From<&ManualClock> for Clock {
    fn from(clock: &ManualClock) -> Self {
        clock.clone().into()
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Coarse => "coarse",
            Source::Manual(_) => "manual",
        })
    }
}

/// A span in nanoseconds; what does not fit is for ever.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(NEVER)
}

/// A limit in nanoseconds; no limit is for ever.
pub(crate) fn nanos_or_never(span: Option<Duration>) -> u64 {
    span.map_or(NEVER, nanos)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline(always)]
fn coarse_now() -> u64 {
    use rustix::time::{ClockId, clock_gettime};

    let now = clock_gettime(ClockId::MonotonicCoarse);
    // Both are non-negative on a monotonic clock.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_now() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;

    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    nanos(BEGINNING.get_or_init(Instant::now).elapsed())
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_never_goes_back() {
        let clock = Clock::coarse();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn a_huge_span_is_for_ever() {
        assert_eq!(nanos(Duration::MAX), NEVER);
        let clock = Clock::manual();
        clock.advance(Duration::MAX);
        clock.advance(Duration::MAX);
        assert_eq!(Clock::from(&clock).now(), NEVER);
    }
}
