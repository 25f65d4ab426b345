//! What a pool was built with and keeps for its life.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::connection::{CloseMode, Liveness};
use crate::core::width::Plan;
use crate::error::CloseReason;
use crate::pool::Pool;
use crate::settings::GroupSettings;
use crate::time::{Clock, NEVER};

pub(crate) type OnClose<K, C> = Box<dyn Fn(&K, C, CloseReason) + Send + Sync>;
#[cfg(feature = "tracing")]
pub(crate) type GroupName<K> = Box<dyn Fn(&K) -> String + Send + Sync>;
pub(crate) type SettingsOf<K> = Box<dyn Fn(&K) -> GroupSettings + Send + Sync>;
pub(crate) type Ask<C> = Box<dyn Fn(&mut C) -> Liveness + Send + Sync>;

/// How the pool finds out what has become of a connection.
pub(crate) enum Probe<C> {
    /// Not at all.
    None,
    /// By asking.
    Ask(Ask<C>),
    /// By asking, and by being told.
    Watch { ask: fn(&mut C) -> Liveness, poll: fn(&mut C, &mut Context<'_>) -> Poll<Liveness> },
}

/// Who must know when connections become idle without a release: after they were looked at
/// in the background, or by `retain`.
pub(crate) trait Landing<K, C>: Send + Sync {
    /// What to remember of a connection that is about to be idle.
    fn mark(&self, connection: &C) -> u32;

    /// A connection has become idle, of which this was remembered.
    fn landed(&self, pool: &Pool<K, C>, mark: u32);

    /// A step of maintenance comes to its end. Called without locks.
    fn tend(&self) {}

    /// How long until there is something to tend, if that is known.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "the reaper needs it"))]
    fn due(&self) -> Option<Duration> {
        None
    }
}

/// What cannot be changed while the pool is in use.
pub(crate) struct Config<K, C> {
    pub plan: Plan,
    pub release_on_drop: bool,
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "the reaper needs it"))]
    pub spawn_reaper: bool,
    pub probe: Probe<C>,
    /// Prepares the end of a connection, in the mode of the settings.
    pub prepare_close: Option<fn(&mut C, CloseMode)>,
    pub on_close: Option<OnClose<K, C>>,
    pub settings_of: Option<SettingsOf<K>>,
    pub landing: Option<Arc<dyn Landing<K, C>>>,
    #[cfg(feature = "tracing")]
    pub group_name: Option<GroupName<K>>,
    pub clock: Clock,
    /// How often the reaper looks.
    pub tick: Duration,
    pub seed: u64,
}

impl<K, C> Config<K, C> {
    /// The settings that the user has for a new group, if any.
    pub fn settings_of(&self, key: &K) -> Option<GroupSettings> {
        self.settings_of.as_ref().map(|of| of(key))
    }

    /// Whether connections are watched while they are idle.
    #[inline(always)]
    pub fn watches(&self) -> bool {
        matches!(self.probe, Probe::Watch { .. })
    }

    /// When a connection inserted at `now` must retire: its lifetime, shortened by
    /// a jitter that its number determines.
    pub fn retire_at(&self, now: u64, lifetime: u64, jitter: f64, serial: u64) -> u64 {
        if lifetime == NEVER {
            return NEVER;
        }
        let drawn = mix(serial ^ self.seed) as f64 / u64::MAX as f64;
        let shorter = (lifetime as f64 * jitter * drawn) as u64;
        now.saturating_add(lifetime.saturating_sub(shorter))
    }
}

/// The finaliser of SplitMix64 (G. Steele et al., "Fast Splittable Pseudorandom
/// Number Generators", OOPSLA 2014): neighbours in, unrelated numbers out.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;
    use crate::Builder;

    #[test]
    fn jitter_only_shortens_and_spreads() {
        let pool = Builder::<u8, ()>::default().build().unwrap();
        let config = &pool.engine().config;
        let lifetime = 1_000_000_000;
        let ends: Vec<u64> = (1..1_001).map(|n| config.retire_at(5, lifetime, 0.1, n)).collect();
        assert!(ends.iter().all(|&end| (5 + 900_000_000..=5 + lifetime).contains(&end)));
        let early = ends.iter().filter(|&&end| end < 5 + 950_000_000).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
        assert_eq!(config.retire_at(5, NEVER, 0.1, 1), NEVER);
        assert_eq!(config.retire_at(u64::MAX - 1, lifetime, 0.1, 1), NEVER);
    }
}
