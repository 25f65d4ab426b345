//! What can go wrong, and what came of the connection.

use std::error::Error;
use std::fmt;

/// A setting that cannot work. From [`Builder::build`](crate::Builder::build),
/// [`Pool::reconfigure`](crate::Pool::reconfigure) and
/// [`Group::configure`](crate::Group::configure).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// More connections than a pool can index.
    CapacityTooLarge {
        /// What was asked for.
        capacity: usize,
        /// What is possible.
        capacity_max: usize,
    },
    /// A jitter that is no fraction.
    JitterOutOfRange {
        /// What was asked for.
        jitter: f64,
        /// The least possible.
        jitter_min: f64,
        /// The largest possible.
        jitter_max: f64,
    },
    /// No use at all is allowed, so that no connection could ever be leased.
    MaxUsesZero,
    /// More idle connections of a group are to be kept than it may have.
    MinIdleAboveMaxIdle {
        /// What was asked for as the least.
        min_idle: usize,
        /// The most that there may be.
        max_idle: usize,
    },
    /// A probe interval of zero, which would be all the time; `None` is never.
    ProbeIntervalZero,
    /// A trim window of zero, in which every connection would be idle; `None` is no
    /// trimming.
    TrimWindowZero,
    /// No connection may be retired at all.
    RetirementRateZero,
    /// A share of a group that is no fraction above zero.
    RetirementShareOutOfRange {
        /// What was asked for.
        share: f64,
        /// Not possible, but everything above.
        share_above: f64,
        /// The largest possible.
        share_max: f64,
    },
    /// No lane, or more than a group can have.
    LanesOutOfRange {
        /// What was asked for.
        lanes: usize,
        /// The least possible.
        lanes_min: usize,
        /// The largest possible.
        lanes_max: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CapacityTooLarge { capacity, capacity_max } => {
                write!(f, "capacity is {capacity}, at most {capacity_max} is possible")
            }
            Self::JitterOutOfRange { jitter, jitter_min, jitter_max } => write!(
                f,
                "lifetime_jitter is {jitter}, it must lie between {jitter_min} and {jitter_max}"
            ),
            Self::MaxUsesZero => {
                f.write_str("max_uses is 0, at least 1 is needed to lease a connection at all")
            }
            Self::MinIdleAboveMaxIdle { min_idle, max_idle } => {
                write!(f, "min_idle is {min_idle}, at most the {max_idle} of max_idle are possible")
            }
            Self::ProbeIntervalZero => {
                f.write_str("probe_interval is 0, it must be longer, or None for no probes")
            }
            Self::TrimWindowZero => {
                f.write_str("trim_window is 0, it must be longer, or None for no trimming")
            }
            Self::RetirementRateZero => {
                f.write_str("retirement.per_second is 0, it must be at least 1")
            }
            Self::RetirementShareOutOfRange { share, share_above, share_max } => write!(
                f,
                "retirement.group_share is {share}, it must lie above {share_above} and be at \
                 most {share_max}"
            ),
            Self::LanesOutOfRange { lanes, lanes_min, lanes_max } => {
                write!(f, "lanes is {lanes}, it must lie between {lanes_min} and {lanes_max}")
            }
        }
    }
}

impl Error for ConfigError {}

/// Why the pool did not take a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectReason {
    /// The pool holds `capacity` connections, and none of them is idle, so that none can
    /// go; one that `retain` or a probe is looking at just then counts as not idle. Or the
    /// capacity was lowered, and the pool still holds more. Transient, unless the capacity
    /// is 0.
    Full {
        /// The pool's capacity, as it is now.
        capacity: usize,
    },
    /// The group holds as many idle connections as it may. Only for connections
    /// that were to be idle at once.
    GroupFull {
        /// The group's cap.
        max_idle: usize,
    },
    /// The idle timeout or the number of uses left is zero, so that the connection could
    /// never be leased. Only for connections that were to be idle at once.
    NeverIdle,
    /// The group is [draining](crate::Group::drain): it takes nothing until it is
    /// [resumed](crate::Group::resume).
    Draining,
    /// The pool was closed. Permanent.
    Closed,
    /// More live threads than the slab has shards for have put connections into
    /// pools. This thread can lease and release, but not insert.
    TooManyThreads {
        /// How many there may be.
        threads_max: usize,
    },
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity } => {
                write!(f, "the pool is at its capacity of {capacity} and nothing is idle")
            }
            Self::GroupFull { max_idle } => {
                write!(f, "the group has its {max_idle} idle connections already")
            }
            Self::NeverIdle => f.write_str("the idle timeout or the number of uses left is zero"),
            Self::Draining => f.write_str("the group is draining"),
            Self::Closed => f.write_str("the pool is closed"),
            Self::TooManyThreads { threads_max } => {
                write!(f, "more than {threads_max} live threads insert connections")
            }
        }
    }
}

