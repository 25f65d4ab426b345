//! What happens to idle connections other than by a get: they leave the pool before their
//! time, by token, by group, by predicate, all of them; they are looked at; one of them is
//! leased that a predicate likes.

use std::time::Duration;

use crate::core::seat::{Mark, Seat};
use crate::core::state::Phase;
use crate::core::ticket::Claim;
use crate::drain::outdated;
use crate::engine::{Engine, RawLease, record_of};
use crate::error::CloseReason;
use crate::events::event;
use crate::group::Members;
use crate::miss::Met;
use crate::pool::Pool;
use crate::stats::Meta;
use crate::store::Record;
use crate::token::Token;

impl<K, C> Engine<K, C> {
    /// Takes the idle connection with this token out of the pool.
    pub fn take(&self, token: Token) -> Option<C> {
        let record = self.store.get(token.key)?;
        let seat = self.core.seats.get(record.seat);
        // S3: the word before the number. If that is the token's, so is the incarnation,
        // or seizing it fails. Not of a vacant seat: the next one there begins with that.
        let word = seat.state.load();
        let claim = Claim { seat: record.seat, incarnation: word.incarnation() };
        let is_it = word.phase() == Phase::Idle && self.sits(&record, token);
        if !is_it || !seat.state.seize(claim.incarnation) {
            return None;
        }
        let removed = self.extract(claim);
        self.tidy(&removed.group);
        Some(self.hand_out(removed))
    }

    /// Closes the connection with this token: now if it is idle, else when its
    /// lease ends.
    pub fn evict(&self, token: Token) -> bool {
        let Some(record) = self.store.get(token.key) else { return false };
        let seat = self.core.seats.get(record.seat);
        // Whether it was there, and doomed: then it goes, whoever closes it.
        let mut doomed = false;
        loop {
            let word = seat.state.load();
            if !self.sits(&record, token) {
                return doomed;
            }
            let claim = Claim { seat: record.seat, incarnation: word.incarnation() };
            match word.phase() {
                Phase::Idle if seat.state.seize(claim.incarnation) => {
                    self.discard(claim, CloseReason::Removed);
                    return true;
                }
                Phase::Idle => {}
                Phase::Vacant | Phase::Claimed => return doomed,
                Phase::Leased | Phase::Inspected | Phase::Orphaned => {
                    if self.doom(&record, seat, token) {
                        return true;
                    }
                    doomed = true;
                }
            }
        }
    }

    /// Sees to it that a connection in use is not used again. False if it has
    /// become idle meanwhile, perhaps without its holder seeing the doom.
    fn doom(&self, record: &Record<K, C>, seat: &Seat, token: Token) -> bool {
        seat.mark.doom(token.serial);
        // A release sees the doom after its push, or we see what it did before;
        // likewise whoever restores an inspected seat.
        // If it has left its group, there is nothing to be seen.
        self.directory.held(&record.group, |group| group.lanes.barrier());
        seat.state.touch().phase() != Phase::Idle || !self.sits(record, token)
    }

    /// Closes the idle connections of a group.
    pub fn clear(&self, group: &Members<K>, reason: CloseReason) {
        group.lanes.drain(&self.core, |claim| {
            let seat = self.core.seats.get(claim.seat);
            loop {
                if seat.state.seize(claim.incarnation) {
                    return self.discard(claim, reason);
                }
                // Somebody looks at it, and must know that its ticket is gone.
                let word = seat.state.load();
                if !word.honours(claim.incarnation) || seat.state.orphan(claim.incarnation).is_ok()
                {
                    return;
                }
            }
        });
    }

    /// Closes all idle connections.
    pub fn clear_all(&self, reason: CloseReason) {
        self.directory.for_each(|group| self.clear(group, reason));
    }

    /// Closes everything that is idle, for good.
    pub fn close(&self) {
        self.mark_closed();
        event!(info, "pool closed");
        self.clear_all(CloseReason::Closed);
    }

