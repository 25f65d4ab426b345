//! What the pool does by itself, in maintenance: it keeps peers at their minimum of
//! connections, tries those that are down, and forgets them in time.
//!
//! A peer that is looked after has a [`Ward`] on the agenda, which keeps its desk and its
//! group: one with a minimum from when somebody asks for it until nobody has for
//! [`keep_warm`](crate::managed::Builder::keep_warm); one to which connects fail, in a pool
//! that minds that, until one succeeds, or nobody has tried for the longest delay.
//!
//! Nothing here evicts: what maintenance opens without anybody waiting for it must fit into
//! the capacity as it is. Otherwise two peers would take each other's connections for ever.

use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::config::Landing;
use crate::engine::Engine;
use crate::group::{Member, Members};
use crate::handle::Group;
use crate::managed::agenda::{Errand, NEVER, Next};
use crate::managed::attempt::Attempt;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::registry::Registry;
use crate::managed::slot::Slot;
use crate::managed::word::Bounds;
use crate::pool::Pool;
use crate::unit::Unit;

/// Peers that one step of maintenance looks after.
const ERRANDS_PER_STEP: usize = 64;
/// A peer that lacks connections, and may have none now, is looked at again after this.
const ROOM_CHECK: u64 = 1_000_000_000;
/// Whether a peer is used is looked at so often while it is kept warm for nobody.
const LOOKS: u64 = 4;

/// The time, in nanoseconds: tokio's, so that it can be paused.
pub(crate) fn moment() -> u64 {
    // Runtimes that pause their clocks begin at any time, so the first moment lies far
    // before all of them.
    static START: LazyLock<std::time::Instant> = LazyLock::new(|| {
        let now = std::time::Instant::now();
        now.checked_sub(Duration::from_secs(24 * 3_600)).unwrap_or(now)
    });
    let since = Instant::now().into_std().saturating_duration_since(*START);
    u64::try_from(since.as_nanos()).unwrap_or(NEVER - 1)
}

/// How many connections a peer is to have. None where none can be idle.
fn minimum<K>(members: &Members<K>) -> u32 {
    let limits = &members.limits;
    let never_idle = limits.idle_timeout() == 0 || limits.max_lifetime() == 0;
    if never_idle { 0 } else { limits.min_idle() }
}

/// A peer that is looked after: keeps its desk, as a visitor, and its group, as a handle.
pub(crate) struct Ward<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    // Weak, since the registry has the agenda, and the pool below the registry.
    registry: Weak<Registry<K, C, E>>,
    engine: Weak<Engine<K, Slot<C>>>,
    pub members: Arc<Members<K>>,
    desk: u32,
}

impl<K, C, E> Ward<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    /// The caller keeps both, desk and group.
    fn new(registry: &Arc<Registry<K, C, E>>, group: &Group<K, Slot<C>>, desk: u32) -> Self {
        let members = Arc::clone(group.members());
        let entered = members.roll.enter(Member::Handle);
        debug_assert!(entered, "the caller keeps the group");
        registry.desk(desk).word.enter();
        let engine = group.pool().engine().me.clone();
        Self { registry: Arc::downgrade(registry), engine, members, desk }
    }
}

impl<K, C, E> Drop for Ward<K, C, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            let state = registry.desk(self.desk).word.leave();
            registry.part(self.desk, state);
        }
        if let Some(engine) = self.engine.upgrade() {
            engine.part(&self.members, Member::Handle);
        }
    }
}

type RegistryOf<K, M> = Registry<K, <M as Manager<K>>::Connection, <M as Manager<K>>::Error>;
type ErrandOf<K, M> = Errand<Ward<K, <M as Manager<K>>::Connection, <M as Manager<K>>::Error>>;

/// See the module.
pub(crate) struct Keeper<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    registry: Arc<RegistryOf<K, M>>,
    pool: OnceLock<Weak<Inner<K, M>>>,
    /// Where connects run that begin outside a runtime.
    runtime: Mutex<Option<Handle>>,
    /// Connections that a miss opens, if there is room.
    pub grow_by: u32,
    /// How long a peer that nobody asks for is kept at its minimum, in nanoseconds.
    pub keep_warm: u64,
}