/// A connection that the pool did not take, and why. It is still open, and the
/// caller's.
#[must_use = "this holds the connection"]
pub struct Rejected<C> {
    /// The connection, untouched.
    pub connection: C,
    /// Why it was not taken.
    pub reason: RejectReason,
}

impl<C> Rejected<C> {
    /// The connection, untouched.
    pub fn into_inner(self) -> C {
        self.connection
    }

    /// Why it was not taken.
    pub fn reason(&self) -> RejectReason {
        self.reason
    }
}

impl<C> fmt::Debug for Rejected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<C> fmt::Display for Rejected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection not taken: {}", self.reason)
    }
}

impl<C> Error for Rejected<C> {}

/// Why the pool gave up a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was idle for longer than its idle timeout.
    Idle,
    /// It reached its maximum lifetime.
    Lifetime,
    /// It was leased as often as it may be, by its group or by what was said of it alone.
    Uses,
    /// The pool was full, or held more than a capacity that was lowered, and this was the
    /// connection released longest ago.
    Evicted,
    /// [`Pool::evict`](crate::Pool::evict) named it.
    Removed,
    /// [`clear`](crate::Pool::clear), [`clear_group`](crate::Pool::clear_group) or
    /// [`retain`](crate::Pool::retain) removed it.
    Cleared,
    /// It was opened before its group or the whole pool was invalidated.
    Invalidated,
    /// The pool was closed.
    Closed,
    /// Its lease was dropped without [`release`](crate::Lease::release).
    Dropped,
    /// Its lease was ended with [`close`](crate::Lease::close).
    Unhealthy,
    /// It was released into a group that had as many idle ones as it may, or its peer had more
    /// connections than a `managed` pool allows since its limit was lowered.
    GroupFull,
    /// The peer has closed it, or it has failed: as a probe or the watch found out, or as
    /// [`close_dead`](crate::Lease::close_dead) said, or a check that it did not pass.
    Dead,
    /// The peer has sent what nobody asked for, while it was idle.
    UnexpectedData,
    /// Its group did not need it over a whole window; see
    /// [`Builder::trim_window`](crate::Builder::trim_window).
    Trimmed,
    /// Its group was [drained](crate::Group::drain).
    Drained,
}

impl CloseReason {
    /// All reasons, in the order of [`CloseReason::index`].
    pub const ALL: [Self; 15] = [
        Self::Idle,
        Self::Lifetime,
        Self::Uses,
        Self::Evicted,
        Self::Removed,
        Self::Cleared,
        Self::Invalidated,
        Self::Closed,
        Self::Dropped,
        Self::Unhealthy,
        Self::GroupFull,
        Self::Dead,
        Self::UnexpectedData,
        Self::Trimmed,
        Self::Drained,
    ];

    /// A small number, for tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// A word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Uses => "uses",
            Self::Evicted => "evicted",
            Self::Removed => "removed",
            Self::Cleared => "cleared",
            Self::Invalidated => "invalidated",
            Self::Closed => "closed",
            Self::Dropped => "dropped",
            Self::Unhealthy => "unhealthy",
            Self::GroupFull => "group_full",
            Self::Dead => "dead",
            Self::UnexpectedData => "unexpected_data",
            Self::Trimmed => "trimmed",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_indexed_in_order() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }

    #[test]
    fn errors_name_the_value_and_the_limit() {
        let error = ConfigError::CapacityTooLarge { capacity: 9, capacity_max: 7 };
        assert_eq!(error.to_string(), "capacity is 9, at most 7 is possible");
        let error = ConfigError::MinIdleAboveMaxIdle { min_idle: 5, max_idle: 3 };
        assert_eq!(error.to_string(), "min_idle is 5, at most the 3 of max_idle are possible");
        let error =
            ConfigError::RetirementShareOutOfRange { share: 1.5, share_above: 0.0, share_max: 1.0 };
        assert!(error.to_string().contains("is 1.5, it must lie above 0 and be at most 1"));
        let rejected = Rejected { connection: (), reason: RejectReason::Full { capacity: 3 } };
        assert!(rejected.to_string().contains("capacity of 3"), "{rejected}");
    }
}