    /// Shows each idle connection to `keep`, and closes those that it refuses.
    pub fn retain(&self, mut keep: impl FnMut(&K, &Meta, &mut C) -> bool) {
        let now = self.config.clock.now();
        self.inspect_idle(|record, seat, incarnation| {
            let claim = Claim { seat: record.seat, incarnation };
            let meta = self.peek(seat, claim, record.uses_base.get(), now);
            // SAFETY: an inspector owns the seat (S2), and makes no other reference (R1).
            let connection = unsafe { record.connection_mut() };
            let kept = keep(&record.group.key, &meta, connection);
            kept.then_some(()).ok_or(CloseReason::Cleared)?;
            if !self.config.watches() {
                return Ok(());
            }
            // The closure may have waited for something to read, as a user would.
            // SAFETY: an inspector owns the seat (S2).
            unsafe { self.listen(seat, claim.seat) }
        });
    }

    /// Closes the idle connections of former generations: those that were invalidated.
    pub fn close_outdated(&self) {
        self.inspect_idle(|record, seat, _| {
            let mark = seat.mark.get();
            let fit = Mark::is_of(mark, self.generation_of(&record.group));
            fit.then_some(()).ok_or_else(|| outdated(&record.group.lanes, mark))
        });
    }

    /// Holds each idle connection for the time that `judge` takes, and closes it if
    /// that finds a reason.
    fn inspect_idle(
        &self,
        mut judge: impl FnMut(&Record<K, C>, &Seat, u64) -> Result<(), CloseReason>,
    ) {
        for (index, seat) in self.core.seats.iter() {
            let word = seat.state.load();
            let claim = Claim { seat: index, incarnation: word.incarnation() };
            if word.phase() != Phase::Idle {
                continue;
            }
            let Some(inspection) = self.inspect(seat, claim) else { continue };
            // SAFETY: the inspection owns the seat (S2).
            let record = unsafe { record_of::<K, C>(seat) };
            if let Err(reason) = judge(record, seat, claim.incarnation) {
                std::mem::forget(inspection);
                self.discard(claim, reason);
            }
        }
    }

    /// Holds an idle connection, until what this returns is dropped. `None` if it is not
    /// idle any more, or the pool was closed: then it is the closer's.
    pub fn inspect<'a>(&'a self, seat: &'a Seat, claim: Claim) -> Option<Inspection<'a, K, C>> {
        self.open_generation()?;
        let inspected = seat.state.inspect(claim.incarnation);
        inspected.then(|| Inspection { engine: self, seat, claim })
    }

    /// Leases the newest connection that `wanted` agrees to. The others stay where
    /// they are.
    pub fn lease_if(
        &self,
        group: &Members<K>,
        mut wanted: impl FnMut(&Meta) -> bool,
    ) -> Option<RawLease<K, C>> {
        let now = self.config.clock.now();
        let (mut lease, mut refused) = (None, 0);
        let mut met = Met::default();
        group.lanes.walk(&self.core, |claim| {
            let seat = self.core.seats.get(claim.seat);
            // S3: the word before the rest.
            if !seat.state.load().honours(claim.incarnation) {
                return true;
            }
            if seat.is_expired(now) && !self.seems_spared(claim, group, now) {
                met.refused(CloseReason::Idle);
                return true;
            }
            let Some(facts) = self.facts_at(claim.seat) else { return true };
            let meta = self.peek(seat, claim, facts.uses_base, now);
            // Those that are not fit stay for maintenance: to close them here would
            // change the chain under the walk, which gives up when that goes on.
            let mark = seat.mark.get();
            if Mark::is_doomed(mark) {
                return true;
            }
            let fit = Mark::is_of(mark, self.generation_of(group))
                && meta.uses <= group.limits.max_uses();
            if !fit {
                met.refused(CloseReason::Invalidated);
            } else if wanted(&meta) {
                match self.lease_this(seat, claim, group, now, &mut met) {
                    InPlace::Leased(leased) => lease = Some(leased),
                    InPlace::Refused => refused += 1,
                    InPlace::Gone => {}
                }
            } else {
                met.unwanted();
            }
            lease.is_none()
        });
        // Not sooner, which would change the chain under the walk.
        (0..refused).for_each(|_| self.tidy(group));
        match lease {
            Some(_) => self.tidy(group),
            None => self.missed(group.hash, Some(group), met, now),
        }
        lease
    }

