//! Closes what has expired, promptly and in the background.
//!
//! Each seat has one alarm. An insertion sets it to the tick at which the
//! connection would expire, and tells the reaper through a queue if the alarm was
//! not set, or set to later. Releases do not touch it: when the alarm rings, the
//! reaper looks at the seat, closes the connection if its time is up, and sets the
//! alarm anew if it is not. So a connection is looked at once in each idle timeout,
//! which a release has paid for, or not at all; and the alarm stays with the seat
//! when the next connection takes it, so that churn leaves no alarms behind.
//!
//! Nothing depends on the reaper but promptness: `get` checks expiry itself, and an
//! insertion into a full pool evicts.

use std::mem;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use crossbeam_queue::SegQueue;

use crate::core::notices::Notices;
use crate::core::seat::{Alarm, Seat};
use crate::core::state::{Phase, Word};
use crate::core::ticket::Claim;
use crate::core::wheel::Wheel;
use crate::ending::Removed;
use crate::engine::{Engine, record_of};
use crate::error::CloseReason;
use crate::sync::{AtomicBool, Ordering, Step};
use crate::time::NEVER;

/// Closes in one step.
const CLOSES_PER_STEP: usize = if cfg!(slabpool_loom) { 2 } else { 256 };

/// A tick is this part of the idle timeout, within these limits.
const TICK_PART: u32 = 32;
const TICK_MIN: Duration = Duration::from_millis(100);
const TICK_MAX: Duration = Duration::from_secs(1);

/// The tick for an idle timeout.
pub(crate) fn tick_for(idle_timeout: Option<Duration>) -> Duration {
    idle_timeout.map_or(TICK_MAX, |timeout| (timeout / TICK_PART).clamp(TICK_MIN, TICK_MAX))
}

