//! How long the peer of a group keeps idle connections, as far as it was found out.
//!
//! An *observation* is an idle connection that the peer was found to have closed, and how
//! long it had been idle then. Three of them in a row that agree make a timeout: the
//! smallest of them, less a guard.
//!
//! What counts, and why a peer that starts anew is not mistaken for one with a short
//! timeout: such a peer closes connections of all ages, but all at one moment. So an
//! observation counts only if its connection became idle *after* the last one that
//! counted was made. Of connections that were closed in one moment, none became idle
//! after one of them was found closed: so one of them counts, or two at most, since times
//! are rounded. Two make no timeout.
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
/// Connections closed sooner than this, in units, were not closed for being idle. Less
/// would let three pass that were closed in one moment: the second one that counts became
/// idle at most two units before the first was found, the third at most two before the
/// second was, and so, if that was idle for four, after it was closed.
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

    /// Lets the timeout grow by what is due at `now`. True if that is anything.
    pub fn relax(&self, now: u64, configured: u64) -> bool {
        self.change(|fields| {
            Some(fields.grown(now, configured)).filter(|grown| grown.timeout != fields.timeout)
        })
    }

    /// All of it, for [`Learned::set`].
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces all of it: by what [`Learned::get`] gave, or 0, which is nothing.
    pub fn set(&self, word: u64) {
        self.0.store(word, Ordering::Relaxed);
    }

    fn change(&self, transition: impl Fn(Fields) -> Option<Fields>) -> bool {
        let changed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            transition(Fields::unpack(word)).map(Fields::pack)
        });
        changed.is_ok()
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
        let made = (now / UNIT) & UNITS_MASK;
        let elapsed = made.wrapping_sub(self.last) & UNITS_MASK;
        // Rounded down, all of them: who became idle later is never left out, and one who
        // did so less than two units sooner may pass.
        if self.count > 0 && elapsed < age {
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
            self.since = (now / MINUTE) & MINUTES_MASK;
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

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields() -> impl Strategy<Value = Fields> {
        let units = || 0..=UNITS_MASK;
        let times = (units(), AGE_MIN..=UNITS_MASK, units(), 0..=MINUTES_MASK);
        (times, 0..=CONFIRMED_MAX, 0..=COUNT_MAX).prop_map(
            |((timeout, seen, last, since), confirmed, count)| Fields {
                timeout,
                seen,
                last,
                since,
                confirmed,
                count,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_packed_is_unpacked(fields in fields()) {
            prop_assert_eq!(Fields::unpack(fields.pack()), fields);
        }

        /// From whatever there is, at whatever time: it grows to less than is configured,
        /// and an observation only makes it shorter than that.
        #[test]
        fn a_timeout_grows_slowly_and_falls_below_what_was_seen(
            fields in fields(),
            now in any::<u64>(),
            age in any::<u64>(),
            tick in 0..2_000_000_000_u64,
            configured in any::<u64>(),
        ) {
            let grown = fields.grown(now, configured);
            if grown.timeout != 0 && grown.timeout != fields.timeout {
                prop_assert!(grown.timeout > fields.timeout);
                prop_assert!(grown.timeout * UNIT < configured);
            }
            let learned = Learned::new();
            learned.set(fields.pack());
            learned.observe(now, age, tick, configured);
            let after = Fields::unpack(learned.get());
            if after != fields && after.timeout != grown.timeout {
                prop_assert!((1..after.seen).contains(&after.timeout));
                prop_assert!(grown.timeout == 0 || after.timeout < grown.timeout);
            }
        }

        /// Of all observations of connections that were closed in one moment, whenever
        /// they were released before it and found out after it, at most two count.
        #[test]
        fn a_restart_counts_twice_at_most(
            at in 1 << 40..1_u64 << 60,
            connections in prop::collection::vec(
                (
                    prop_oneof![0..200_u64, 0..30_000_u64, 0..4_000_000_u64],
                    prop_oneof![0..200_u64, 0..60_000_u64, 0..4_000_000_u64],
                ),
                1..200,
            ),
            tick in 0..2_000_000_000_u64,
        ) {
            const MILLISECOND: u64 = 1_000_000;
            let mut connections = connections;
            connections.sort_unstable_by_key(|&(_, found_after)| found_after);
            let learned = Learned::new();
            let mut counted = 0;
            for (released_before, found_after) in connections {
                let before = learned.get();
                let now = at + found_after * MILLISECOND;
                let age = (released_before + found_after) * MILLISECOND;
                learned.observe(now, age, tick, NEVER);
                counted += u32::from(learned.get() != before);
                prop_assert_eq!(learned.timeout(), NEVER);
            }
            prop_assert!(counted <= 2, "{} counted", counted);
        }

        /// A peer with a timeout is found out whatever that is, in three observations
        /// unless the clock has wrapped in between.
        #[test]
        fn a_timeout_is_found_out(
            at in 1..1_u64 << 60,
            timeout in 200..3_000_000_u64,
            pauses in prop::collection::vec(0..1_000_u64, 9),
        ) {
            const MILLISECOND: u64 = 1_000_000;
            let learned = Learned::new();
            let mut now = at;
            for (n, pause) in pauses.into_iter().enumerate() {
                now += (timeout + pause) * MILLISECOND;
                learned.observe(now, timeout * MILLISECOND, 0, NEVER);
                if n == 2 {
                    let seen = timeout * MILLISECOND / UNIT;
                    let expected = (seen.saturating_sub(GUARD)).max(seen / 2) * UNIT;
                    prop_assert_eq!(learned.timeout(), expected);
                }
            }
        }
    }
}