impl<K, M> Keeper<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    pub fn new(registry: &Arc<RegistryOf<K, M>>, grow_by: u32, keep_warm: Duration) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::clone(registry),
            pool: OnceLock::new(),
            runtime: Mutex::new(None),
            grow_by,
            keep_warm: u64::try_from(keep_warm.as_nanos()).unwrap_or(NEVER),
        })
    }

    /// Says which pool this is the keeper of.
    pub fn bind(&self, pool: &Arc<Inner<K, M>>) {
        let belfry = pool.core.engine().bells.belfry();
        let bound = self.registry.belfry.set(Arc::clone(belfry)).is_ok()
            && self.pool.set(Arc::downgrade(pool)).is_ok();
        debug_assert!(bound, "a pool is built once");
    }

    /// Where connects may run; `None` where no caller was in a runtime yet.
    fn runtime(&self) -> Option<Handle> {
        Handle::try_current().ok().or_else(|| self.lock_runtime().clone())
    }

    fn note_runtime(&self) {
        if let Ok(runtime) = Handle::try_current() {
            // The one before goes without the lock.
            let _before = self.lock_runtime().replace(runtime);
        }
    }

    fn lock_runtime(&self) -> std::sync::MutexGuard<'_, Option<Handle>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, M> Landing<K, Slot<M::Connection>> for Keeper<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn mark(&self, slot: &Slot<M::Connection>) -> u32 {
        slot.permit().desk
    }

    fn landed(&self, pool: &Pool<K, Slot<M::Connection>>, desk: u32) {
        self.registry.attend(pool, desk);
    }

    fn tend(&self) {
        let agenda = &self.registry.agenda;
        // Relaxed: see `Inner::note_limit`.
        let barren = self.registry.barren.load(Ordering::Relaxed);
        if agenda.next() == NEVER && !barren {
            return;
        }
        let Some(inner) = self.pool.get().and_then(Weak::upgrade) else { return };
        inner.tend_all();
        for _ in 0..ERRANDS_PER_STEP {
            let Some(mut errand) = agenda.take(moment()) else { return };
            let next = inner.look_after(&mut errand);
            agenda.settle(&errand, next);
        }
    }

    fn due(&self) -> Option<Duration> {
        let next = self.registry.agenda.next();
        (next != NEVER).then(|| Duration::from_nanos(next.saturating_sub(moment())))
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// Somebody asks for a peer. The caller is a visitor of its desk, and keeps the group.
    pub fn mind(&self, group: &Group<K, Slot<M::Connection>>, desk: u32) {
        if minimum(group.members()) > 0 {
            self.enrol(group, desk);
        }
    }

    /// As [`Inner::mind`], when a connect fails that has its permit still.
    pub fn mind_failure(&self, group: &Group<K, Slot<M::Connection>>, desk: u32) {
        // Where it has a minimum, nobody asks for it just because it fails; whoever did has
        // said so.
        if self.registry.policy.down_after > 0 && minimum(group.members()) == 0 {
            self.enrol(group, desk);
        }
    }

    fn enrol(&self, group: &Group<K, Slot<M::Connection>>, desk: u32) {
        let ward = || Ward::new(&self.registry, group, desk);
        if self.core.is_closed() || group.is_draining() {
            return;
        }
        self.keeper.note_runtime();
        if self.registry.agenda.mind(desk, moment(), ward) {
            self.core.wake_reaper();
            self.core.engine().bells.belfry().wake_reaper();
        }
    }

    /// Looks after one peer.
    fn look_after(self: &Arc<Self>, errand: &mut ErrandOf<K, M>) -> Next {
        let members = &errand.ward.members;
        if self.core.is_closed() || members.lanes.era.is_draining() {
            return Next::LetGo;
        }
        let now = moment();
        let health = self.registry.desk(errand.desk).health();
        let min = minimum(members).min(self.registry.desk(errand.desk).limits.connections());
        if min > 0
            && let Some(used) = self.last_use(errand, now)
        {
            errand.asked = errand.asked.max(used);
        }
        let warm_until = errand.asked.saturating_add(self.keeper.keep_warm);
        if min > 0 && now < warm_until {
            let soon = now.saturating_add((self.keeper.keep_warm / LOOKS).max(1));
            return Next::At(self.keep_up(errand, min, now).min(soon).min(warm_until));
        }
        // Kept for what has failed, if for anything.
        let forget_at = health.retry_at().saturating_add(self.registry.policy.backoff_max);
        match health.failures() {
            0 => Next::LetGo,
            _ if now >= forget_at => Next::LetGo,
            _ => Next::At(forget_at),
        }
    }

    /// Opens what a peer lacks of its minimum, as far as that is possible. Returns when to
    /// look again, unless something happens before.
    fn keep_up(self: &Arc<Self>, errand: &mut ErrandOf<K, M>, min: u32, now: u64) -> u64 {
        let desk = self.registry.desk(errand.desk);
        let (state, health) = (desk.word.load(), desk.health());
        let missing = min.saturating_sub(state.connections());
        if missing == 0 {
            return NEVER;
        }
        let failing = health.failures() > 0;
        // Peers that close what was just opened must not have the pool spin.
        let backoff = self.registry.policy.backoff_min;
        let not_before = match errand.opened {
            _ if failing => health.retry_at(),
            Some(opened) => opened.saturating_add(backoff),
            None => 0,
        };
        if now < not_before {
            return not_before;
        }
        if failing && state.connecting() > 0 {
            // It hears of their end.
            return NEVER;
        }
        let wanted = if failing { 1 } else { missing };
        let up_to_min = |bounds| Bounds { connections: min, ..bounds };
        match self.open(&errand.ward.members, errand.desk, wanted, up_to_min) {
            0 => now.saturating_add(ROOM_CHECK),
            _ => {
                errand.opened = Some(now);
                NEVER
            }
        }
    }

    /// Opens so many connections that nobody waits for, or fewer if there is no room for
    /// more. Returns how many. The caller keeps desk and group.
    pub fn open(
        self: &Arc<Self>,
        members: &Arc<Members<K>>,
        index: u32,
        many: u32,
        narrow: impl Fn(Bounds) -> Bounds,
    ) -> u32 {
        let Some(runtime) = self.keeper.runtime() else { return 0 };
        let desk = self.registry.desk(index);
        for opened in 0..many {
            // Not where others wait for room.
            if self.registry.starved.is_hungry() {
                return opened;
            }
            let Some(unit) = Unit::take_free(&self.core) else { return opened };
            let make = || self.registry.grant(index);
            let Some(mut grant) = desk.spare(&desk.limits, &narrow, make) else {
                return opened;
            };
            grant.unit = Some(unit);
            let group = Group::enter_kept(self.core.clone(), Arc::clone(members));
            let attempt = Attempt::new(Arc::clone(self), group, None, grant);
            drop(runtime.spawn(attempt.run()));
        }
        many
    }

    /// A miss has begun a connect: opens as many more as the pool grows by.
    pub fn grow(self: &Arc<Self>, members: &Arc<Members<K>>, index: u32) {
        let by = self.keeper.grow_by;
        if by > 1 {
            self.open(members, index, by - 1, |bounds| Bounds {
                connecting: bounds.connecting.min(by),
                ..bounds
            });
        }
    }

    /// When a connection of a peer was used last, as far as that can be told from those
    /// that it has now.
    fn last_use(&self, errand: &ErrandOf<K, M>, now: u64) -> Option<u64> {
        let (engine, members) = (self.core.engine(), &errand.ward.members);
        let of_core = engine.config.clock.now();
        let (mut idle, mut latest) = (0, None);
        // A guess: any of them may be somebody's, and another's by now.
        members.lanes.walk(&engine.core, |claim| {
            let seat = engine.core.seats.get(claim.seat);
            if !seat.state.load().honours(claim.incarnation) {
                return true; // leased where its ticket lies, or gone
            }
            idle += 1;
            let facts = engine.facts_at(claim.seat);
            if facts.is_some_and(|facts| claim.incarnation != facts.uses_base) {
                latest = latest.max(Some(seat.stamp.get()));
            }
            true
        });
        let state = self.registry.desk(errand.desk).word.load();
        if state.connections() > state.connecting() + idle {
            return Some(now);
        }
        // The clock of the pool below is another one.
        latest.map(|stamp| now.saturating_sub(of_core.saturating_sub(stamp)))
    }
}
