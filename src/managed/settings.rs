//! Changing the limits and times of a managed pool while it is in use.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::managed::error::ConfigError;
use crate::managed::health::Policy;
use crate::managed::manager::Manager;
use crate::managed::pool::Pool;
use crate::managed::registry::Registry;
use crate::managed::slot::Slot;
use crate::managed::word::{Bounds, CONNECTING_MAX, CONNECTIONS_MAX, WAITERS_MAX};
use crate::pool::Pool as CorePool;

/// What can be changed while a managed pool is in use, by [`Pool::reconfigure`]. Each is
/// described at the method of [`Builder`](crate::managed::Builder) that has its name; here
/// is from when on a change holds. A peer that has a limit
/// [of its own](crate::managed::Builder::group_limits) keeps that one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Those of the pool below.
    pub pool: crate::Settings,
    /// At once: when `reconfigure` returns, no connect is started that would exceed it. If
    /// it is raised, those who wait may connect. If it is lowered, nobody loses a
    /// connection: idle ones that are too many are closed before `reconfigure` returns
    /// ([`CloseReason::GroupFull`](crate::CloseReason::GroupFull)), and leased ones when they
    /// are released.
    pub max_connections_per_group: usize,
    /// At once. If it is raised, those who wait may connect; if it is lowered, connects under
    /// way go on.
    pub max_connecting_per_group: usize,
    /// At once, for those who come: whoever waits may stay.
    pub max_waiters_per_group: usize,
    /// For connects that are started from now on.
    pub single_flight: bool,
    /// For callers that come from now on.
    pub acquire_timeout: Duration,
    /// For connects that are started from now on. Whether there is time for one at all is
    /// decided by what was in force when its caller began to wait.
    pub connect_timeout: Duration,
}

/// The times in force. The bounds are in the registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub acquire_timeout: Duration,
    pub connect_timeout: Duration,
}

impl Settings {
    /// What is beside the settings of the pool below, if it can work.
    fn validate(&self) -> Result<(Bounds, Terms), ConfigError> {
        let bounds = bounds_of(
            self.max_connections_per_group,
            self.max_connecting_per_group,
            self.max_waiters_per_group,
            self.single_flight,
        )?;
        let terms =
            Terms { acquire_timeout: self.acquire_timeout, connect_timeout: self.connect_timeout };
        terms.validate()?;
        Ok((bounds, terms))
    }
}

impl Terms {
    pub fn validate(self) -> Result<(), ConfigError> {
        let Self { acquire_timeout, connect_timeout } = self;
        let times = [("acquire_timeout", acquire_timeout), ("connect_timeout", connect_timeout)];
        if let Some((setting, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
            return Err(ConfigError::Zero { setting });
        }
        if connect_timeout > acquire_timeout {
            return Err(ConfigError::ConnectTimeoutAboveAcquireTimeout {
                connect_timeout,
                acquire_timeout,
            });
        }
        Ok(())
    }
}

/// The bounds of a peer, if they can work.
pub(crate) fn bounds_of(
    connections: usize,
    connecting: usize,
    waiters: usize,
    single_flight: bool,
) -> Result<Bounds, ConfigError> {
    let connections = bound("max_connections_per_group", connections, (1, CONNECTIONS_MAX))?;
    let connecting = bound("max_connecting_per_group", connecting, (1, CONNECTING_MAX))?;
    let waiters = bound("max_waiters_per_group", waiters, (0, WAITERS_MAX))?;
    Ok(Bounds { connections, connecting, single_flight, waiters })
}

/// The policy of what is made of connects that fail, if it can work.
pub(crate) fn policy_of(
    (min, max): (Duration, Duration),
    down_after: u32,
) -> Result<Policy, ConfigError> {
    if min.is_zero() {
        return Err(ConfigError::Zero { setting: "backoff" });
    }
    if min > max {
        return Err(ConfigError::BackoffReversed { min, max });
    }
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(Policy { backoff_min: nanos(min), backoff_max: nanos(max), down_after })
}

pub(crate) fn bound(
    setting: &'static str,
    value: usize,
    (min, max): (u32, u32),
) -> Result<u32, ConfigError> {
    let out_of_range =
        ConfigError::OutOfRange { setting, value, min: min as usize, max: max as usize };
    let fitting = u32::try_from(value).ok().filter(|value| (min..=max).contains(value));
    fitting.ok_or(out_of_range)
}

impl<K, M> Pool<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// A copy of the settings in force.
    pub fn settings(&self) -> Settings {
        let inner = &self.inner;
        let (terms, bounds) = (**inner.terms.load(), inner.registry.bounds.load());
        Settings {
            pool: inner.core.settings(),
            max_connections_per_group: bounds.connections as usize,
            max_connecting_per_group: bounds.connecting as usize,
            max_waiters_per_group: bounds.waiters as usize,
            single_flight: bounds.single_flight,
            acquire_timeout: terms.acquire_timeout,
            connect_timeout: terms.connect_timeout,
        }
    }

