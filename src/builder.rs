//! Builds a pool: the settings and their defaults.

#[cfg(all(test, not(slabpool_loom)))]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::Duration;

use crate::config::{Config, Landing, OnClose, Probe, SettingsOf};
use crate::connection::{CloseMode, Connection, Liveness};
use crate::core::width::Plan;
use crate::engine::Engine;
use crate::error::{CloseReason, ConfigError};
use crate::pool::Pool;
use crate::reaper::tick_for;
use crate::settings::{GroupSettings, RetirementBudget, Settings};
use crate::time::Clock;

/// The most lanes of a group.
const LANES_MAX: usize = 256;
/// The most that it takes by itself.
const ADAPTIVE_LANES_MAX: usize = 64;

/// As many lanes as there are cores, or a few more: a power of two. Asked once.
fn lanes_for_cores() -> usize {
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| {
        let cores = available_parallelism().map_or(1, usize::from);
        // In models two, wherever they run.
        if cfg!(slabpool_loom) { 2 } else { cores.next_power_of_two().min(ADAPTIVE_LANES_MAX) }
    })
}

/// Builds a [`Pool`]. Setters cannot fail; [`Builder::build`] checks everything.
///
/// What is among the [`Settings`] can be changed while the pool is in use, by
/// [`Pool::reconfigure`]; from when on a change holds is said there. Limits of the idle
/// timeout, the lifetime, the uses and the idle connections of a group can differ from group
/// to group: see [`GroupSettings`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<K, C> {
    settings: Settings,
    lanes: Option<usize>,
    release_on_drop: bool,
    spawn_reaper: bool,
    probe: Probe<C>,
    prepare_close: Option<fn(&mut C, CloseMode)>,
    on_close: Option<OnClose<K, C>>,
    settings_of: Option<SettingsOf<K>>,
    landing: Option<Arc<dyn Landing<K, C>>>,
    #[cfg(feature = "tracing")]
    group_name: Option<crate::config::GroupName<K>>,
    clock: Clock,
}

impl<K, C> Default for Builder<K, C> {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            lanes: None,
            release_on_drop: false,
            spawn_reaper: true,
            probe: Probe::None,
            prepare_close: None,
            on_close: None,
            settings_of: None,
            landing: None,
            #[cfg(feature = "tracing")]
            group_name: None,
            clock: Clock::coarse(),
        }
    }
}

