//! The settings in force, in numbers: what the paths of get and release read.

use crate::learned::Learned;
use crate::settings::{GroupSettings, RetirementBudget, Settings};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::time::{NEVER, nanos, nanos_or_never};

/// The limits in force in one group. Read on every get and release, written when the
/// group or the pool is configured.
///
/// All accesses are Relaxed, but for those in [`Limits::refresh`]: each number stands for
/// itself.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Limits {
    /// The one in force: the configured one, or a shorter one that was learned.
    idle_timeout: AtomicU64,
    max_uses: AtomicU64,
    max_idle: AtomicU32,
    min_idle: AtomicU32,
    max_lifetime: AtomicU64,
    configured_idle_timeout: AtomicU64,
    learned: Learned,
    /// Whether what was learned is in force.
    learning: AtomicBool,
}

impl Limits {
    /// No cap on idle connections.
    pub const UNCAPPED: u32 = u32::MAX;

    pub fn new(settings: &Settings, own: &GroupSettings) -> Self {
        let limits = Self {
            idle_timeout: AtomicU64::new(0),
            max_uses: AtomicU64::new(0),
            max_idle: AtomicU32::new(0),
            min_idle: AtomicU32::new(0),
            max_lifetime: AtomicU64::new(0),
            configured_idle_timeout: AtomicU64::new(0),
            learned: Learned::new(),
            learning: AtomicBool::new(false),
        };
        limits.set(settings, own);
        limits
    }

