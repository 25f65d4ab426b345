//! How idle connections age: which of them are exempt from the idle timeout, and what
//! becomes of those whose time is up.
//!
//! | | when | how many |
//! |---|---|---|
//! | exempt | past the idle timeout of the group | the youngest `min_idle` stay |
//! | retired | past the lifetime | within a budget: see [`crate::retirement`] |
//! | trimmed | not needed over a whole window | half of them: see [`crate::trim`] |
//!
//! All of it is decided by maintenance, and for exempt connections also by the get that
//! meets one. A get closes what has reached its lifetime whatever the budget.

use std::sync::Arc;

use crate::core::Found;
use crate::core::seat::{Mark, Seat};
use crate::core::state::Phase;
use crate::core::ticket::Claim;
use crate::ending::Removed;
use crate::engine::{Engine, record_of};
use crate::error::CloseReason;
use crate::group::Members;
use crate::reaper::{CHORES_PER_STEP, Work};
use crate::retirement::Lines;
use crate::terms::Facts;
use crate::time::NEVER;
use crate::trim::Sweep;

/// Seats that one step of maintenance looks at, for each purpose.
pub(crate) const LOOKS_PER_STEP: usize = if cfg!(slabpool_loom) { 2 } else { 8_192 };

/// Exempt connections are looked at again after this part of the idle timeout.
const PATIENCE_PART: u64 = 8;

/// What maintenance remembers of ageing connections.
#[derive(Debug, Default)]
pub(crate) struct Ageing {
    pub lines: Lines,
    pub sweep: Sweep,
}

/// What is to become of an idle connection whose idle spell is over.
pub(crate) enum Verdict {
    Close(CloseReason),
    /// It stays; look again at this time.
    Later(u64),
    /// Its lifetime has ended. It waits for its turn with others of its group, by the
    /// hash of the key; look again at this time.
    Wait {
        group: u64,
        until: u64,
    },
}

/// Connections that maintenance has removed and will close.
pub(crate) type Closing<'a, K, C> = Vec<(Removed<'a, K, C>, CloseReason)>;

impl<K, C> Engine<K, C> {
    /// What is to become of an idle connection whose deadline has passed. Holds if the
    /// caller then seizes the seat in this incarnation (S1, S3).
    pub fn judge(&self, claim: Claim, now: u64) -> Verdict {
        let later = Verdict::Later(now.saturating_add(self.maintainer.tick));
        let Some(facts) = self.facts_at(claim.seat) else { return later };
        let retired = now >= facts.retire_at;
        if retired {
            if !self.is_retirement_limited() {
                return Verdict::Close(CloseReason::Lifetime);
            }
        } else if !self.tuning.spares() {
            return Verdict::Close(CloseReason::Idle);
        }
        let Some(group) = self.group_at(claim) else {
            // It was leased or closed meanwhile.
            return later;
        };
        let verdict = if retired {
            self.judge_retired(claim, facts, &group, now)
        } else {
            self.judge_idle(claim, facts, &group, now)
        };
        self.let_go(group);
        verdict
    }

    fn is_retirement_limited(&self) -> bool {
        let (per_second, group_share) = self.tuning.retirement();
        per_second != u32::MAX || group_share < 1.0
    }

    /// As [`Engine::judge`], of one whose idle timeout has passed and no more.
    fn judge_idle(&self, claim: Claim, facts: Facts, group: &Members<K>, now: u64) -> Verdict {
        let end = facts.hard_end(self.core.seats.get(claim.seat).stamp.get());
        match self.stay_of(claim, group, now).filter(|_| now < end) {
            Some(until) => Verdict::Later(until.min(end)),
            None => Verdict::Close(CloseReason::Idle),
        }
    }

    /// As [`Engine::judge`], of one whose lifetime has ended, when there is a budget.
    /// While it waits, its idle timeout may end as well: then it is not missed.
    fn judge_retired(&self, claim: Claim, facts: Facts, group: &Members<K>, now: u64) -> Verdict {
        let seat = self.core.seats.get(claim.seat);
        let own_end = facts.own_end(seat.stamp.get());
        // The idle timeout that was in force at its release is in the deadline, unless
        // that is the end of its lifetime.
        let timeout = group.limits.idle_timeout();
        let idle_end = match seat.deadline.get() {
            deadline if deadline < facts.retire_at => deadline,
            _ => seat.stamp.get().saturating_add(timeout).min(own_end),
        };
        let until = if now < idle_end {
            Some(idle_end)
        } else {
            self.stay_of(claim, group, now)
                .map(|until| until.min(own_end))
                .filter(|_| now < own_end)
        };
        match until {
            Some(until) => Verdict::Wait { group: group.hash, until },
            None => Verdict::Close(CloseReason::Idle),
        }
    }

    /// When to look again at a connection that is past its group's idle timeout; `None` if
    /// it is not exempt.
    fn stay_of(&self, claim: Claim, group: &Members<K>, now: u64) -> Option<u64> {
        let span = match self.is_exempt(claim, group, now, true) {
            Some(false) => return None,
            // Its own timeout has passed, if the group's is longer now, or none.
            Some(true) => group.limits.idle_timeout().min(self.spell(claim)) / PATIENCE_PART,
            None => 0,
        };
        Some(now.saturating_add(span.max(self.maintainer.tick)))
    }

    /// How long a connection could stay idle when it was released.
    fn spell(&self, claim: Claim) -> u64 {
        let seat = self.core.seats.get(claim.seat);
        seat.deadline.get().saturating_sub(seat.stamp.get())
    }