impl<K, C> Builder<K, C> {
    /// The most connections in the pool, idle and leased together. Strict: it is
    /// never exceeded, not by one, under any race. 0 pools nothing.
    ///
    /// When it is reached, an insertion closes the idle connection that was
    /// released longest ago. At most 8,388,608. Default: a fifth of the file-descriptor
    /// limit, at most 65,536.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.settings.capacity = capacity;
        self
    }

    /// The most idle connections in a group; a release beyond it closes the
    /// connection. Expired ones count until the reaper has closed them. A group with
    /// a cap uses one lane only. Default: no limit.
    pub fn max_idle_per_group(mut self, max_idle: usize) -> Self {
        self.settings.max_idle_per_group = max_idle;
        self
    }

    /// So many idle connections of each group are exempt from the idle timeout, those
    /// released last; not from their lifetime, nor from a timeout of their own, nor where
    /// the idle timeout is zero. Default: 0.
    ///
    /// They still may be evicted to make room. One that is no longer among the youngest is
    /// refused by `get`, and closed in the background after at most an eighth of the idle
    /// timeout.
    pub fn min_idle_per_group(mut self, min_idle: usize) -> Self {
        self.settings.min_idle_per_group = min_idle;
        self
    }

    /// How long a connection may stay idle; what it [is told](crate::KeepAlive) or
    /// [learned](Builder::learn_idle_timeout) may shorten that. Zero means that none is ever reused,
    /// `None` that idle connections stay for ever. Default: 30 s.
    ///
    /// Exact in `get`. The reaper closes an expired connection at most one tick
    /// late, a 32nd of this timeout, but no less than 100 ms and no more than 1 s. The tick
    /// stays what it is when the timeout is changed later.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_timeout = timeout.into();
        self
    }

    /// How long after its insertion a connection may still be leased; one that is
    /// in use then is closed on release. Default: for ever.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.settings.max_lifetime = lifetime.into();
        self
    }

    /// The part of its lifetime by which a connection's may be shorter, drawn once
    /// when it is inserted, so that connections opened together do not end
    /// together. From 0 to 1. Default: 0.1.
    pub fn lifetime_jitter(mut self, fraction: f64) -> Self {
        self.settings.lifetime_jitter = fraction;
        self
    }

    /// How often a connection may be leased. At least 1. Default: no limit.
    pub fn max_uses(mut self, max_uses: u64) -> Self {
        self.settings.max_uses = max_uses;
        self
    }

    /// How many stacks a group has, always. With several, threads that use one group at
    /// once contend less; each lane has its own order then, LIFO for each thread. Each but
    /// the first is a cache line of memory for each group, and a get that finds nothing has
    /// looked into all of them. From 1 to 256.
    ///
    /// Default: as many as it takes. A group begins with one. If threads contend for it, the
    /// next step of maintenance, or the next insertion into it, doubles their number, up to
    /// one for each core and at most 64. When half of them would do for some ticks, half are
    /// used; their memory stays with the pool.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// What dropping a lease means: `false` closes the connection, `true` releases
    /// it. Default: `false`.
    ///
    /// A lease is also dropped when its exchange is cancelled or fails, and then
    /// the connection has unread bytes in it, which the next user would take for
    /// its own answer. Say `true` only if that cannot be.
    pub fn release_on_drop(mut self, release: bool) -> Self {
        self.release_on_drop = release;
        self
    }

    /// Whether the first insertion that happens inside a tokio runtime spawns
    /// `Pool::reaper` there, and again when that runtime has gone. Without effect
    /// without the feature `tokio`. In a runtime without time the reaper panics, once,
    /// and the pool goes on without. Default: `true`.
    pub fn spawn_reaper(mut self, spawn: bool) -> Self {
        self.spawn_reaper = spawn;
        self
    }

    /// Asks for each connection that is about to be leased how it is. One that is not
    /// [`Alive`](Liveness::Alive) is closed, and the next one asked.
    ///
    /// Connections that are idle are asked every [`probe_interval`](Builder::probe_interval)
    /// besides. Where the connection's type can tell by itself when something happens,
    /// use [`watch`](Builder::watch). The last one of both holds. Default: no probe.
    ///
    /// # Panics
    ///
    /// A panic of the probe is caught, counted in [`Stats::panics`](crate::Stats::panics),
    /// and the connection closed.
    pub fn probe(mut self, probe: impl Fn(&mut C) -> Liveness + Send + Sync + 'static) -> Self {
        self.probe = Probe::Ask(Box::new(probe));
        self
    }

    /// Watches connections while they are idle: when the peer closes one, or sends
    /// something, it is closed at once, without a task or an allocation for each. Asks
    /// them on `get` as well, as [`probe`](Builder::probe) does. Default: no watch.
    ///
    /// "At once" takes a reaper, or whoever calls [`Pool::maintain`]. A panic of the
    /// connection's methods counts as one of the probe does.
    pub fn watch(mut self) -> Self
    where
        C: Connection,
    {
        self.probe = Probe::Watch { ask: C::liveness, poll: C::poll_liveness };
        self
    }

    /// Connections that were idle for less than this are leased without being asked.
    /// Default: zero, all are asked.
    pub fn probe_after(mut self, idle_for: Duration) -> Self {
        self.settings.probe_after = idle_for;
        self
    }

    /// How often idle connections are asked that cannot be watched; `None` is never.
    /// Without a probe, none is. Default: 5 s.
    pub fn probe_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.settings.probe_interval = interval.into();
        self
    }

    /// Closes connections that their group did not need: of those that were idle for
    /// the whole of this window, half, rounded up, the oldest first, once in each window.
    /// [`min_idle_per_group`](Self::min_idle_per_group) of them stay. Default: `None`, no
    /// trimming.
    ///
    /// Maintenance reads all seats for it once in a window, 8,192 in each step, and needs
    /// 32 bytes for each connection that was not needed while it does. With more
    /// connections than that, a sweep takes several ticks.
    pub fn trim_window(mut self, window: impl Into<Option<Duration>>) -> Self {
        self.settings.trim_window = window.into();
        self
    }

    /// How fast the reaper closes connections whose lifetime has ended. Groups take turns.
    /// `get` and `release` close what has reached its lifetime whatever the budget, and
    /// the idle timeout holds for those that wait. Default: no limit.
    pub fn retirement(mut self, budget: RetirementBudget) -> Self {
        self.settings.retirement = budget;
        self
    }

    /// Whether groups learn after what time their peer closes idle connections, and stay
    /// a second below it, or at half of it where that is more. Default: `false`.
    ///
    /// They learn from connections that were found closed after they were idle: by
    /// [`close_dead`](crate::Lease::close_dead), and where the pool
    /// [watches](Builder::watch) them. When three of these in a row agree within a tenth,
    /// the smallest counts, and holds for releases from then on, up to 54 minutes. An
    /// observation counts only if the connection became idle after the one before was
    /// made: so a peer that starts anew, and closes connections of all ages at once, is
    /// not mistaken for one with a short timeout.
    ///
    /// What was learned never exceeds the [`idle_timeout`](Builder::idle_timeout) that is
    /// set. It grows back to that by an eighth every 10 minutes, and less often once a
    /// later observation has confirmed it. [`Group::idle_timeout`](crate::Group::idle_timeout)
    /// tells what is in force. What was learned of a peer outlives its group for a while:
    /// of 1,024 such groups something is remembered, more or less.
    pub fn learn_idle_timeout(mut self, learn: bool) -> Self {
        self.settings.learn_idle_timeout = learn;
        self
    }

    /// How the pool closes connections: before one is dropped, or given to
    /// [`on_close`](Builder::on_close), it is told by [`Connection::prepare_close`]. Not
    /// those that leave alive. Default: they are just dropped.
    ///
    /// # Panics
    ///
    /// A panic of `prepare_close` is caught, counted in
    /// [`Stats::panics`](crate::Stats::panics), and the connection closed all the same.
    pub fn close_mode(mut self, mode: CloseMode) -> Self
    where
        C: Connection,
    {
        self.settings.close_mode = mode;
        self.prepare_close = Some(C::prepare_close);
        self
    }

    /// Called with every connection that the pool gives up, and why. The hook owns
    /// the connection, and closes it by dropping it. Without a hook it is dropped.
    ///
    /// Runs on the thread that gives it up, which may be any, while nothing in the
    /// pool is held: it may use the pool. Not called for connections that leave
    /// alive, by [`take`](Pool::take) or [`detach`](crate::Lease::detach).
    ///
    /// # Panics
    ///
    /// A panic of the hook, or of the connection's destructor, is caught and
    /// counted in [`Stats::panics`](crate::Stats::panics).
    pub fn on_close(mut self, hook: impl Fn(&K, C, CloseReason) + Send + Sync + 'static) -> Self {
        self.on_close = Some(Box::new(hook));
        self
    }

    /// Asked for the settings of each new group. Called whenever the first
    /// connection or handle enters a group, so also again after the group was
    /// empty and gone. Now and then its answer is not needed and thrown away.
    ///
    /// There is nobody to tell that a setting cannot work: with a `max_uses` of 0 no
    /// connection of the group is leased out of the pool. Default: none has any.
    ///
    /// # Panics
    ///
    /// A panic of the closure goes through the call that enters the group, and there is no
    /// group then.
    pub fn group_settings(
        mut self,
        settings_of: impl Fn(&K) -> GroupSettings + Send + Sync + 'static,
    ) -> Self {
        self.settings_of = Some(Box::new(settings_of));
        self
    }

    /// What time is read from. Default: [`Clock::coarse`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// What groups are called in events. Default: the hash of their key, 16 hexadecimal
    /// digits.
    #[cfg(feature = "tracing")]
    pub fn group_names(mut self, name: impl Fn(&K) -> String + Send + Sync + 'static) -> Self {
        self.group_name = Some(Box::new(name));
        self
    }

    /// Who must know of connections that become idle without a release.
    #[cfg(feature = "tokio")]
    pub(crate) fn landing(mut self, landing: Arc<dyn Landing<K, C>>) -> Self {
        self.landing = Some(landing);
        self
    }

    /// Builds the pool. Starts no thread and no task, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn build(self) -> Result<Pool<K, C>, ConfigError> {
        self.settings.validate()?;
        let plan = match self.lanes {
            None => Plan::UpTo(lanes_for_cores()),
            Some(lanes) if (1..=LANES_MAX).contains(&lanes) => Plan::Fixed(lanes),
            Some(lanes) => {
                let (lanes_min, lanes_max) = (1, LANES_MAX);
                return Err(ConfigError::LanesOutOfRange { lanes, lanes_min, lanes_max });
            }
        };
        let config = Config {
            plan,
            release_on_drop: self.release_on_drop,
            spawn_reaper: self.spawn_reaper,
            probe: self.probe,
            prepare_close: self.prepare_close,
            on_close: self.on_close,
            settings_of: self.settings_of,
            landing: self.landing,
            #[cfg(feature = "tracing")]
            group_name: self.group_name,
            clock: self.clock,
            tick: tick_for(self.settings.idle_timeout),
            seed: ahash::RandomState::new().hash_one(()),
        };
        // Insertions of different pools have different numbers: 2^47 in each of
        // 2^16 pools. Never 0.
        static POOLS: AtomicU64 = AtomicU64::new(0);
        let first_serial = (POOLS.fetch_add(1, Ordering::Relaxed) << 48) + 1;
        Ok(Pool::from_engine(Engine::new(config, self.settings, first_serial)))
    }
}

impl<K, C> fmt::Debug for Builder<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .field("lanes", &self.lanes)
            .field("release_on_drop", &self.release_on_drop)
            .field("spawn_reaper", &self.spawn_reaper)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
