//! How connections leave the pool before their time: by token, by group, by
//! predicate, all of them.

use std::time::Duration;

use crate::core::seat::{Phase, Seat};
use crate::core::ticket::Claim;
use crate::engine::{Engine, RawLease};
use crate::error::CloseReason;
use crate::group::Members;
use crate::stats::Meta;
use crate::store::Record;
use crate::token::Token;

impl<K, C> Engine<K, C> {
    /// Takes the idle connection with this token out of the pool.
    pub fn take(&self, token: Token) -> Option<C> {
        let record = self.store.get(token.key)?;
        let seat = self.core.seats.get(record.seat);
        // S3: the word before the serial. If the serial is the token's, so is the
        // incarnation, or seizing it fails.
        let word = seat.state.load();
        let claim = Claim { seat: record.seat, incarnation: word.incarnation() };
        if seat.serial.get() != token.serial || !seat.state.seize(claim.incarnation) {
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
        loop {
            let word = seat.state.load();
            if seat.serial.get() != token.serial {
                return false;
            }
            let claim = Claim { seat: record.seat, incarnation: word.incarnation() };
            match word.phase() {
                Phase::Idle if seat.state.seize(claim.incarnation) => {
                    self.discard(claim, CloseReason::Removed);
                    return true;
                }
                Phase::Idle => {}
                Phase::Vacant | Phase::Claimed => return false,
                Phase::Leased | Phase::Inspected | Phase::Orphaned => {
                    if self.doom(&record, seat, token.serial) {
                        return true;
                    }
                }
            }
        }
    }

    /// Sees to it that a connection in use is not used again. False if it has
    /// become idle meanwhile, perhaps without its holder seeing the doom.
    fn doom(&self, record: &Record<K, C>, seat: &Seat, serial: u64) -> bool {
        seat.doom(serial);
        // A release sees the doom after its push, or we see what it did before;
        // likewise whoever restores an inspected seat.
        record.group.lanes.barrier();
        seat.state.touch().phase() != Phase::Idle || seat.serial.get() != serial
    }

    /// Closes the idle connections of a group.
    pub fn clear(&self, group: &Members<K>, reason: CloseReason) {
        group.lanes.drain(&self.core, |claim| {
            let seat = self.core.seats.get(claim.seat);
            loop {
                if seat.state.seize(claim.incarnation) {
                    return self.discard(claim, reason);
                }
                // `retain` holds it, and must know that its ticket is gone.
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
        self.clear_all(CloseReason::Closed);
    }

    /// Shows each idle connection to `keep`, and closes those that it refuses.
    pub fn retain(&self, mut keep: impl FnMut(&K, &Meta, &mut C) -> bool) {
        let now = self.config.clock.now();
        self.inspect_idle(|record, seat, incarnation| {
            let meta = peek(seat, incarnation, now);
            // SAFETY: an inspector owns the seat, and makes no other reference.
            let connection = unsafe { record.connection_mut() };
            keep(&record.group.key, &meta, connection).then_some(()).ok_or(CloseReason::Cleared)
        });
    }

    /// Closes the idle connections that were invalidated.
    pub fn sweep(&self) {
        self.inspect_idle(|record, seat, _| {
            let fit = seat.generation() == self.generation_of(&record.group);
            fit.then_some(()).ok_or(CloseReason::Invalidated)
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
            let generation = self.generation();
            if word.phase() != Phase::Idle || !seat.state.inspect(claim.incarnation) {
                continue;
            }
            let inspection = Inspection { engine: self, seat, claim, generation };
            let place = self.record(seat);
            // SAFETY: the inspection owns the seat, and the record with it.
            let record = unsafe { place.as_ref() };
            if let Err(reason) = judge(record, seat, claim.incarnation) {
                std::mem::forget(inspection);
                self.discard(claim, reason);
            }
        }
    }

    /// Leases the newest connection that `wanted` agrees to. The others stay where
    /// they are.
    pub fn lease_if(
        &self,
        group: &Members<K>,
        mut wanted: impl FnMut(&Meta) -> bool,
    ) -> Option<RawLease<K, C>> {
        let now = self.config.clock.now();
        let mut lease = None;
        group.lanes.walk(&self.core, |claim| {
            let seat = self.core.seats.get(claim.seat);
            if seat.is_expired(now) || !seat.state.load().honours(claim.incarnation) {
                return true;
            }
            if wanted(&peek(seat, claim.incarnation, now)) {
                lease = self.lease_this(seat, claim, group, now);
            }
            lease.is_none()
        });
        if lease.is_none() {
            self.counters.misses.add();
        }
        lease
    }

    /// Leases a connection in place. Its ticket stays behind.
    fn lease_this(
        &self,
        seat: &Seat,
        claim: Claim,
        group: &Members<K>,
        now: u64,
    ) -> Option<RawLease<K, C>> {
        let ticket = self.core.tickets.take()?;
        if seat.state.claim(claim.incarnation).is_err() {
            self.core.tickets.give(ticket);
            return None;
        }
        let lease = self.begin(seat, claim, ticket, now);
        self.tidy(group);
        match self.fault(&lease, seat, group, now) {
            None => Some(lease),
            Some(reason) => {
                self.end(lease, reason);
                None
            }
        }
    }

    pub fn meta(&self, lease: &RawLease<K, C>) -> Meta {
        let seat = self.core.seats.get(lease.seat);
        // SAFETY: the lease owns the seat, and the record with it.
        let record = unsafe { lease.record.as_ref() };
        let age = self.config.clock.now().saturating_sub(seat.born.get());
        Meta {
            age: Duration::from_nanos(age),
            idle_for: Duration::from_nanos(lease.idle_for),
            uses: lease.incarnation.wrapping_sub(record.uses_base),
            reused: lease.reused,
        }
    }
}

/// What an idle connection would say of itself when leased at `now`.
fn peek(seat: &Seat, incarnation: u64, now: u64) -> Meta {
    Meta {
        age: Duration::from_nanos(now.saturating_sub(seat.born.get())),
        idle_for: Duration::from_nanos(now.saturating_sub(seat.stamp.get())),
        uses: u64::from(seat.uses(incarnation)) + 1,
        reused: true,
    }
}

/// A connection while it is looked at. It is idle again when this is dropped, also
/// by a panic of the user's closure.
struct Inspection<'a, K, C> {
    engine: &'a Engine<K, C>,
    seat: &'a Seat,
    claim: Claim,
    /// The pool's, before.
    generation: u32,
}

impl<K, C> Drop for Inspection<'_, K, C> {
    fn drop(&mut self) {
        let Self { engine, seat, claim, generation } = *self;
        let serial = seat.serial.get();
        if seat.state.restore(claim.incarnation) {
            engine.check_shelved(claim, serial, generation);
            return;
        }
        // A getter met the ticket and removed it.
        let place = engine.record(seat);
        // SAFETY: the inspection still owns the seat, and the record with it.
        let record = unsafe { place.as_ref() };
        match engine.core.tickets.take() {
            Some(ticket) => engine.shelve(seat, claim, ticket, generation, &record.group),
            None => engine.discard(claim, CloseReason::Cleared),
        }
    }
}