    /// Whether an idle connection is exempt from its group's idle timeout: whether fewer
    /// than `min_idle` come before it. `None` if it cannot be told.
    fn is_exempt(&self, claim: Claim, group: &Members<K>, now: u64, prove: bool) -> Option<bool> {
        let spared = self.spared(group);
        if spared == 0 {
            return Some(false);
        }
        let counts = |found: Found<'_>| self.stays(found, group, now);
        let rank = group.lanes.rank(&self.core, claim, spared, now, prove, counts)?;
        Some(rank < spared)
    }

    /// How many connections of a group are exempt. None where nothing is ever reused.
    fn spared(&self, group: &Members<K>) -> u32 {
        if group.limits.idle_timeout() == 0 { 0 } else { group.limits.min_idle() }
    }

    /// Whether an idle connection is one of those that a group keeps: those that are
    /// about to go for another reason do not count.
    fn stays(&self, found: Found<'_>, group: &Members<K>, now: u64) -> bool {
        let facts = self.facts_at(found.claim().seat);
        let end = facts.map_or(0, |facts| facts.hard_end(found.seat.stamp.get()));
        now < end && Mark::is_of(found.seat.mark.get(), self.generation_of(group))
    }

    /// Whether a connection that comes out of the pool, and is not fit for use, lacks
    /// nothing but that its group's idle timeout has passed, from which it was exempt.
    /// The caller owns its seat.
    #[cold]
    #[inline(never)]
    pub fn is_spared(&self, seat: &Seat, group: &Members<K>, now: u64) -> bool {
        let spared = self.spared(group);
        if spared == 0 {
            return false;
        }
        // SAFETY: the caller owns the seat (S2).
        let record = unsafe { record_of::<K, C>(seat) };
        let stamp = seat.stamp.get();
        let usable = now < record.retire_at.get()
            && now < stamp.saturating_add(record.patience.get())
            && Mark::is_of(seat.mark.get(), self.generation_of(group))
            && seat.state.own().wrapping_sub(record.uses_base.get()) <= group.limits.max_uses();
        let counts = |found: Found<'_>| self.stays(found, group, now);
        // In doubt it is used: others are at the group's lanes all the time.
        let rank = || group.lanes.rank_of_top(&self.core, stamp, spared, now, counts);
        usable && rank().is_none_or(|rank| rank < spared)
    }

    /// Whether an idle connection, which the caller does not own, seems to be exempt from
    /// the idle timeout that it is past. Leaves the lanes alone.
    #[cold]
    pub fn seems_spared(&self, claim: Claim, group: &Members<K>, now: u64) -> bool {
        let stamp = self.core.seats.get(claim.seat).stamp.get();
        self.facts_at(claim.seat).is_some_and(|facts| now < facts.hard_end(stamp))
            && self.is_exempt(claim, group, now, false).unwrap_or(true)
    }

    /// The group of an idle connection whose seat the caller does not own. `None` if it is
    /// not idle in this incarnation any more. For [`Engine::let_go`] in the end.
    pub fn group_at(&self, claim: Claim) -> Option<Arc<Members<K>>> {
        let key = self.core.card(claim.seat).key.follow();
        let record = self.store.get(key as usize)?;
        let group = self.directory.held(&record.group, Arc::clone)?;
        drop(record);
        // S1: if it still is idle, then it was all the while, and the key was its own.
        let word = self.core.seats.get(claim.seat).state.load();
        if word.phase() == Phase::Idle && word.incarnation() == claim.incarnation {
            return Some(group);
        }
        self.let_go(group);
        None
    }

    /// Gives up a reference to a group under the lock of maintenance: if it was the last
    /// one, the user's key is dropped later.
    pub fn let_go(&self, group: Arc<Members<K>>) {
        if let Some(group) = Arc::into_inner(group) {
            self.groups_let_go.push(group);
        }
    }

    /// Closes what waits for its turn, and what is surplus: a bounded piece of it.
    pub fn age<'a>(&'a self, work: &mut Work, now: u64, closing: &mut Closing<'a, K, C>) {
        if work.ageing.lines.are_any() {
            self.retire(work, now, closing);
        }
        if self.tuning.trim_window() != NEVER || work.ageing.sweep.is_under_way() {
            self.trim_surplus(&mut work.ageing.sweep, now, closing);
        }
    }

    /// Closes connections whose lifetime has ended, within the budget.
    fn retire<'a>(&'a self, work: &mut Work, now: u64, closing: &mut Closing<'a, K, C>) {
        let (per_second, share) = self.tuning.retirement();
        let Work { ageing: Ageing { lines, .. }, near, tick, .. } = work;
        lines.begin(*tick, now);
        for _ in 0..LOOKS_PER_STEP {
            if closing.len() >= CHORES_PER_STEP {
                return;
            }
            let Some(index) = lines.call(per_second) else { return };
            let word = self.core.seats.get(index).state.load();
            let claim = Claim { seat: index, incarnation: word.incarnation() };
            match word.phase() {
                Phase::Idle if self.facts_at(index).is_some_and(|facts| now >= facts.retire_at) => {
                }
                // Somebody looks at it. It comes again.
                Phase::Inspected | Phase::Orphaned => {
                    near.push(index);
                    continue;
                }
                // It is gone, or will be when its lease ends.
                _ => continue,
            }
            let Some(removed) = self.remove_aged(claim) else {
                // As above, or it is gone.
                near.push(index);
                continue;
            };
            // With the one that was just removed.
            let connections = f64::from(removed.group.roll.connections());
            lines.serve(|| (connections * share) as u32);
            closing.push((removed, CloseReason::Lifetime));
        }
    }

    /// Takes a connection out of the pool if it still is idle.
    pub fn remove_aged(&self, claim: Claim) -> Option<Removed<'_, K, C>> {
        let seized = self.core.seats.get(claim.seat).state.seize(claim.incarnation);
        seized.then(|| self.extract(claim))
    }
}
