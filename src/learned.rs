//! How long the peer of a group keeps idle connections, as far as it was found out.
//!
//! An *observation* is an idle connection that the peer was found to have closed, and how
//! long it had been idle then. Three of them in a row that agree make a timeout: the
//! smallest of them, less a guard.
//!
//! What counts, and why a peer that starts anew is not mistaken for one with a short
//! timeout: such a peer closes connections of all ages, but all at one moment. So an
//! observation counts only if its connection became idle *after* the last one that
//! counted was made. Of all connections closed at one moment, that can be said of two at
//! most, and of the second only because times are rounded: to be made later, it must
//! have become idle later, but before that moment. Two make no timeout.
//!
//! A timeout is forgotten slowly, since the peer's may be longer by now: it grows by an
//! eighth of itself in each period, until it is no shorter than the configured one. When
//! a single observation confirms what was found out before, it holds again, and the
//! period is four times as long: 10 minutes at first, 10 h 40 min at most.
//!
//! Nothing here is driven by a timer: who asks says what time it is.
//!
//! # Layout
//!
//! ```text
//!  63     48 47    32 31   16 15     4 3         2 1     0
//! +---------+--------+-------+--------+-----------+-------+
//! | timeout |  seen  | last  | since  | confirmed | count |
//! +---------+--------+-------+--------+-----------+-------+
//! ```
//!
//! | field | |
//! |---|---|
//! | timeout | what was found out, in units of 50 ms; 0 is nothing |
//! | seen | the smallest age of the observations that agree, in units |
//! | last | when the last one that counted was made, in units; wraps every 54 min |
//! | since | when the timeout was found out or grew, in minutes; wraps every 68 h |
//! | confirmed | how often the timeout was confirmed, at most 3 |
//! | count | how many observations in a row agree, at most 3 |
//!
//! Where `last` has wrapped, an observation may not count that should; never the other way
//! round. Where `since` has, a timeout grows later.
//!
//! All accesses are Relaxed: the word guards nothing but itself.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};
use crate::time::NEVER;

/// Nanoseconds in a unit of `timeout`, `seen` and `last`.
const UNIT: u64 = 50_000_000;
const UNITS_MASK: u64 = 0xffff;
/// Nanoseconds in a unit of `since`.
const MINUTE: u64 = 60_000_000_000;
const MINUTES_MASK: u64 = 0xfff;

const TIMEOUT_SHIFT: u32 = 48;
const SEEN_SHIFT: u32 = 32;
const LAST_SHIFT: u32 = 16;
const SINCE_SHIFT: u32 = 4;
const CONFIRMED_SHIFT: u32 = 2;
const TWO_BITS_MASK: u64 = 0b11;

/// Observations that make a timeout.
const COUNT_MAX: u64 = 3;
const CONFIRMED_MAX: u64 = 3;
/// Connections closed sooner than this, in units, were not closed for being idle.
const AGE_MIN: u64 = 4;
/// By so much a timeout is below what was seen, in units, or by half of it.
const GUARD: u64 = 1_000_000_000 / UNIT;
/// Observations agree that differ by this part, or by a tick, but never by more than
/// the larger part.
const AGREE_PART: u64 = 10;
const AGREE_PART_MAX: u64 = 4;
/// Minutes after which a timeout that was never confirmed grows.
const PERIOD: u64 = 10;
/// By this part.
const GROWTH_PART: u64 = 8;

const _: () = assert!(PERIOD << (2 * CONFIRMED_MAX) <= MINUTES_MASK / 2);

/// What a group has learned of its peer.
pub(crate) struct Learned(AtomicU64);

/// The fields of the word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fields {
    timeout: u64,
    seen: u64,
    last: u64,
    since: u64,
    confirmed: u64,
    count: u64,
}

impl Learned {
    /// Nothing.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The timeout, in nanoseconds; `u64::MAX` if none was found out.
    pub fn timeout(&self) -> u64 {
        match Fields::unpack(self.get()).timeout {
            0 => NEVER,
            timeout => timeout * UNIT,
        }
    }

