//! What can be set for a pool, a group, one connection.

use std::time::Duration;

use crate::connection::CloseMode;
use crate::error::ConfigError;
use crate::store::CONNECTIONS_MAX;

/// The part of the file-descriptor limit that a pool takes by default, 20 %, and
/// the most that this comes to.
const DESCRIPTORS_PART: u64 = 5;
const CAPACITY_DEFAULT_MAX: usize = 65_536;

/// What can be changed while a pool is in use, by
/// [`Pool::reconfigure`](crate::Pool::reconfigure). Each is described at the method of
/// [`Builder`](crate::Builder) that has its name; here is from when on a change holds.
///
/// The rest of what a [`Builder`](crate::Builder) sets cannot be changed: the lanes, the
/// hooks, the probe, the clock, what dropping a lease means, whether a reaper is started,
/// and the tick, which follows from the idle timeout that the pool was built with.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// The most connections in the pool, idle and leased together. At once: no insertion
    /// exceeds it from now on. If it is lowered, the idle connections that are too many
    /// are closed by `reconfigure`, those released longest ago first; what is leased, or
    /// on its way in, stays, and maintenance and insertions close as many as are still
    /// too many when they are idle.
    pub capacity: usize,
    /// The most idle connections in a group. From the next release or
    /// [`put`](crate::Pool::put) on: if it is lowered, what is idle stays.
    pub max_idle_per_group: usize,
    /// So many idle connections of a group are exempt from the idle timeout; no more than
    /// may be idle. At once: what was exempt, and is no longer, is refused by the next get
    /// and closed when the reaper looks at it next.
    pub min_idle_per_group: usize,
    /// How long a connection may stay idle. For each connection from its insertion or next
    /// release on; what is idle keeps the timeout that it was released with.
    pub idle_timeout: Option<Duration>,
    /// How long after its insertion a connection may still be leased. For connections
    /// inserted from now on.
    pub max_lifetime: Option<Duration>,
    /// The part of its lifetime by which a connection's may be shorter. For connections
    /// inserted from now on.
    pub lifetime_jitter: f64,
    /// How often a connection may be leased. At once: uses before the change count.
    pub max_uses: u64,
    /// Connections idle for less than this are leased without a probe. At once.
    pub probe_after: Duration,
    /// How often idle connections that cannot be watched are probed. For each connection
    /// from when the reaper looks at it next: after the interval that held before, or when
    /// its idle timeout is over.
    pub probe_interval: Option<Duration>,
    /// Connections that their group did not need for this long are trimmed. A shorter
    /// window at once, a longer one when the one that is running is over; `None` ends a
    /// sweep that is under way.
    pub trim_window: Option<Duration>,
    /// How fast the reaper closes connections whose lifetime has ended. From the next
    /// piece of maintenance on.
    pub retirement: RetirementBudget,
    /// Whether groups learn the idle timeout of their peer. At once; when it is turned
    /// off, groups forget what they have learned.
    pub learn_idle_timeout: bool,
    /// How connections are closed. At once; without effect in a pool that was built
    /// without [`Builder::close_mode`](crate::Builder::close_mode), which cannot ask its
    /// connections.
    pub close_mode: CloseMode,
}

impl Settings {
    /// The default idle timeout: well under the 60 to 75 s after which most servers
    /// and load balancers hang up.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
    const JITTER: f64 = 0.1;
    const PROBE_INTERVAL: Duration = Duration::from_secs(5);

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let capacity = self.capacity;
        if capacity > CONNECTIONS_MAX {
            return Err(ConfigError::CapacityTooLarge { capacity, capacity_max: CONNECTIONS_MAX });
        }
        let jitter = self.lifetime_jitter;
        if !(0.0..=1.0).contains(&jitter) {
            return Err(ConfigError::JitterOutOfRange { jitter, jitter_min: 0.0, jitter_max: 1.0 });
        }
        if self.max_uses == 0 {
            return Err(ConfigError::MaxUsesZero);
        }
        let (min_idle, max_idle) = (self.min_idle_per_group, self.max_idle_per_group);
        if min_idle > max_idle {
            return Err(ConfigError::MinIdleAboveMaxIdle { min_idle, max_idle });
        }
        if self.probe_interval == Some(Duration::ZERO) {
            return Err(ConfigError::ProbeIntervalZero);
        }
        if self.trim_window == Some(Duration::ZERO) {
            return Err(ConfigError::TrimWindowZero);
        }
        self.retirement.validate()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity: capacity_default(),
            max_idle_per_group: usize::MAX,
            min_idle_per_group: 0,
            idle_timeout: Some(Self::IDLE_TIMEOUT),
            max_lifetime: None,
            lifetime_jitter: Self::JITTER,
            max_uses: u64::MAX,
            probe_after: Duration::ZERO,
            probe_interval: Some(Self::PROBE_INTERVAL),
            trim_window: None,
            retirement: RetirementBudget::default(),
            learn_idle_timeout: false,
            close_mode: CloseMode::Graceful,
        }
    }
}