/// The state of maintenance: one thread at a time turns the wheel, the others go
/// away; nobody waits.
#[derive(Debug)]
pub(crate) struct Maintainer {
    /// Seats whose alarm was set or moved forward.
    news: SegQueue<u32>,
    step: Step,
    work: Mutex<Work>,
    sweep_wanted: AtomicBool,
    /// Seats whose alarm was moved forward by a release, which must not allocate, as the
    /// queue might.
    hurried: Notices,
    /// Nanoseconds.
    tick: u64,
    /// Whether a reaper that an insertion has started is running.
    #[cfg(feature = "tokio")]
    running: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct Work {
    wheel: Wheel,
    /// The tick at which the wheel stands.
    now: u64,
    /// Seats whose alarm has rung.
    due: Vec<u32>,
    /// Seats that expire later in the current tick.
    near: Vec<u32>,
}

impl Maintainer {
    pub fn new(tick: Duration, now: u64) -> Self {
        let tick = tick.as_nanos() as u64;
        Self {
            news: SegQueue::new(),
            step: Step::new(),
            work: Mutex::new(Work {
                wheel: Wheel::new(now / tick),
                now: now / tick,
                due: Vec::new(),
                near: Vec::new(),
            }),
            sweep_wanted: AtomicBool::new(false),
            hurried: Notices::new(),
            tick,
            #[cfg(feature = "tokio")]
            running: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// The tick in which a time lies.
    pub fn tick_of(&self, time: u64) -> u64 {
        time / self.tick
    }

    /// Tells the reaper of a seat whose alarm was set or moved forward.
    pub fn notify(&self, seat: u32) {
        self.step.publish();
        self.news.push(seat);
    }

    /// Asks for a sweep after an invalidation.
    pub fn want_sweep(&self) {
        // Release: pairs with the Acquire in `step`, which then sees the new
        // generation.
        self.sweep_wanted.swap(true, Ordering::Release);
    }
}

/// What a look at a seat has led to.
enum Look<'a, K, C> {
    /// Its connection has expired, and is out of the pool.
    Expired(Removed<'a, K, C>, CloseReason),
    /// Look again at this time.
    Later(u64),
    /// Nothing is there that could expire.
    Never,
}

impl<K, C> Engine<K, C> {
    /// Does all maintenance that is due. Returns how many connections it closed.
    pub fn maintain(&self) -> usize {
        let mut closed = 0;
        loop {
            let step = self.step();
            closed += step;
            if step < CLOSES_PER_STEP {
                return closed;
            }
        }
    }

    /// Does a bounded piece of maintenance. Returns how many connections it closed:
    /// [`CLOSES_PER_STEP`] means that there may be more to do.
    pub fn step(&self) -> usize {
        // Relaxed: worth a look, no more.
        if self.maintainer.sweep_wanted.load(Ordering::Relaxed)
            // Acquire: pairs with `want_sweep`. A swap, so that the wish that it takes
            // back is the last one, whose generation is seen.
            && self.maintainer.sweep_wanted.swap(false, Ordering::Acquire)
        {
            self.sweep();
        }
        let expired = self.collect_expired();
        let closed = expired.len();
        // The user's code runs here, outside the lock.
        for (removed, reason) in expired {
            self.tidy(&removed.group);
            self.bury(removed, reason);
        }
        closed
    }

    fn collect_expired(&self) -> Vec<(Removed<'_, K, C>, CloseReason)> {
        let mut work = match self.maintainer.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return Vec::new(),
        };
        let work = &mut *work;
        let now = self.config.clock.now();
        if work.due.is_empty() {
            self.collect_due(work, now);
        }
        let mut expired = Vec::new();
        let mut due = mem::take(&mut work.due);
        while expired.len() < CLOSES_PER_STEP
            && let Some(index) = due.pop()
        {
            match self.look(index, now) {
                Look::Expired(removed, reason) => expired.push((removed, reason)),
                Look::Later(time) => self.look_later(work, index, time),
                Look::Never => work.wheel.clear(index),
            }
        }
        work.due = due;
        expired
    }

    /// Turns the wheel, and adds what does not come from there.
    fn collect_due(&self, work: &mut Work, now: u64) {
        let Work { wheel, now: tick, due, near } = work;
        due.append(near);
        due.sort_unstable();
        due.dedup();
        self.maintainer.step.observe();
        while let Some(seat) = self.maintainer.news.pop() {
            due.push(seat);
        }
        self.maintainer.hurried.collect(self.core.seats.high_water(), |index| {
            // Vacant seats as well: their alarms must not stay set with nobody to look.
            let asked = self.core.find_card(index).map_or(Alarm::UNSET, |card| card.alarm.tick());
            let planned = wheel.tick_of(index).unwrap_or(u64::MAX);
            if asked != Alarm::UNSET && u64::from(asked) < planned {
                due.push(index);
            }
        });
        *tick = self.maintainer.tick_of(now).max(*tick);
        wheel.turn(*tick, due);
    }

    /// Makes sure that the reaper looks at a seat when its connection expires.
    pub fn watch(&self, index: u32) {
        let deadline = self.core.seats.get(index).deadline.get();
        if self.ask(index, deadline) {
            self.maintainer.notify(index);
        }
    }

    /// As [`Engine::watch`], for a connection that is leased at once. How long it may stay
    /// idle is not known before its release, which may say so: the reaper looks at once,
    /// and again from time to time until then (see [`Engine::look_at_first`]).
    pub fn watch_first(&self, index: u32) {
        let seat = self.core.seats.get(index);
        if seat.deadline.get() != NEVER && self.ask(index, seat.stamp.get()) {
            self.maintainer.notify(index);
        }
    }

    /// As [`Engine::watch`], by a release that found the idle timeout lowered since
    /// the last one.
    #[cold]
    pub fn hurry(&self, index: u32, deadline: u64) {
        if self.ask(index, deadline) {
            self.maintainer.hurried.post(index);
        }
    }

    /// Sets the alarm of a seat. True if the reaper must be told.
    fn ask(&self, index: u32, time: u64) -> bool {
        let tick = self.maintainer.tick_of(time).min(u64::from(Alarm::UNSET - 1));
        time != NEVER && self.core.card(index).alarm.request(tick as u32)
    }

    fn look(&self, index: u32, now: u64) -> Look<'_, K, C> {
        let seat = self.core.seats.get(index);
        // Before the seat is read: whoever fills it after this look tells us.
        self.core.card(index).alarm.reset();
        let word = seat.state.load();
        let (stamp, deadline) = (seat.stamp.get(), seat.deadline.get());
        match word.phase() {
            Phase::Vacant | Phase::Claimed => Look::Never,
            Phase::Idle if now >= deadline => {
                let claim = Claim { seat: index, incarnation: word.incarnation() };
                if !seat.state.seize(claim.incarnation) {
                    return Look::Later(now.saturating_add(self.maintainer.tick));
                }
                // SAFETY: the seat was seized (S2).
                let retire_at = unsafe { record_of::<K, C>(seat) }.retire_at;
                let reason =
                    if now >= retire_at { CloseReason::Lifetime } else { CloseReason::Idle };
                Look::Expired(self.extract(claim), reason)
            }
            Phase::Idle => Look::Later(deadline),
            Phase::Leased if self.is_first(index, word) => self.look_at_first(index, seat, now),
            // Also right if it is being released, and the deadline is the new one,
            // perhaps beside the old stamp.
            _ if now < deadline => Look::Later(deadline),
            // It is idle again in a moment, and has expired.
            Phase::Inspected | Phase::Orphaned => {
                Look::Later(now.saturating_add(self.maintainer.tick))
            }
            // If it was released now, it would expire no sooner than after as long
            // as it had the last time, or when its lifetime ends; unless its idle
            // timeout was lowered: then the release asks for the alarm.
            Phase::Leased => {
                let soon = now.saturating_add(self.maintainer.tick);
                let spell = now.saturating_add(deadline.saturating_sub(stamp));
                let retire_at = self.core.card(index).retire_at.get();
                Look::Later(spell.min(retire_at).max(soon))
            }
        }
    }