    /// Leases a connection in place. Its ticket stays behind, whatever comes of it; to
    /// tidy up is left to the caller.
    pub fn lease_this(
        &self,
        seat: &Seat,
        claim: Claim,
        group: &Members<K>,
        now: u64,
        met: &mut Met,
    ) -> InPlace<K, C> {
        if seat.state.claim(claim.incarnation).is_err() {
            return InPlace::Gone;
        }
        let Some(ticket) = self.core.take_ticket(claim.seat) else {
            self.discard(claim, CloseReason::Cleared);
            return InPlace::Gone;
        };
        let lease = RawLease::new(seat, ticket, now, true);
        let fault = self.fault(seat, group, claim.incarnation + 1, now);
        let Some(fault) = fault else { return InPlace::Leased(lease) };
        met.refused(fault);
        self.refuse(lease, fault);
        InPlace::Refused
    }

    /// Whether the connection of a token, whose record is held, is in its seat. The caller has
    /// loaded the state before.
    fn sits(&self, record: &Record<K, C>, token: Token) -> bool {
        // S3: this was written before the state that the caller has seen. So if it is a
        // later connection's, the caller's incarnation is over.
        self.core.card(record.seat).serial.get() == token.serial
    }

    pub fn meta(&self, lease: &RawLease<K, C>) -> Meta {
        let born = self.core.card(lease.record().seat).born.get();
        Meta {
            age: Duration::from_nanos(self.config.clock.now().saturating_sub(born)),
            // The stamp is that of the last release, until the next one.
            idle_for: Duration::from_nanos(lease.since.saturating_sub(lease.seat().stamp.get())),
            uses: lease.uses(),
            reused: lease.reused,
        }
    }

    /// What an idle connection would say of itself when leased at `now`.
    fn peek(&self, seat: &Seat, claim: Claim, uses_base: u64, now: u64) -> Meta {
        let card = self.core.card(claim.seat);
        Meta {
            age: Duration::from_nanos(now.saturating_sub(card.born.get())),
            idle_for: Duration::from_nanos(now.saturating_sub(seat.stamp.get())),
            uses: (claim.incarnation + 1).wrapping_sub(uses_base),
            reused: true,
        }
    }
}

/// What became of a connection that was to be leased where its ticket lies.
pub(crate) enum InPlace<K, C> {
    Leased(RawLease<K, C>),
    /// It was not fit, and is closed.
    Refused,
    /// Somebody else was faster, or there was no ticket for the lease.
    Gone,
}

/// A connection while it is looked at. It is idle again when this is dropped, also
/// by a panic of the user's closure.
pub(crate) struct Inspection<'a, K, C> {
    engine: &'a Engine<K, C>,
    seat: &'a Seat,
    claim: Claim,
}

impl<K, C> Drop for Inspection<'_, K, C> {
    fn drop(&mut self) {
        let Self { engine, seat, claim } = *self;
        // SAFETY: the inspection owns the seat (S2), until it restores it.
        let record = unsafe { record_of::<K, C>(seat) };
        // SAFETY: the caller holds the pool, and with it the stock (N1).
        let lanes = unsafe { record.group.lanes.lasting() };
        let landing = engine.config.landing.as_ref().map(|landing| {
            // SAFETY: the inspection owns the seat (S2), until it restores it.
            (landing, landing.mark(unsafe { record.connection() }))
        });
        if seat.state.restore(claim.incarnation) {
            engine.check_shelved(seat, claim, lanes);
        } else {
            // A getter met the ticket and removed it. So the seat is still the inspection's.
            match engine.core.take_ticket(claim.seat) {
                Some(ticket) => {
                    let cap = record.group.limits.max_idle();
                    engine.shelve(seat, claim, ticket, lanes, cap);
                }
                None => engine.discard(claim, CloseReason::Cleared),
            }
        }
        if let Some((landing, mark)) = landing
            && let Some(engine) = engine.me.upgrade()
        {
            landing.landed(&Pool::from_engine(engine), mark);
        }
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests;