    /// Adds the observation, made at `now`, that the peer has closed a connection that was
    /// idle for `age`. All times are in nanoseconds. `tick` is how exactly ages are known,
    /// `configured` the timeout to which this one grows.
    pub fn observe(&self, now: u64, age: u64, tick: u64, configured: u64) {
        let age = age / UNIT;
        if (AGE_MIN..=UNITS_MASK).contains(&age) {
            self.change(|fields| {
                fields.grown(now, configured).with_observation(now, age, tick / UNIT)
            });
        }
    }

    /// Lets the timeout grow by what is due at `now`.
    pub fn relax(&self, now: u64, configured: u64) {
        self.change(|fields| {
            Some(fields.grown(now, configured)).filter(|grown| grown.timeout != fields.timeout)
        });
    }

    /// All of it, for [`Learned::set`].
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces all of it: by what [`Learned::get`] gave, or 0, which is nothing.
    pub fn set(&self, word: u64) {
        self.0.store(word, Ordering::Relaxed);
    }

    fn change(&self, transition: impl Fn(Fields) -> Option<Fields>) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            transition(Fields::unpack(word)).map(Fields::pack)
        });
    }
}

impl Fields {
    fn unpack(word: u64) -> Self {
        Self {
            timeout: word >> TIMEOUT_SHIFT,
            seen: word >> SEEN_SHIFT & UNITS_MASK,
            last: word >> LAST_SHIFT & UNITS_MASK,
            since: word >> SINCE_SHIFT & MINUTES_MASK,
            confirmed: word >> CONFIRMED_SHIFT & TWO_BITS_MASK,
            count: word & TWO_BITS_MASK,
        }
    }

    fn pack(self) -> u64 {
        let Self { timeout, seen, last, since, confirmed, count } = self;
        debug_assert!(timeout.max(seen).max(last) <= UNITS_MASK && since <= MINUTES_MASK);
        debug_assert!(confirmed.max(count) <= TWO_BITS_MASK);
        timeout << TIMEOUT_SHIFT
            | seen << SEEN_SHIFT
            | last << LAST_SHIFT
            | since << SINCE_SHIFT
            | confirmed << CONFIRMED_SHIFT
            | count
    }

    /// With the growth that is due.
    fn grown(mut self, now: u64, configured: u64) -> Self {
        let period = PERIOD << (2 * self.confirmed);
        let elapsed = (now / MINUTE).wrapping_sub(self.since) & MINUTES_MASK;
        let steps = elapsed / period;
        for _ in 0..steps {
            if self.timeout == 0 {
                break;
            }
            self.timeout += (self.timeout / GROWTH_PART).max(1);
            if self.timeout > UNITS_MASK || self.timeout * UNIT >= configured {
                // The observations stay: one that agrees with them tells it again.
                (self.timeout, self.confirmed) = (0, 0);
            }
        }
        self.since = (self.since + steps * period) & MINUTES_MASK;
        self
    }

    /// With an observation, if it counts.
    fn with_observation(mut self, now: u64, age: u64, tick: u64) -> Option<Self> {
        let made = now / UNIT & UNITS_MASK;
        let elapsed = made.wrapping_sub(self.last) & UNITS_MASK;
        // All three are rounded down: with one more, nothing is left out that counts.
        if self.count > 0 && elapsed + 1 <= age {
            return None;
        }
        self.last = made;
        if !self.agrees(age, tick) {
            (self.seen, self.count) = (age, 1);
            return Some(self);
        }
        let confirms = self.count == COUNT_MAX;
        self.seen = self.seen.min(age);
        self.count = (self.count + 1).min(COUNT_MAX);
        let found = self.seen.saturating_sub(GUARD).max(self.seen / 2);
        // It is never longer for an observation: a connection may have been found long
        // after it was closed.
        if self.count == COUNT_MAX && (self.timeout == 0 || found <= self.timeout) {
            self.timeout = found;
            self.since = now / MINUTE & MINUTES_MASK;
            self.confirmed = if confirms { (self.confirmed + 1).min(CONFIRMED_MAX) } else { 0 };
        }
        Some(self)
    }

    /// Whether an age agrees with those before.
    fn agrees(&self, age: u64, tick: u64) -> bool {
        let slack = (self.seen / AGREE_PART).max(tick.min(self.seen / AGREE_PART_MAX));
        self.count > 0 && age.abs_diff(self.seen) <= slack
    }
}

impl fmt::Debug for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fields::unpack(self.get()).fmt(f)
    }
}