    pub fn set(&self, settings: &Settings, own: &GroupSettings) {
        let idle_timeout = own.idle_timeout.unwrap_or(settings.idle_timeout);
        let max_lifetime = own.max_lifetime.unwrap_or(settings.max_lifetime);
        let max_idle = own.max_idle.unwrap_or(settings.max_idle_per_group);
        let min_idle = own.min_idle.unwrap_or(settings.min_idle_per_group).min(max_idle);
        let max_uses = own.max_uses.unwrap_or(settings.max_uses);
        self.configured_idle_timeout.store(nanos_or_never(idle_timeout), Ordering::Relaxed);
        self.learning.store(settings.learn_idle_timeout, Ordering::Relaxed);
        if !settings.learn_idle_timeout {
            self.learned.set(0);
        }
        self.refresh();
        self.max_lifetime.store(nanos_or_never(max_lifetime), Ordering::Relaxed);
        self.max_uses.store(max_uses, Ordering::Relaxed);
        let max_idle = u32::try_from(max_idle).unwrap_or(Self::UNCAPPED);
        self.max_idle.store(max_idle, Ordering::Relaxed);
        self.min_idle.store(u32::try_from(min_idle).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Adds an observation to what is learned: see [`Learned::observe`].
    pub fn learn(&self, now: u64, age: u64, tick: u64) {
        self.learned.observe(now, age, tick, self.configured());
        self.refresh();
    }

    /// Lets what was learned be forgotten, as far as that is due. True if that is
    /// anything.
    pub fn forget(&self, now: u64) -> bool {
        let forgotten = self.learned.relax(now, self.configured());
        if forgotten {
            self.refresh();
        }
        forgotten
    }

    /// Takes what another one had learned, in a group that nobody uses yet.
    pub fn remind(&self, learned: u64, now: u64) {
        self.learned.set(learned);
        self.learned.relax(now, self.configured());
        self.refresh();
    }

    /// What was learned, for [`Limits::remind`].
    pub fn learned(&self) -> u64 {
        self.learned.get()
    }

    pub fn is_learning(&self) -> bool {
        self.learning.load(Ordering::Relaxed)
    }

    pub fn has_learned(&self) -> bool {
        self.learned.timeout() != NEVER
    }

    fn configured(&self) -> u64 {
        self.configured_idle_timeout.load(Ordering::Relaxed)
    }

    /// What follows from what is configured and what was learned.
    fn effective(&self) -> u64 {
        let learned = if self.is_learning() { self.learned.timeout() } else { NEVER };
        self.configured().min(learned)
    }

    /// Puts into force what follows, after either was changed.
    ///
    /// Several may do so at once, and each may have read before the other's change. But
    /// whoever exchanges last sees what all had changed who exchanged before, and is not
    /// done before that is in force.
    fn refresh(&self) {
        let mut effective = self.effective();
        loop {
            // AcqRel: pairs with itself. Release for what the caller has changed, Acquire
            // for what the next line reads.
            self.idle_timeout.swap(effective, Ordering::AcqRel);
            let again = self.effective();
            if again == effective {
                return;
            }
            effective = again;
        }
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

    pub fn min_idle(&self) -> u32 {
        self.min_idle.load(Ordering::Relaxed)
    }
}

/// Numbers that hold for the whole pool.
///
/// All accesses are Relaxed: each number stands for itself.
#[derive(Debug)]
pub(crate) struct Tuning {
    /// A fraction's bits.
    jitter: AtomicU64,
    probe_after: AtomicU64,
    probe_interval: AtomicU64,
    trim_window: AtomicU64,
    retire_per_second: AtomicU32,
    /// A fraction's bits.
    retire_share: AtomicU64,
    /// Whether some group ever had exempt connections.
    spares: AtomicBool,
}

impl Tuning {
    pub fn new(settings: &Settings) -> Self {
        let tuning = Self {
            jitter: AtomicU64::new(0),
            probe_after: AtomicU64::new(0),
            probe_interval: AtomicU64::new(0),
            trim_window: AtomicU64::new(0),
            retire_per_second: AtomicU32::new(0),
            retire_share: AtomicU64::new(0),
            spares: AtomicBool::new(false),
        };
        tuning.set(settings);
        tuning
    }

    pub fn set(&self, settings: &Settings) {
        self.jitter.store(settings.lifetime_jitter.to_bits(), Ordering::Relaxed);
        self.probe_after.store(nanos(settings.probe_after), Ordering::Relaxed);
        self.probe_interval.store(nanos_or_never(settings.probe_interval), Ordering::Relaxed);
        self.trim_window.store(nanos_or_never(settings.trim_window), Ordering::Relaxed);
        let RetirementBudget { per_second, group_share } = settings.retirement;
        self.retire_per_second.store(per_second, Ordering::Relaxed);
        self.retire_share.store(group_share.to_bits(), Ordering::Relaxed);
        self.note_min_idle(settings.min_idle_per_group);
    }

    /// To be told whenever a group or the pool gets a number of exempt connections, so
    /// that maintenance of a pool without any need not ask.
    pub fn note_min_idle(&self, min_idle: usize) {
        if min_idle > 0 {
            self.spares.store(true, Ordering::Relaxed);
        }
    }

    /// Whether some group may have exempt connections.
    pub fn spares(&self) -> bool {
        self.spares.load(Ordering::Relaxed)
    }

    /// Nanoseconds; `u64::MAX` is never.
    pub fn trim_window(&self) -> u64 {
        self.trim_window.load(Ordering::Relaxed)
    }

    /// The retirement budget: closes in a second, and the part of a group in a tick.
    pub fn retirement(&self) -> (u32, f64) {
        let per_second = self.retire_per_second.load(Ordering::Relaxed);
        (per_second, f64::from_bits(self.retire_share.load(Ordering::Relaxed)))
    }

    pub fn jitter(&self) -> f64 {
        f64::from_bits(self.jitter.load(Ordering::Relaxed))
    }

    /// Nanoseconds.
    #[inline(always)]
    pub fn probe_after(&self) -> u64 {
        self.probe_after.load(Ordering::Relaxed)
    }

    /// Nanoseconds; `u64::MAX` is never.
    pub fn probe_interval(&self) -> u64 {
        self.probe_interval.load(Ordering::Relaxed)
    }
}
