//! Builds a managed pool.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder as CoreBuilder;
use crate::managed::error::ConfigError;
use crate::managed::manager::Manager;
use crate::managed::pool::{Inner, Pool};
use crate::managed::registry::Registry;
use crate::managed::room::Feeder;
use crate::managed::slot::Slot;
use crate::managed::word::{Bounds, CONNECTING_MAX, CONNECTIONS_MAX, WAITERS_MAX};
use crate::pool::Pool as CorePool;

/// What a caller does who finds no idle connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMiss {
    /// Has one opened, and takes what comes first: that one, or one that somebody returns.
    /// The other one is kept for others.
    #[default]
    Race,
    /// Waits so long for one that somebody returns, and goes on as in
    /// [`Race`](OnMiss::Race). At once, if the peer has none that could be returned.
    Wait(Duration),
    /// Has one opened, and takes that and no other. Where a limit does not let it, waits
    /// its turn as in [`Race`](OnMiss::Race).
    Connect,
}

/// Builds a managed [`Pool`]. Setters cannot fail; [`Builder::build`] checks everything.
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<K, M: Manager<K>> {
    manager: M,
    #[expect(clippy::type_complexity, reason = "it is said once")]
    settings: Box<dyn FnOnce(CoreOf<K, M>) -> CoreOf<K, M>>,
    connections_max: Option<usize>,
    connecting_max: Option<usize>,
    waiters_max: usize,
    acquire_timeout: Duration,
    connect_timeout: Duration,
    check_after: Duration,
    on_miss: OnMiss,
    _key: PhantomData<fn() -> K>,
}

type CoreOf<K, M> = CoreBuilder<K, Slot<<M as Manager<K>>::Connection>>;

/// A connection does not live longer, unless it is set.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

