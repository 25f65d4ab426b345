//! What the reaper does with a seat: it looks, and leaves the rest for later.

use crate::ageing::Verdict;
use crate::core::state::{Phase, Word};
use crate::core::ticket::Claim;
use crate::ending::Removed;
use crate::engine::Engine;
use crate::error::CloseReason;

/// What a look at a seat has led to.
pub(crate) enum Look<'a, K, C> {
    /// Its connection has expired, and is out of the pool.
    Expired(Removed<'a, K, C>, CloseReason),
    /// Its connection must be asked how it is, and be looked at again at this time.
    Ask(Claim, u64),
    /// Look again at this time.
    Later(u64),
    /// Its lifetime has ended: it waits with others of its group, by hash, until it may be
    /// closed. Look again at this time.
    Wait(u64, u64),
    /// Nothing is there that could expire.
    Never,
}

impl<K, C> Engine<K, C> {
    /// Looks at a seat whose alarm has rung, between these two times.
    pub fn look(&self, index: u32, turned: (u64, u64), now: u64) -> Look<'_, K, C> {
        let seat = self.core.seats.get(index);
        // Before the seat is read: whoever fills it after this look tells us.
        seat.alarm.reset();
        let word = seat.state.load();
        let (stamp, deadline) = (seat.stamp.get(), seat.deadline.get());
        match word.phase() {
            Phase::Vacant | Phase::Claimed => Look::Never,
            Phase::Idle => self.look_at_idle(index, word.incarnation(), turned, now),
            Phase::Leased if self.is_first(index, word) => self.look_at_first(index, now),
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
                let spell = deadline.saturating_sub(stamp).min(self.probe_interval(index));
                let Some(facts) = self.facts_at(index) else { return Look::Later(soon) };
                Look::Later(now.saturating_add(spell).min(facts.retire_at).max(soon))
            }
        }
    }

    /// Whether a leased connection was never idle, or never leased before.
    fn is_first(&self, index: u32, word: Word) -> bool {
        // If the seat was vacated meanwhile, the next connection asks for a look.
        self.facts_at(index)
            .is_some_and(|facts| word.incarnation() == facts.uses_base.wrapping_add(1))
    }

    /// When to look again at a connection in its first lease. Its release may well be the
    /// first to say how long it may stay idle: what the server's answer says. So the look
    /// after this one comes when the connection is twice as old: if that is sooner than it
    /// expires, the release need not say so. That makes few looks, and few notices.
    fn look_at_first(&self, index: u32, now: u64) -> Look<'_, K, C> {
        let seat = self.core.seats.get(index);
        let (stamp, tick) = (seat.stamp.get(), self.maintainer.tick);
        let spell = seat.deadline.get().saturating_sub(stamp).min(self.probe_interval(index));
        let age = now.saturating_sub(stamp);
        let retire_at = self.facts_at(index).map_or(0, |facts| facts.retire_at);
        let again = now.saturating_add(spell.min(age).max(tick));
        Look::Later(again.min(retire_at.max(now.saturating_add(tick))))
    }

    /// As [`Engine::look`], at a connection that was idle in this incarnation.
    fn look_at_idle(
        &self,
        index: u32,
        incarnation: u64,
        turned: (u64, u64),
        now: u64,
    ) -> Look<'_, K, C> {
        let seat = self.core.seats.get(index);
        let (stamp, mut later) = (seat.stamp.get(), seat.deadline.get());
        let claim = Claim { seat: index, incarnation };
        if now >= later {
            match self.judge(claim, now) {
                Verdict::Close(_) if !seat.state.seize(incarnation) => {
                    return Look::Later(now.saturating_add(self.maintainer.tick));
                }
                Verdict::Close(reason) => return Look::Expired(self.extract(claim), reason),
                Verdict::Wait { group, until } => return Look::Wait(group, until),
                Verdict::Later(time) => later = time,
            }
        }
        let interval = self.probe_interval(index);
        later = later.min(next_probe(stamp, now, interval));
        if next_probe(stamp, turned.0, interval) <= turned.1 {
            Look::Ask(claim, later)
        } else {
            Look::Later(later)
        }
    }
}

/// When a connection that cannot be watched is asked next: at whole intervals since it
/// became idle.
pub(crate) fn next_probe(stamp: u64, now: u64, interval: u64) -> u64 {
    let whole = now.saturating_sub(stamp) / interval.max(1);
    stamp.saturating_add(interval.saturating_mul(whole + 1))
}