/// How fast the reaper closes connections whose lifetime has ended, so that those which
/// were opened together are not all opened again together.
///
/// A connection that had to wait is still closed by the get that meets it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetirementBudget {
    /// The most such closes in each second of the pool's clock, over all groups. At least
    /// 1. What a second does not use is not carried over. Default: [`u32::MAX`], no limit.
    pub per_second: u32,
    /// The part of a group's connections that is closed in one tick, more than 0 and at
    /// most 1, rounded down, but always at least one connection. Default: 1, which is no
    /// limit.
    pub group_share: f64,
}

impl RetirementBudget {
    /// No limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this limit [for a second](RetirementBudget::per_second).
    #[must_use]
    pub fn per_second(self, per_second: u32) -> Self {
        Self { per_second, ..self }
    }

    /// With this limit [for a group](RetirementBudget::group_share).
    #[must_use]
    pub fn group_share(self, group_share: f64) -> Self {
        Self { group_share, ..self }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.per_second == 0 {
            return Err(ConfigError::RetirementRateZero);
        }
        let share = self.group_share;
        // Also not if it is no number.
        if share > 0.0 && share <= 1.0 {
            return Ok(());
        }
        Err(ConfigError::RetirementShareOutOfRange { share, share_above: 0.0, share_max: 1.0 })
    }
}

impl Default for RetirementBudget {
    fn default() -> Self {
        Self { per_second: u32::MAX, group_share: 1.0 }
    }
}

/// Settings of one group that differ from those of its pool.
///
/// What is not set here is as the pool has it. See
/// [`Group::configure`](crate::Group::configure) and
/// [`Builder::group_settings`](crate::Builder::group_settings).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use]
pub struct GroupSettings {
    pub(crate) idle_timeout: Option<Option<Duration>>,
    pub(crate) max_lifetime: Option<Option<Duration>>,
    pub(crate) max_idle: Option<usize>,
    pub(crate) min_idle: Option<usize>,
    pub(crate) max_uses: Option<u64>,
}

impl GroupSettings {
    /// No difference.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Builder::idle_timeout`](crate::Builder::idle_timeout).
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = Some(timeout.into());
        self
    }

    /// As [`Builder::max_lifetime`](crate::Builder::max_lifetime).
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = Some(lifetime.into());
        self
    }

    /// As [`Builder::max_idle_per_group`](crate::Builder::max_idle_per_group);
    /// [`usize::MAX`] lifts the pool's cap.
    pub fn max_idle(mut self, max_idle: usize) -> Self {
        self.max_idle = Some(max_idle);
        self
    }

    /// As [`Builder::min_idle_per_group`](crate::Builder::min_idle_per_group). Where the
    /// most that may be idle is less, that holds.
    pub fn min_idle(mut self, min_idle: usize) -> Self {
        self.min_idle = Some(min_idle);
        self
    }

    /// As [`Builder::max_uses`](crate::Builder::max_uses); [`u64::MAX`] lifts the
    /// pool's limit.
    pub fn max_uses(mut self, max_uses: u64) -> Self {
        self.max_uses = Some(max_uses);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.max_uses == Some(0) {
            return Err(ConfigError::MaxUsesZero);
        }
        match (self.min_idle, self.max_idle) {
            (Some(min_idle), Some(max_idle)) if min_idle > max_idle => {
                Err(ConfigError::MinIdleAboveMaxIdle { min_idle, max_idle })
            }
            // If one of them is the pool's, that may change: `max_idle` holds.
            _ => Ok(()),
        }
    }
}

/// Settings of one connection, for [`Pool::put_with`](crate::Pool::put_with) and
/// [`Lease::release_with`](crate::Lease::release_with).
///
/// They only narrow what the group allows. What is `None` is left as it is: for a
/// connection that is new in the pool, as its group has it; for one that is released, as
/// it was said of it before. [`Duration::MAX`] and [`u64::MAX`] lift what was said.
///
/// From a [`KeepAlive`](crate::KeepAlive) header by `into`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// How long this connection may stay idle, if that is less than its group allows,
    /// in this idle spell and those after it. Zero: it is not used again. Default:
    /// `None`.
    pub idle_timeout: Option<Duration>,
    /// How often this connection may be leased from now on, if its group's
    /// [`max_uses`](crate::Builder::max_uses) does not end it sooner. Zero: not again.
    /// Default: `None`.
    pub max_uses: Option<u64>,
}

impl PutOptions {
    /// Nothing said.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this [`idle_timeout`](PutOptions::idle_timeout).
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { idle_timeout: timeout.into(), ..self }
    }

    /// With these [`max_uses`](PutOptions::max_uses).
    #[must_use]
    pub fn max_uses(self, max_uses: impl Into<Option<u64>>) -> Self {
        Self { max_uses: max_uses.into(), ..self }
    }
}

/// A fifth of the file-descriptor limit, at most [`CAPACITY_DEFAULT_MAX`].
fn capacity_default() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit = None;
    limit.map_or(CAPACITY_DEFAULT_MAX, |limit| {
        usize::try_from(limit / DESCRIPTORS_PART)
            .map_or(CAPACITY_DEFAULT_MAX, |part| part.clamp(1, CAPACITY_DEFAULT_MAX))
    })
}