    /// Whether a leased connection was never idle, or never leased before.
    fn is_first(&self, index: u32, word: Word) -> bool {
        // If the seat was vacated meanwhile, the next connection asks for a look.
        word.incarnation() == self.core.card(index).uses_base.get().wrapping_add(1)
    }

    /// When to look again at a connection in its first lease. Its release may well be the
    /// first to say how long it may stay idle: what the server's answer says. So the look
    /// after this one comes when the connection is twice as old: if that is sooner than it
    /// expires, the release need not say so. That makes few looks, and few notices.
    fn look_at_first(&self, index: u32, seat: &Seat, now: u64) -> Look<'_, K, C> {
        let (stamp, tick) = (seat.stamp.get(), self.maintainer.tick);
        let spell = seat.deadline.get().saturating_sub(stamp);
        let age = now.saturating_sub(stamp);
        let retire_at = self.core.card(index).retire_at.get();
        let again = now.saturating_add(spell.min(age).max(tick));
        Look::Later(again.min(retire_at.max(now.saturating_add(tick))))
    }

    fn look_later(&self, work: &mut Work, index: u32, time: u64) {
        if time == NEVER {
            return work.wheel.clear(index);
        }
        // False if someone has set it to an earlier tick meanwhile, and told us.
        let _first = self.ask(index, time);
        let tick = self.maintainer.tick_of(time);
        if tick <= work.now {
            work.wheel.clear(index);
            work.near.push(index);
        } else {
            work.wheel.set(index, tick);
        }
    }
}

#[cfg(feature = "tokio")]
mod task {
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Weak};

    use crate::engine::Engine;

    use super::CLOSES_PER_STEP;

    impl<K: Send + Sync + 'static, C: Send + 'static> Engine<K, C> {
        /// The future that maintains the pool for as long as it exists.
        pub fn reaper(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<K, C> {
            run(Arc::downgrade(self), self.config.tick)
        }

        /// Starts a reaper, if this thread is in a tokio runtime and none runs.
        pub fn ensure_reaper(&self) {
            // Relaxed: it only decides who starts one.
            if !self.config.spawn_reaper || self.maintainer.running.load(Ordering::Relaxed) {
                return;
            }
            let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
            if !self.maintainer.running.swap(true, Ordering::Relaxed) {
                let running = Running(self.me.clone());
                let reaper = run(self.me.clone(), self.config.tick);
                runtime.spawn(async move {
                    let _running = running;
                    reaper.await;
                });
            }
        }
    }

    /// Says that no reaper runs any more, also when its runtime shuts down.
    struct Running<K, C>(Weak<Engine<K, C>>);

    impl<K, C> Drop for Running<K, C> {
        fn drop(&mut self) {
            // It panics where a runtime has no time. The next one would as well, and
            // each insertion would start one.
            if std::thread::panicking() {
                return;
            }
            if let Some(engine) = self.0.upgrade() {
                engine.maintainer.running.store(false, Ordering::Relaxed);
            }
        }
    }

    async fn run<K, C>(engine: Weak<Engine<K, C>>, tick: std::time::Duration) {
        loop {
            tokio::time::sleep(tick).await;
            loop {
                let Some(engine) = engine.upgrade() else { return };
                let more = engine.step() == CLOSES_PER_STEP;
                drop(engine);
                if !more {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}
