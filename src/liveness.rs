//! What the pool does to know how its connections are: it asks those that it is about
//! to lease, is told of those that it can watch, and asks the others now and then.

use std::task::{Context, Poll};

use crate::config::Probe;
use crate::connection::Liveness;
use crate::core::seat::Seat;
use crate::core::ticket::Claim;
use crate::engine::{Engine, record_of};
use crate::error::CloseReason;
use crate::group::Members;
use crate::time::NEVER;

impl<K, C> Engine<K, C> {
    /// Why a connection that comes out of the pool may not be leased, if so. The caller
    /// owns its seat, in this incarnation.
    #[inline(always)]
    pub fn fault(
        &self,
        seat: &Seat,
        group: &Members<K>,
        incarnation: u64,
        now: u64,
    ) -> Option<CloseReason> {
        if !self.is_fit(seat, group, incarnation, now) && !self.is_spared(seat, group, now) {
            return Some(self.unfitness(seat, now));
        }
        match self.config.probe {
            Probe::None => None,
            Probe::Ask(_) | Probe::Watch { .. } => self.fault_by_probe(seat, group, now),
        }
    }

    #[inline(never)]
    fn fault_by_probe(&self, seat: &Seat, group: &Members<K>, now: u64) -> Option<CloseReason> {
        let idle_for = now.saturating_sub(seat.stamp.get());
        if idle_for < self.tuning.probe_after() {
            return None;
        }
        // SAFETY: the caller owns the seat (S2).
        let fault = unsafe { self.ask_liveness(seat) }.err()?;
        if fault == CloseReason::Dead {
            self.learn(group, idle_for);
        }
        Some(fault)
    }

    /// Asks a connection how it is.
    ///
    /// # Safety
    ///
    /// The caller owns the seat.
    unsafe fn ask_liveness(&self, seat: &Seat) -> Result<(), CloseReason> {
        // SAFETY: the caller owns the seat (S2).
        let record = unsafe { record_of::<K, C>(seat) };
        // SAFETY: as above, and there is no other reference.
        let connection = unsafe { record.connection_mut() };
        self.verdict(|| match &self.config.probe {
            Probe::None => Liveness::Alive,
            Probe::Ask(ask) => ask(connection),
            Probe::Watch { ask, .. } => ask(connection),
        })
    }

    /// Asks a connection that is idle, or is about to be, how it is, and watches it from
    /// now on if it can be watched. If it no longer can, it gets an alarm.
    ///
    /// # Safety
    ///
    /// The caller owns the seat, which has number `index`.
    #[inline(always)]
    pub unsafe fn listen(&self, seat: &Seat, index: u32) -> Result<(), CloseReason> {
        let Probe::Watch { poll, .. } = self.config.probe else {
            // SAFETY: by the caller's promise.
            return unsafe { self.ask_liveness(seat) };
        };
        // SAFETY: by the caller's promise; seats are covered when they are filled.
        if unsafe { self.bells.is_listening(index) } {
            return Ok(());
        }
        // SAFETY: by the caller's promise.
        unsafe { self.listen_anew(seat, index, poll) }
    }

    /// As [`Engine::listen`], if the bell is not registered any more.
    ///
    /// # Safety
    ///
    /// As [`Engine::listen`], of a pool that watches.
    #[inline(never)]
    unsafe fn listen_anew(
        &self,
        seat: &Seat,
        index: u32,
        poll: fn(&mut C, &mut Context<'_>) -> Poll<Liveness>,
    ) -> Result<(), CloseReason> {
        // SAFETY: the caller owns the seat (S2).
        let record = unsafe { record_of::<K, C>(seat) };
        // SAFETY: as above, and there is no other reference.
        let connection = unsafe { record.connection_mut() };
        let mut lost = false;
        self.verdict(|| {
            // SAFETY: by the caller's promise; seats are covered when they are filled.
            unsafe { self.bells.listen(index, &mut lost, |cx| poll(connection, cx)) }
        })?;
        if lost {
            self.hurry_probe(index);
        }
        Ok(())
    }

    /// Runs the user's probe. A connection whose probe panics is not fit for use.
    fn verdict(&self, probe: impl FnOnce() -> Liveness) -> Result<(), CloseReason> {
        match self.shielded(probe).unwrap_or(Liveness::Closed) {
            Liveness::Alive => Ok(()),
            Liveness::Closed => Err(CloseReason::Dead),
            Liveness::UnexpectedData => Err(CloseReason::UnexpectedData),
        }
    }

    /// Looks at an idle connection whose bell was rung, or that cannot be watched. A
    /// getter that meets it meanwhile waits, and gets it if it is alive. True if it was
    /// closed.
    pub fn examine(&self, claim: Claim) -> bool {
        let seat = self.core.seats.get(claim.seat);
        let Some(inspection) = self.inspect(seat, claim) else {
            // Somebody else has it: what it rang for must not be forgotten. If the pool
            // was closed, it is the closer's.
            if !self.is_closed() {
                self.bells.belfry().keep(claim.seat);
            }
            return false;
        };
        // SAFETY: the inspection owns the seat (S2).
        match unsafe { self.listen(seat, claim.seat) } {
            Ok(()) => false,
            Err(reason) => {
                if reason == CloseReason::Dead {
                    // SAFETY: the inspection owns the seat (S2).
                    let group = unsafe { &record_of::<K, C>(seat).group };
                    self.learn(group, self.config.clock.now().saturating_sub(seat.stamp.get()));
                }
                std::mem::forget(inspection);
                self.discard(claim, reason);
                true
            }
        }
    }

    /// How long an idle connection in this seat may go without being asked, in
    /// nanoseconds.
    pub fn probe_interval(&self, seat: u32) -> u64 {
        match &self.config.probe {
            Probe::None => NEVER,
            Probe::Watch { .. } if self.bells.is_watched(seat) => NEVER,
            Probe::Ask(_) | Probe::Watch { .. } => self.tuning.probe_interval(),
        }
    }
}
