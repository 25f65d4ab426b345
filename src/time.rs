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
#[derive(Debug)]
pub struct Clock {
    /// The time, if it is turned by hand.
    manual: Option<Arc<AtomicU64>>,
    /// How long the machine was suspended since it was started, as far as noticed. Beside
    /// what else is read for the time.
    suspended: AtomicU64,
}

impl Clock {
    /// The coarse monotonic clock of the system: 2 to 3 ns a reading, without
    /// entering the kernel, and up to one timer interrupt (1 to 4 ms) behind.
    ///
    /// On systems without one this is [`std::time::Instant`].
    ///
    /// The monotonic clocks stand still while the machine is suspended, but peers go on
    /// and hang up. On Linux maintenance notices by how much, and from then on the time
    /// that was slept counts: what has expired is closed in that piece of maintenance.
    pub fn coarse() -> Self {
        let clock = Self { manual: None, suspended: AtomicU64::new(0) };
        // What was slept before concerns nobody who reads the time from now on.
        clock.notice_suspension();
        clock
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
        match &self.manual {
            // Relaxed: a number that only rises; whoever sees it late is not wrong by
            // more than before.
            None => coarse_now() + self.suspended.load(Ordering::Relaxed),
            // Acquire: a thread that was told that the time has come sees it.
            Some(now) => now.load(Ordering::Acquire),
        }
    }

    /// Looks whether the machine was suspended, and moves the coarse clock forward by
    /// the time that it was.
    pub(crate) fn notice_suspension(&self) {
        if self.manual.is_none()
            && let Some((boot, running)) = readings()
        {
            let noticed = self.suspended.load(Ordering::Relaxed);
            let now = suspended(noticed, boot, running);
            if now > noticed {
                // Relaxed: as in `now`. The greater one stays, so that the clock never
                // goes back.
                self.suspended.fetch_max(now, Ordering::Relaxed);
            }
        }
    }
}

impl Clone for Clock {
    fn clone(&self) -> Self {
        // Relaxed: as in `now`.
        let suspended = AtomicU64::new(self.suspended.load(Ordering::Relaxed));
        Self { manual: self.manual.clone(), suspended }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::coarse()
    }
}

/// How long the machine was suspended in all, if `noticed` was noticed before: what the
/// clock that runs on in suspension, read first, is ahead of the one that does not.
///
/// In that order: whatever happens between the readings, also another suspension, makes
/// it less than it was, never more. What is missing is noticed the next time.
fn suspended(noticed: u64, boot: u64, running: u64) -> u64 {
    noticed.max(boot.saturating_sub(running))
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
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| {
            Some(now.saturating_add(by).min(NEVER - 1))
        });
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self { manual: Some(clock.0), suspended: AtomicU64::new(0) }
    }
}

impl From<&ManualClock> for Clock {
    fn from(clock: &ManualClock) -> Self {
        clock.clone().into()
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.manual.is_none() { "coarse" } else { "manual" })
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

/// Now, by the clock that runs on while the machine is suspended, and by the one that
/// does not, in this order. `None` where there is no such pair.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn readings() -> Option<(u64, u64)> {
    use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

    let nanos = |time: Timespec| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    let boot = clock_gettime_dynamic(DynamicClockId::Boottime).ok()?;
    Some((nanos(boot), nanos(clock_gettime(ClockId::Monotonic))))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn readings() -> Option<(u64, u64)> {
    None
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
    fn what_was_slept_is_noticed_and_never_taken_back() {
        let hour = 3_600_000_000_000;
        // Boot and running: from the same beginning, and the second one read later.
        let mut noticed = 0;
        for (boot, running, expected) in [
            (hour, hour, 0),
            (hour + 5, hour + 30, 0),
            // An hour was slept; the thread was away for some time between the readings.
            (3 * hour, 2 * hour + 7, hour - 7),
            (4 * hour, 3 * hour, hour),
            // Slept again, between the readings: noticed the time after.
            (4 * hour + 1, 3 * hour + 9, hour),
            (9 * hour + 9, 3 * hour + 9, 6 * hour),
            // A clock that is not what it should be.
            (0, u64::MAX, 6 * hour),
            (5 * hour, 4 * hour, 6 * hour),
        ] {
            noticed = suspended(noticed, boot, running);
            assert_eq!(noticed, expected, "at {boot} and {running}");
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn the_coarse_clock_is_not_ahead_of_the_one_that_runs_on() {
        let clock = Clock::default();
        for _ in 0..1_000 {
            clock.notice_suspension();
            let now = clock.now();
            let Some((boot, _)) = readings() else { return };
            assert!(now <= boot, "{now} is ahead of {boot}");
        }
    }

    #[test]
    fn a_manual_clock_knows_of_no_suspension() {
        let clock = Clock::from(Clock::manual());
        clock.notice_suspension();
        assert_eq!(clock.now(), 0);
    }

    #[test]
    fn a_huge_span_is_for_ever() {
        assert_eq!(nanos(Duration::MAX), NEVER);
        let clock = Clock::manual();
        clock.advance(Duration::MAX);
        clock.advance(Duration::MAX);
        assert_eq!(Clock::from(&clock).now(), NEVER - 1, "what never comes does not come");
    }
}
