//! What can be set for a pool, a group, one connection.

use std::time::Duration;

use crate::error::ConfigError;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::nanos_or_never;

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

    /// As [`Builder::max_uses`](crate::Builder::max_uses); [`u64::MAX`] lifts the
    /// pool's limit.
    pub fn max_uses(mut self, max_uses: u64) -> Self {
        self.max_uses = Some(max_uses);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.max_uses == Some(0) { Err(ConfigError::MaxUsesZero) } else { Ok(()) }
    }
}

/// Settings of one connection, for [`Pool::put_with`](crate::Pool::put_with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// How long this connection may stay idle, if that is less than its group
    /// allows: what the server's `Keep-Alive: timeout=` says, for example.
    pub idle_timeout: Option<Duration>,
}

/// The limits of a pool: what a group has unless its settings differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub idle_timeout: Option<Duration>,
    pub max_lifetime: Option<Duration>,
    pub max_idle: usize,
    pub max_uses: u64,
}

/// The limits in force in one group, in numbers. Read on every get and release,
/// written when the group is configured.
///
/// All accesses are Relaxed: each number stands for itself.
#[derive(Debug)]
pub(crate) struct Limits {
    idle_timeout: AtomicU64,
    max_lifetime: AtomicU64,
    max_uses: AtomicU64,
    max_idle: AtomicU32,
}

impl Limits {
    /// No cap on idle connections.
    pub const UNCAPPED: u32 = u32::MAX;

    pub fn new(defaults: &Defaults, own: &GroupSettings) -> Self {
        let limits = Self {
            idle_timeout: AtomicU64::new(0),
            max_lifetime: AtomicU64::new(0),
            max_uses: AtomicU64::new(0),
            max_idle: AtomicU32::new(0),
        };
        limits.set(defaults, own);
        limits
    }

    pub fn set(&self, defaults: &Defaults, own: &GroupSettings) {
        let idle_timeout = own.idle_timeout.unwrap_or(defaults.idle_timeout);
        let max_lifetime = own.max_lifetime.unwrap_or(defaults.max_lifetime);
        let max_idle = own.max_idle.unwrap_or(defaults.max_idle);
        let max_uses = own.max_uses.unwrap_or(defaults.max_uses);
        self.idle_timeout.store(nanos_or_never(idle_timeout), Ordering::Relaxed);
        self.max_lifetime.store(nanos_or_never(max_lifetime), Ordering::Relaxed);
        self.max_uses.store(max_uses, Ordering::Relaxed);
        let max_idle = u32::try_from(max_idle).unwrap_or(Self::UNCAPPED);
        self.max_idle.store(max_idle, Ordering::Relaxed);
    }

    /// Nanoseconds; `u64::MAX` is for ever.
    #[inline(always)]
    pub fn idle_timeout(&self) -> u64 {
        self.idle_timeout.load(Ordering::Relaxed)
    }

    /// Nanoseconds; `u64::MAX` is for ever.
    pub fn max_lifetime(&self) -> u64 {
        self.max_lifetime.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn max_uses(&self) -> u64 {
        self.max_uses.load(Ordering::Relaxed)
    }

    /// [`Limits::UNCAPPED`] is no cap.
    #[inline(always)]
    pub fn max_idle(&self) -> u32 {
        self.max_idle.load(Ordering::Relaxed)
    }
}
