//! Builds a managed pool.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::builder::Builder as CoreBuilder;
use crate::managed::error::ConfigError;
use crate::managed::fairness::Fairness;
use crate::managed::group_limits::{GroupLimits, LimitsOf, shown};
use crate::managed::keeper::Keeper;
use crate::managed::manager::Manager;
use crate::managed::pool::{Inner, Pool};
use crate::managed::registry::Registry;
use crate::managed::room::Feeder;
use crate::managed::settings::{Terms, bound, bounds_of, policy_of};
use crate::managed::slot::Slot;
use crate::managed::word::{CONNECTING_MAX, CONNECTIONS_MAX};
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
    fairness: Fairness,
    single_flight: bool,
    limits_of: Option<LimitsOf<K>>,
    grow_by: usize,
    keep_warm: Duration,
    backoff: (Duration, Duration),
    down_after: u32,
    _key: PhantomData<fn() -> K>,
}

type CoreOf<K, M> = CoreBuilder<K, Slot<<M as Manager<K>>::Connection>>;

/// A connection does not live longer, unless it is set.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
const KEEP_WARM: Duration = Duration::from_secs(10 * 60);

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
            fairness: Fairness::default(),
            single_flight: false,
            limits_of: None,
            grow_by: 1,
            keep_warm: KEEP_WARM,
            backoff: (Duration::from_millis(100), Duration::from_secs(30)),
            down_after: 0,
            _key: PhantomData,
        }
    }

    /// Settings of the pool below: capacity, timeouts, hooks, all of
    /// [`slabpool::Builder`](crate::Builder). A later call adds to an earlier one. Its
    /// defaults are those of that builder, but for a lifetime of 30 minutes, and a probe that asks the
    /// [`Manager`], if it [probes](Manager::PROBES).
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
        let before = self.settings;
        self.settings = Box::new(|core| set(before(core)));
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

    /// Who gets a connection that is returned while others wait. Default:
    /// [`Fairness::Fair`].
    pub fn fairness(mut self, fairness: Fairness) -> Self {
        self.fairness = fairness;
        self
    }

    /// While a peer has no open connection, has one opened at a time and no more, whatever
    /// [`max_connecting_per_group`](Builder::max_connecting_per_group) says. All who come
    /// meanwhile wait for what comes of it: an error is told to all, and as soon as one
    /// connection is open, others are opened for those who still wait. Default: `false`.
    ///
    /// A caller with [`OnMiss::Connect`] that comes while one is being opened waits its turn
    /// as in [`OnMiss::Race`]. What is being opened when the last open one is closed is not
    /// cancelled.
    pub fn single_flight(mut self, single: bool) -> Self {
        self.single_flight = single;
        self
    }

    /// Asked for the limits of each peer that differ from those of the pool. Called when the
    /// pool first has something to do with a peer, and again when it had nothing to do with
    /// it in between: no connection, no connect, and nobody who asked. Now and then its answer
    /// is not needed and thrown away. What is idle, and for how long, is a matter of
    /// [`group_settings`](crate::Builder::group_settings) of the [pool below](Builder::settings).
    ///
    /// If what it says [cannot work](GroupLimits::validate), whoever asks for the peer gets
    /// [`AcquireError::GroupLimits`](crate::managed::AcquireError::GroupLimits). Default: none
    /// differs. Costs a lookup for each miss.
    ///
    /// ```
    /// use slabpool::managed::{GroupLimits, Pool};
    ///
    /// # async fn dial(_: String) -> std::io::Result<String> { Ok(String::new()) }
    /// let pool = Pool::builder(|peer: &String| dial(peer.clone()))
    ///     .max_connections_per_group(64)
    ///     .group_limits(|peer| match peer.as_str() {
    ///         "10.0.0.7:6379" => GroupLimits::new().max_connections(4).max_connecting(1),
    ///         _ => GroupLimits::new(),
    ///     })
    ///     .build()?;
    /// # Ok::<(), slabpool::managed::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// A panic of the closure goes through the call that asks for the peer.
    pub fn group_limits(
        mut self,
        limits_of: impl Fn(&K) -> GroupLimits + Send + Sync + 'static,
    ) -> Self {
        self.limits_of = Some(Box::new(limits_of));
        self
    }

    /// How many connections a miss opens, if it opens one: the others are for those who come
    /// next, and idle if nobody does. They are opened within all limits, and only where the
    /// capacity has room for them as it is: nothing is evicted. Callers that wait at the same
    /// time count: where they have as many connects under way, there are no others. From 1
    /// to 65,535. Default: 1.
    pub fn grow_by(mut self, connections: usize) -> Self {
        self.grow_by = connections;
        self
    }

    /// How long a peer is kept at its minimum of connections after it was used last; with
    /// zero, none is. Default: 10 minutes.
    ///
    /// The minimum is
    /// [`min_idle_per_group`](crate::Builder::min_idle_per_group) of the
    /// [pool below](Builder::settings), or of the settings that a group has of its own. From
    /// when somebody first asks for a peer, [maintenance](Pool::reaper) opens connections
    /// until it has so many: idle, leased and being opened together. It replaces those that
    /// are closed, for whatever reason, before anybody asks. It does so within all limits;
    /// only where the capacity has room as it is; no sooner after the last time than the
    /// first delay of [`backoff`](Builder::backoff); and one at a time after the delay when
    /// connects fail.
    ///
    /// A peer that nobody uses for this time is let go: what is idle is no longer replaced.
    /// [`drain_group`](Pool::drain_group) lets it go at once,
    /// [`clear_group`](Pool::clear_group) has its connections replaced. Whether it is in use
    /// is looked at four times in this time.
    pub fn keep_warm(mut self, time: Duration) -> Self {
        self.keep_warm = time;
        self
    }

    /// How long the pool waits, after a connect has failed, until it connects to this peer
    /// again by itself: `min` at first, twice as long each time that fails again, up to
    /// `max`; each time shorter by up to a half, by chance, so that pools do not try
    /// together. Connects that were under way at the same time count once. A connect that
    /// succeeds begins it anew. Connects that callers wait for are not delayed, unless the
    /// peer is [down](Builder::down_after). `min` is above zero. Default: 100 ms, 30 s.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// After so many connects to a peer have failed in a row, it is down: what is idle is
    /// closed, what is leased when its lease ends, and callers get
    /// [`GroupDown`](crate::managed::AcquireError::GroupDown) at once, also those who wait.
    /// Connects that took too long count, and those that were aborted. Default: 0, which is
    /// never.
    ///
    /// After a delay as [`backoff`](Builder::backoff) has it, the next caller, or maintenance
    /// if the peer has a [minimum](Builder::keep_warm), tries again, with one connect;
    /// others that come meanwhile wait for what comes of it. If it succeeds, the peer is up,
    /// and they are served. If it fails, the peer is down for twice as long. So it is also
    /// with connects that are late: any one that succeeds brings it up.
    /// [`resume_group`](Pool::resume_group) does so by hand.
    ///
    /// What is known of the peer is forgotten when nobody has tried it for the longest delay.
    pub fn down_after(mut self, failures: u32) -> Self {
        self.down_after = failures;
        self
    }

    /// Builds the pool. Starts no thread and no task, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn build(self) -> Result<Pool<K, M>, ConfigError> {
        let bounds = bounds_of(
            self.connections_max.unwrap_or(CONNECTIONS_MAX as usize),
            self.connecting_max.unwrap_or(CONNECTING_MAX as usize),
            self.waiters_max,
            self.single_flight,
        )?;
        let terms =
            Terms { acquire_timeout: self.acquire_timeout, connect_timeout: self.connect_timeout };
        terms.validate()?;
        let grow_by = bound("grow_by", self.grow_by, (1, CONNECTING_MAX))?;
        let policy = policy_of(self.backoff, self.down_after)?;
        let manager = Arc::new(self.manager);
        let registry = Registry::new(bounds, self.limits_of, self.fairness, policy);
        let keeper = Keeper::new(&registry, grow_by, self.keep_warm);
        let mut core = CorePool::builder().max_lifetime(LIFETIME);
        if M::PROBES {
            let asked = Arc::clone(&manager);
            core = core.probe(move |slot: &mut Slot<M::Connection>| asked.probe(slot));
        }
        let core = (self.settings)(core).landing(Arc::clone(&keeper) as _).build()?;
        let feeder = Arc::new(Feeder::new(Arc::clone(&registry), &core));
        core.engine().capacity.bequeath(feeder);
        Ok(Pool::from_inner(Inner {
            core,
            registry,
            keeper,
            manager,
            terms: ArcSwap::from_pointee(terms),
            check_after: u64::try_from(self.check_after.as_nanos()).unwrap_or(u64::MAX),
            on_miss: self.on_miss,
        }))
    }
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
            .field("fairness", &self.fairness)
            .field("single_flight", &self.single_flight)
            .field("group_limits", &shown(&self.limits_of))
            .field("grow_by", &self.grow_by)
            .field("keep_warm", &self.keep_warm)
            .field("backoff", &self.backoff)
            .field("down_after", &self.down_after)
            .finish_non_exhaustive()
    }
}
