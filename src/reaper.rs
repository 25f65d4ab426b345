//! Maintenance: closes what has expired, promptly and in the background.
//!
//! Each seat has one alarm. An insertion sets it to the tick at which the
//! connection would expire or must be asked how it is, and tells the reaper through a
//! queue if the alarm was not set, or set to later. Releases do not touch it, but for
//! those that make the idle spell shorter than the one before (see [`Engine::hurry`]):
//! when the alarm rings, the reaper looks at the seat, closes the connection if its time
//! is up, and sets the alarm anew if it is not. So a connection is looked at once in each
//! idle timeout, which a release has paid for, or not at all; and the alarm stays with the
//! seat when the next connection takes it, so that churn leaves no alarms behind.
//!
//! A step of maintenance is bounded. It takes up, in this order: what was invalidated;
//! connections whose bells were rung (see [`crate::watch`]); seats whose alarm has rung
//! (see [`crate::look`]); what ages otherwise (see [`crate::ageing`]); what is above a
//! capacity that was lowered. It decides under a lock that is only ever tried, and runs
//! the user's code after that.
//!
//! Nothing depends on the reaper but promptness: `get` checks by itself what it leases,
//! and an insertion into a full pool evicts.

use std::mem;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use crossbeam_queue::SegQueue;

use crate::ageing::Ageing;
use crate::core::notices::Notices;
use crate::core::seat::Alarm;
use crate::core::state::Phase;
use crate::core::strained::Watched;
use crate::core::ticket::Claim;
use crate::core::wheel::Wheel;
use crate::ending::Removed;
use crate::engine::Engine;
use crate::error::CloseReason;
use crate::look::{Look, next_probe};
use crate::sync::{AtomicBool, Ordering, Step};
use crate::time::NEVER;

/// Connections that are closed or asked in one step, about.
pub(crate) const CHORES_PER_STEP: usize = if cfg!(slabpool_loom) { 2 } else { 256 };

/// Seats that are due for which memory is kept.
const DUE_KEPT: usize = 4_096;

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
    pub tick: u64,
    /// Whether a reaper that an insertion has started is running.
    #[cfg(feature = "tokio")]
    pub running: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Work {
    wheel: Wheel,
    /// The tick at which the wheel stands.
    pub tick: u64,
    /// Seats whose alarm has rung.
    due: Vec<u32>,
    /// Seats that expire later in the current tick.
    pub near: Vec<u32>,
    /// What is due was due after the first of these times, and by the second.
    turned: (u64, u64),
    /// Seats whose bell was rung, and that were in use since.
    rung: Vec<u32>,
    pub ageing: Ageing,
    /// Groups of several lanes.
    watched: Watched,
}

