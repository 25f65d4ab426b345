//! The settings of a pool, their defaults, and all validation.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::core::stock::Loan;
use crate::engine::Engine;
use crate::error::{CloseReason, ConfigError};
use crate::group::{Member, Members, Roll};
use crate::pool::Pool;
use crate::reaper::tick_for;
use crate::settings::{Defaults, GroupSettings, Limits};
use crate::store::CONNECTIONS_MAX;
use crate::time::{Clock, NEVER};

/// The most lanes of a group.
const LANES_MAX: usize = 256;

/// The part of the file-descriptor limit that a pool takes by default, 20 %, and
/// the most that this comes to.
const DESCRIPTORS_PART: u64 = 5;
const CAPACITY_DEFAULT_MAX: usize = 65_536;

/// The default idle timeout: well under the 60 to 75 s after which most servers
/// and load balancers hang up.
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const JITTER_DEFAULT: f64 = 0.1;

type OnClose<K, C> = Box<dyn Fn(&K, C, CloseReason) + Send + Sync>;
type SettingsOf<K> = Box<dyn Fn(&K) -> GroupSettings + Send + Sync>;

/// Builds a [`Pool`]. Setters cannot fail; [`Builder::build`] checks everything.
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<K, C> {
    capacity: Option<usize>,
    defaults: Defaults,
    lifetime_jitter: f64,
    lanes: usize,
    release_on_drop: bool,
    spawn_reaper: bool,
    on_close: Option<OnClose<K, C>>,
    settings_of: Option<SettingsOf<K>>,
    clock: Clock,
}

impl<K, C> Default for Builder<K, C> {
    fn default() -> Self {
        Self {
            capacity: None,
            defaults: Defaults {
                idle_timeout: Some(IDLE_TIMEOUT_DEFAULT),
                max_lifetime: None,
                max_idle: usize::MAX,
                max_uses: u64::MAX,
            },
            lifetime_jitter: JITTER_DEFAULT,
            lanes: 1,
            release_on_drop: false,
            spawn_reaper: true,
            on_close: None,
            settings_of: None,
            clock: Clock::coarse(),
        }
    }
}

impl<K, C> Builder<K, C> {
    /// The most connections in the pool, idle and leased together. Strict: it is
    /// never exceeded, not by one, under any race. 0 pools nothing.
    ///
    /// When it is reached, an insertion closes the idle connection that was
    /// released longest ago. Default: a fifth of the file-descriptor limit, at most
    /// 65,536. At most 8,388,608.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// The most idle connections in a group; a release beyond it closes the
    /// connection. Expired ones count until the reaper has closed them. A group with
    /// a cap uses one lane only. Default: no limit.
    pub fn max_idle_per_group(mut self, max_idle: usize) -> Self {
        self.defaults.max_idle = max_idle;
        self
    }

    /// How long a connection may stay idle. Zero means that none is ever reused,
    /// `None` that idle connections stay for ever. Default: 30 s.
    ///
    /// Exact in `get`. The reaper closes an expired connection at most one tick
    /// late, a 32nd of this timeout, but no less than 100 ms and no more than 1 s.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.defaults.idle_timeout = timeout.into();
        self
    }

    /// How long after its insertion a connection may still be leased; one that is
    /// in use then is closed on release. Default: for ever.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.defaults.max_lifetime = lifetime.into();
        self
    }

    /// The part of its lifetime by which a connection's may be shorter, drawn once
    /// when it is inserted, so that connections opened together do not end
    /// together. From 0 to 1. Default: 0.1.
    pub fn lifetime_jitter(mut self, fraction: f64) -> Self {
        self.lifetime_jitter = fraction;
        self
    }

    /// How often a connection may be leased. At least 1. Default: no limit.
    pub fn max_uses(mut self, max_uses: u64) -> Self {
        self.defaults.max_uses = max_uses;
        self
    }

    /// How many stacks a group has. More than one lets several threads use one
    /// group at once with less contention; each has its own order then, LIFO for
    /// each thread. Costs a cache line for each and each group. From 1 to 256.
    /// Default: 1.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes;
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
    /// connection of the group is leased out of the pool.
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

    /// Builds the pool. Starts no thread and no task, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn build(self) -> Result<Pool<K, C>, ConfigError> {
        let capacity = self.capacity.unwrap_or_else(capacity_default);
        if capacity > CONNECTIONS_MAX {
            return Err(ConfigError::CapacityTooLarge { capacity, capacity_max: CONNECTIONS_MAX });
        }
        let jitter = self.lifetime_jitter;
        if !(0.0..=1.0).contains(&jitter) {
            return Err(ConfigError::JitterOutOfRange { jitter, jitter_min: 0.0, jitter_max: 1.0 });
        }
        if self.defaults.max_uses == 0 {
            return Err(ConfigError::MaxUsesZero);
        }
        let lanes = self.lanes;
        if !(1..=LANES_MAX).contains(&lanes) {
            return Err(ConfigError::LanesOutOfRange { lanes, lanes_min: 1, lanes_max: LANES_MAX });
        }
        let config = Config {
            capacity,
            tick: tick_for(self.defaults.idle_timeout),
            defaults: self.defaults,
            jitter,
            lanes,
            release_on_drop: self.release_on_drop,
            spawn_reaper: self.spawn_reaper,
            on_close: self.on_close,
            settings_of: self.settings_of,
            clock: self.clock,
            seed: ahash::RandomState::new().hash_one(()),
        };
        // Insertions of different pools have different numbers: 2^47 in each of
        // 2^16 pools. Never 0.
        static POOLS: AtomicU64 = AtomicU64::new(0);
        let first_serial = (POOLS.fetch_add(1, Ordering::Relaxed) << 48) + 1;
        Ok(Pool::from_engine(Engine::new(config, first_serial)))
    }
}