    /// Changes settings while the pool is in use.
    ///
    /// `change` is called once, with a copy of the settings in force. What it makes of them
    /// is checked as a whole, and then holds. From when on is said at each of the
    /// [`Settings`]. Calls come one after the other, so that no change is lost; a thread
    /// waits for those that are at it, and nobody else does.
    ///
    /// Costs what [`slabpool::Pool::reconfigure`](crate::Pool::reconfigure) does, and goes to
    /// every desk. Connections that are too many are closed on this thread.
    ///
    /// ```
    /// # use slabpool::managed::Pool;
    /// # async fn dial(_: String) -> std::io::Result<String> { Ok(String::new()) }
    /// # let pool = Pool::builder(|peer: &String| dial(peer.clone())).build()?;
    /// pool.reconfigure(|settings| {
    ///     settings.max_connections_per_group = 8;
    ///     settings.pool.capacity = 500;
    /// })?;
    /// assert_eq!(pool.settings().max_connections_per_group, 8);
    /// # Ok::<(), slabpool::managed::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work; nothing is changed.
    ///
    /// # Panics
    ///
    /// If `change` does; nothing is changed. When it is called inside such a closure, which
    /// would wait for itself.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Settings)) -> Result<(), ConfigError> {
        let inner = &self.inner;
        inner.core.engine().reconfigure_and(
            |pool| {
                let mut settings = Settings { pool: pool.clone(), ..self.settings() };
                change(&mut settings);
                let own = settings.validate()?;
                *pool = settings.pool;
                Ok::<_, ConfigError>(own)
            },
            |(bounds, terms)| {
                inner.registry.bounds.store(bounds);
                inner.terms.store(Arc::new(terms));
                // Before there is more room, of which who waits would take too much.
                inner.registry.relimit();
            },
        )?;
        // From here on others may change them again: what follows goes by those in force.
        inner.registry.resized(&inner.core);
        // There may be room, or another minimum.
        inner.registry.hasten_all();
        inner.registry.ended.notify_waiters();
        Ok(())
    }
}

impl<K, C, E> Registry<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    /// The bounds were changed: each desk has its limits anew.
    fn relimit(&self) {
        for index in self.all() {
            self.desk(index).relimit(&self.bounds);
        }
    }

    /// The bounds were changed: who waits may connect, and what is too many goes.
    fn resized(&self, pool: &CorePool<K, Slot<C>>) {
        for index in self.all() {
            let desk = self.desk(index);
            // Once more, for one that was taken up meanwhile. If it has gone to another peer,
            // it does no harm there.
            desk.relimit(&self.bounds);
            desk.freed(&desk.limits, || self.grant(index));
            // After the lock was taken: see M4 and `Limits::connections`.
            if let Some(peer) = self.peer_of(index) {
                pool.engine().directory.with(&peer.key, |group| group.lanes.barrier());
                self.shed(pool, index);
            }
        }
    }

    /// Closes what is idle of a peer for as long as it has too many.
    pub fn shed(&self, pool: &CorePool<K, Slot<C>>, index: u32) {
        let desk = self.desk(index);
        if desk.word.load().connections() <= desk.limits.connections() {
            return;
        }
        let Some(peer) = self.peer_of(index) else { return };
        let directory = &pool.engine().directory;
        // It may be another group by now that its connections are put into.
        let Some(group) = directory.with(&peer.key, Arc::clone) else { return };
        desk.shed(
            &desk.limits,
            || self.lease_again(pool, &group),
            |lease| lease.end(crate::CloseReason::GroupFull),
        );
    }
}