impl Maintainer {
    pub fn new(tick: Duration, now: u64) -> Self {
        let tick = tick.as_nanos() as u64;
        Self {
            news: SegQueue::new(),
            step: Step::new(),
            work: Mutex::new(Work {
                wheel: Wheel::new(now / tick),
                tick: now / tick,
                due: Vec::new(),
                near: Vec::new(),
                turned: (now, now),
                rung: Vec::new(),
                ageing: Ageing::default(),
                watched: Watched::default(),
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

/// What is left to be done after looking, with user code in it.
enum Chore<'a, K, C> {
    Bury(Removed<'a, K, C>, CloseReason),
    Examine(Claim),
}

/// What a step of maintenance has come to.
pub(crate) struct Stepped {
    /// How many connections it closed.
    pub closed: usize,
    /// Whether there may be more to do at once.
    pub more: bool,
}

impl<K, C> Engine<K, C> {
    /// Does all maintenance that is due. Returns how many connections it closed.
    pub fn maintain(&self) -> usize {
        let mut closed = 0;
        // What is rung for from here on is for the next time: there are connections that
        // ring whenever they are looked at.
        let mut rings = self.bells.belfry().len();
        loop {
            let step = self.step_within(&mut rings);
            closed += step.closed;
            if !step.more {
                return closed;
            }
        }
    }

    /// Does a bounded piece of maintenance.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "the reaper needs it"))]
    pub fn step(&self) -> Stepped {
        let mut rings = usize::MAX;
        self.step_within(&mut rings)
    }

    /// As [`Engine::step`], with at most so many rings.
    fn step_within(&self, rings: &mut usize) -> Stepped {
        self.config.clock.notice_suspension();
        // Relaxed: worth a look, no more.
        if self.maintainer.sweep_wanted.load(Ordering::Relaxed)
            // Acquire: pairs with `want_sweep`. A swap, so that the wish that it takes
            // back is the last one, whose generation is seen.
            && self.maintainer.sweep_wanted.swap(false, Ordering::Acquire)
        {
            self.close_outdated();
        }
        let chores = self.collect_chores(rings);
        let more = chores.len() >= CHORES_PER_STEP;
        // The user's code runs here, outside the lock.
        let closed = chores.into_iter().filter_map(|chore| self.do_chore(chore).then_some(()));
        let closed = closed.count();
        while let Some(group) = self.groups_let_go.pop() {
            drop(group);
        }
        let shed = self.shrink(CHORES_PER_STEP.saturating_sub(closed));
        if let Some(landing) = &self.config.landing {
            landing.tend();
        }
        Stepped { closed: closed + shed, more: more || closed + shed >= CHORES_PER_STEP }
    }

    /// True if a connection was closed.
    fn do_chore(&self, chore: Chore<'_, K, C>) -> bool {
        match chore {
            Chore::Bury(removed, reason) => {
                self.tidy(&removed.group);
                self.bury(removed, reason);
                true
            }
            Chore::Examine(claim) => self.examine(claim),
        }
    }

    fn collect_chores(&self, rings: &mut usize) -> Vec<Chore<'_, K, C>> {
        let mut work = match self.maintainer.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return Vec::new(),
        };
        let work = &mut *work;
        let now = self.config.clock.now();
        // SAFETY: the stock is here (N1).
        unsafe { work.watched.step(&self.core, self.maintainer.tick_of(now)) };
        let mut chores = Vec::new();
        self.collect_rung(work, rings, &mut chores);
        if work.due.is_empty() {
            work.turned = (work.turned.1, now);
            self.collect_due(work, now);
        }
        let mut due = mem::take(&mut work.due);
        while chores.len() < CHORES_PER_STEP
            && let Some(index) = due.pop()
        {
            match self.look(index, work.turned, now) {
                Look::Expired(removed, reason) => chores.push(Chore::Bury(removed, reason)),
                Look::Ask(claim, time) => {
                    chores.push(Chore::Examine(claim));
                    self.look_later(work, index, time);
                }
                Look::Later(time) => self.look_later(work, index, time),
                Look::Wait(group, time) => {
                    work.ageing.lines.enter(index, group);
                    self.look_later(work, index, time);
                }
                Look::Never => work.wheel.clear(index),
            }
        }
        if due.len() < DUE_KEPT {
            // After many insertions between two steps it is as large as the pool.
            due.shrink_to(DUE_KEPT);
        }
        work.due = due;
        let mut closing = Vec::new();
        self.age(work, now, &mut closing);
        chores.extend(closing.into_iter().map(|(removed, reason)| Chore::Bury(removed, reason)));
        chores
    }

    /// Adds the connections whose bells were rung, but for those that are in use.
    fn collect_rung(&self, work: &mut Work, rings: &mut usize, chores: &mut Vec<Chore<'_, K, C>>) {
        work.rung.sort_unstable();
        work.rung.dedup();
        work.rung.retain(|&seat| {
            chores.len() >= CHORES_PER_STEP || !self.collect_one_rung(seat, chores)
        });
        while chores.len() < CHORES_PER_STEP
            && *rings > 0
            && let Some(seat) = self.bells.belfry().next()
        {
            *rings -= 1;
            if !self.collect_one_rung(seat, chores) {
                work.rung.push(seat);
            }
        }
    }

    /// False if it must wait until the connection is idle. A ring is done with when the
    /// connection was looked at, and not sooner: a release may still go by what it read
    /// of the bell before the ring.
    fn collect_one_rung(&self, seat: u32, chores: &mut Vec<Chore<'_, K, C>>) -> bool {
        let word = self.core.seats.get(seat).state.load();
        match word.phase() {
            Phase::Idle => {
                chores.push(Chore::Examine(Claim { seat, incarnation: word.incarnation() }));
                true
            }
            Phase::Leased | Phase::Inspected | Phase::Orphaned => false,
            // Whoever closed it, or took it out, has silenced the bell.
            Phase::Vacant | Phase::Claimed => true,
        }
    }

    /// Turns the wheel, and adds what does not come from there.
    fn collect_due(&self, work: &mut Work, now: u64) {
        let Work { wheel, tick, due, near, .. } = work;
        due.append(near);
        due.sort_unstable();
        due.dedup();
        self.maintainer.step.observe();
        while let Some(seat) = self.maintainer.news.pop() {
            due.push(seat);
        }
        self.maintainer.hurried.collect(self.core.seats.high_water(), |index| {
            // Vacant seats as well: their alarms must not stay set with nobody to look.
            let asked = self.core.seats.find(index).map_or(Alarm::UNSET, |seat| seat.alarm.tick());
            let planned = wheel.tick_of(index).unwrap_or(u64::MAX);
            if asked != Alarm::UNSET && u64::from(asked) < planned {
                due.push(index);
            }
        });
        *tick = self.maintainer.tick_of(now).max(*tick);
        wheel.turn(*tick, due);
    }

    /// Makes sure that the reaper looks at a seat when its connection expires, or must be
    /// asked how it is.
    pub fn schedule(&self, index: u32, now: u64) {
        let seat = self.core.seats.get(index);
        let probe = next_probe(seat.stamp.get(), now, self.probe_interval(index));
        if self.set_alarm(index, probe.min(seat.deadline.get())) {
            self.maintainer.notify(index);
        }
    }

    /// As [`Engine::schedule`], for a connection that is leased at once. How long it may stay
    /// idle is not known before its release, which may say so: the reaper looks at once,
    /// and again from time to time until then (see [`Engine::look`]).
    pub fn schedule_first(&self, index: u32) {
        let seat = self.core.seats.get(index);
        let for_ever = seat.deadline.get().min(self.probe_interval(index)) == NEVER;
        if !for_ever && self.set_alarm(index, seat.stamp.get()) {
            self.maintainer.notify(index);
        }
    }

    /// As [`Engine::schedule`], by a release that makes the idle spell end sooner than the
    /// reaper takes for granted.
    #[cold]
    pub fn hurry(&self, index: u32, deadline: u64) {
        if self.set_alarm(index, deadline) {
            self.maintainer.hurried.post(index);
        }
    }

    /// As [`Engine::hurry`], for a connection that was watched, and cannot be any more.
    #[cold]
    pub fn hurry_probe(&self, index: u32) {
        let (stamp, now) = (self.core.seats.get(index).stamp.get(), self.config.clock.now());
        self.hurry(index, next_probe(stamp, now, self.probe_interval(index)));
    }

    /// Sets the alarm of a seat. True if the reaper must be told.
    fn set_alarm(&self, index: u32, time: u64) -> bool {
        let tick = self.maintainer.tick_of(time).min(u64::from(Alarm::UNSET - 1));
        time != NEVER && self.core.seats.get(index).alarm.request(tick as u32)
    }

    fn look_later(&self, work: &mut Work, index: u32, time: u64) {
        if time == NEVER {
            return work.wheel.clear(index);
        }
        // False if someone has set it to an earlier tick meanwhile, and told us.
        let _first = self.set_alarm(index, time);
        let tick = self.maintainer.tick_of(time);
        if tick <= work.tick {
            work.wheel.clear(index);
            work.near.push(index);
        } else {
            work.wheel.set(index, tick);
        }
    }
}