impl<K, M> Builder<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub(crate) fn new(manager: M) -> Self {
        Self {
            manager,
            settings: Box::new(|core| core),
            connections_max: None,
            connecting_max: None,
            waiters_max: 1_024,
            acquire_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            check_after: Duration::from_secs(10),
            on_miss: OnMiss::default(),
            _key: PhantomData,
        }
    }

    /// Settings of the pool below: capacity, timeouts, hooks, all of
    /// [`slabpool::Builder`](crate::Builder). The last call holds. Its defaults are those of
    /// that builder, but for a lifetime of 30 minutes, and a probe that asks the
    /// [`Manager`].
    ///
    /// The [capacity](crate::Builder::capacity) is over all groups, and counts what is idle,
    /// leased and being opened. Where it is used up, a connect closes the idle connection
    /// released longest ago, whosever it is, also one of `min_idle_per_group`. If none is
    /// idle its caller waits, and groups take turns for what comes free. A connection that
    /// is released goes to callers of its own group first, at most 16 times in a row past
    /// others that wait for room. With a capacity of 0 an acquire ends at once in
    /// [`Rejected`](crate::managed::AcquireError::Rejected).
    ///
    /// ```
    /// use std::time::Duration;
    /// use slabpool::managed::Pool;
    ///
    /// # async fn dial(_: String) -> std::io::Result<String> { Ok(String::new()) }
    /// let pool = Pool::builder(|peer: &String| dial(peer.clone()))
    ///     .settings(|pool| pool.capacity(1_000).idle_timeout(Duration::from_secs(20)))
    ///     .max_connections_per_group(16)
    ///     .build()?;
    /// # Ok::<(), slabpool::managed::ConfigError>(())
    /// ```
    pub fn settings(
        mut self,
        set: impl FnOnce(CoreBuilder<K, Slot<M::Connection>>) -> CoreBuilder<K, Slot<M::Connection>>
        + 'static,
    ) -> Self {
        self.settings = Box::new(set);
        self
    }

    /// The most connections of a group: idle, leased and being opened together. Never
    /// exceeded, under any race. A connection counts until it is closed, or detached. At
    /// least 1. Default: 8,388,608, the most that a pool can hold.
    pub fn max_connections_per_group(mut self, connections: usize) -> Self {
        self.connections_max = Some(connections);
        self
    }

    /// The most connections of a group that are being opened at a time; with 1, the first
    /// one to a peer decides for all who wait. From 1 to 65,535. Default: 65,535.
    pub fn max_connecting_per_group(mut self, connecting: usize) -> Self {
        self.connecting_max = Some(connecting);
        self
    }

    /// The most callers that wait for a group with no connect under way for them; one more
    /// is turned away at once. At most 4,194,304. Default: 1,024.
    pub fn max_waiters_per_group(mut self, waiters: usize) -> Self {
        self.waiters_max = waiters;
        self
    }

    /// How long [`acquire`](Pool::acquire) may take in all: waiting, connecting and
    /// checking. Above zero. Default: 5 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long one connect may take. Above zero, at most
    /// [`acquire_timeout`](Builder::acquire_timeout). Default: 3 s.
    ///
    /// None is started for a caller who has less than this left of its time. Where it had
    /// no more than this from the moment when it first wanted one, it may have one started
    /// within half of that.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// A connection that was idle for so long or longer must pass [`Manager::check`] before
    /// it is leased. Default: 10 s.
    pub fn check_after(mut self, idle_for: Duration) -> Self {
        self.check_after = idle_for;
        self
    }

    /// What a caller does who finds no idle connection. Default: [`OnMiss::Race`].
    pub fn on_miss(mut self, on_miss: OnMiss) -> Self {
        self.on_miss = on_miss;
        self
    }

    /// Builds the pool. Starts no thread and no task, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn build(self) -> Result<Pool<K, M>, ConfigError> {
        let bounds = Bounds {
            connections: bound(
                "max_connections_per_group",
                self.connections_max.unwrap_or(CONNECTIONS_MAX as usize),
                (1, CONNECTIONS_MAX),
            )?,
            connecting: bound(
                "max_connecting_per_group",
                self.connecting_max.unwrap_or(CONNECTING_MAX as usize),
                (1, CONNECTING_MAX),
            )?,
            waiters: bound("max_waiters_per_group", self.waiters_max, (0, WAITERS_MAX))?,
        };
        let times =
            [("acquire_timeout", self.acquire_timeout), ("connect_timeout", self.connect_timeout)];
        if let Some((setting, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
            return Err(ConfigError::Zero { setting });
        }
        if self.connect_timeout > self.acquire_timeout {
            return Err(ConfigError::ConnectTimeoutAboveAcquireTimeout {
                connect_timeout: self.connect_timeout,
                acquire_timeout: self.acquire_timeout,
            });
        }
        let manager = Arc::new(self.manager);
        let registry = Registry::new(bounds);
        let asked = Arc::clone(&manager);
        let core = CorePool::builder()
            .max_lifetime(LIFETIME)
            .probe(move |slot: &mut Slot<M::Connection>| asked.probe(slot));
        let core = (self.settings)(core).landing(Arc::clone(&registry) as _).build()?;
        let feeder = Arc::new(Feeder::new(Arc::clone(&registry), &core));
        core.engine().capacity.bequeath(feeder);
        Ok(Pool::from_inner(Inner {
            core,
            registry,
            manager,
            acquire_timeout: self.acquire_timeout,
            connect_timeout: self.connect_timeout,
            check_after: u64::try_from(self.check_after.as_nanos()).unwrap_or(u64::MAX),
            on_miss: self.on_miss,
        }))
    }
}

fn bound(setting: &'static str, value: usize, (min, max): (u32, u32)) -> Result<u32, ConfigError> {
    let out_of_range =
        ConfigError::OutOfRange { setting, value, min: min as usize, max: max as usize };
    let fitting = u32::try_from(value).ok().filter(|value| (min..=max).contains(value));
    fitting.ok_or(out_of_range)
}

impl<K, M: Manager<K>> fmt::Debug for Builder<K, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("max_connections_per_group", &self.connections_max)
            .field("max_connecting_per_group", &self.connecting_max)
            .field("max_waiters_per_group", &self.waiters_max)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("check_after", &self.check_after)
            .field("on_miss", &self.on_miss)
            .finish_non_exhaustive()
    }
}