impl<K, C> fmt::Debug for Builder<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("defaults", &self.defaults)
            .field("lifetime_jitter", &self.lifetime_jitter)
            .field("lanes", &self.lanes)
            .field("release_on_drop", &self.release_on_drop)
            .field("spawn_reaper", &self.spawn_reaper)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// What a pool was built with.
pub(crate) struct Config<K, C> {
    pub capacity: usize,
    pub defaults: Defaults,
    jitter: f64,
    pub lanes: usize,
    pub release_on_drop: bool,
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "the reaper needs it"))]
    pub spawn_reaper: bool,
    pub on_close: Option<OnClose<K, C>>,
    settings_of: Option<SettingsOf<K>>,
    pub clock: Clock,
    /// How often the reaper looks.
    pub tick: Duration,
    seed: u64,
}

impl<K, C> Config<K, C> {
    /// A group that `member` has entered.
    pub fn new_group(&self, key: K, hash: u64, member: Member, lanes: Loan) -> Members<K> {
        let own = self.settings_of.as_ref().map(|of| of(&key)).unwrap_or_default();
        let limits = Limits::new(&self.defaults, &own);
        Members::new(key, hash, lanes, limits, Roll::with(member))
    }

    /// When a connection inserted at `now` must retire: its lifetime, shortened by
    /// a jitter that its number determines.
    pub fn retirement(&self, now: u64, lifetime: u64, serial: u64) -> u64 {
        if lifetime == NEVER {
            return NEVER;
        }
        let drawn = mix(serial ^ self.seed) as f64 / u64::MAX as f64;
        let shorter = (lifetime as f64 * self.jitter * drawn) as u64;
        now.saturating_add(lifetime.saturating_sub(shorter))
    }
}

/// The finaliser of SplitMix64 (G. Steele et al., "Fast Splittable Pseudorandom
/// Number Generators", OOPSLA 2014): neighbours in, unrelated numbers out.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_named() {
        let build = |set: fn(Builder<u8, ()>) -> Builder<u8, ()>| set(Builder::default()).build();
        assert_eq!(
            build(|b| b.capacity(CONNECTIONS_MAX + 1)).unwrap_err(),
            ConfigError::CapacityTooLarge {
                capacity: CONNECTIONS_MAX + 1,
                capacity_max: CONNECTIONS_MAX
            }
        );
        for jitter in [-0.1, 1.1, f64::INFINITY] {
            let error = Builder::<u8, ()>::default().lifetime_jitter(jitter).build().unwrap_err();
            assert!(matches!(error, ConfigError::JitterOutOfRange { .. }), "{error}");
        }
        assert!(build(|b| b.lifetime_jitter(f64::NAN)).is_err());
        assert_eq!(build(|b| b.max_uses(0)).unwrap_err(), ConfigError::MaxUsesZero);
        assert!(build(|b| b.lanes(0)).is_err());
        assert!(build(|b| b.lanes(LANES_MAX + 1)).is_err());
        assert!(build(|b| b.lanes(LANES_MAX).capacity(0).idle_timeout(Duration::MAX)).is_ok());
    }

    #[test]
    fn jitter_only_shortens_and_spreads() {
        let pool = Builder::<u8, ()>::default().lifetime_jitter(0.1).build().unwrap();
        let config = &pool.engine().config;
        let lifetime = 1_000_000_000;
        let ends: Vec<u64> = (1..1_001).map(|n| config.retirement(5, lifetime, n)).collect();
        assert!(ends.iter().all(|&end| (5 + 900_000_000..=5 + lifetime).contains(&end)));
        let early = ends.iter().filter(|&&end| end < 5 + 950_000_000).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
        assert_eq!(config.retirement(5, NEVER, 1), NEVER);
        assert_eq!(config.retirement(u64::MAX - 1, lifetime, 1), NEVER);
    }
}
