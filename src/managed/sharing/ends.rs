//! The end of a stream, and of a channel.

use std::hash::Hash;
use std::sync::atomic::Ordering;

use crate::connection::Liveness;
use crate::error::CloseReason;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::streams::State;
use crate::managed::waiting::LeaseOf;

/// How a channel comes to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Its connection is of use.
    Release,
    Drain,
    Dead,
}

impl Ending {
    fn of(state: State) -> Self {
        match (state.is_dead(), state.is_draining()) {
            (true, _) => Self::Dead,
            (false, true) => Self::Drain,
            (false, false) => Self::Release,
        }
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// A stream ends, or a hold: the next who shares gets it, or the channel runs dry.
    #[inline]
    pub fn end_stream(&self, index: u32) {
        let channel = self.registry.channels.get(index);
        let desk = channel.desk();
        self.ended(index, desk, channel.streams.close());
    }

    /// As [`Inner::end_stream`], of one that nobody has used.
    #[cold]
    pub fn undo_stream(&self, index: u32) {
        let channel = self.registry.channels.get(index);
        let desk = channel.desk();
        self.ended(index, desk, channel.streams.undo());
    }

    #[inline]
    fn ended(&self, index: u32, desk: u32, state: State) {
        if state.is_parked() {
            return self.finish(index, Ending::of(state));
        }
        // The desk may be another peer's by now: then these find nothing.
        let desk = self.registry.desk(desk);
        if state.has_room() {
            desk.warm(&self.registry.channels, index);
        }
        if desk.word.load().is_waiting() {
            desk.serve_streams();
        }
    }

    /// The end of a channel that the caller has parked.
    #[inline(never)]
    fn finish(&self, index: u32, ending: Ending) {
        let registry = &self.registry;
        let channel = registry.channels.get(index);
        // So that the desk stays when the connection goes.
        let visit = registry.stay(channel.desk());
        let opened = channel.streams.load().opened();
        // SAFETY: the caller has parked the channel (H2).
        let mut lease = unsafe { channel.take() };
        lease.charge(u64::from(opened).saturating_sub(1));
        registry.tally.ended(u64::from(opened));
        match ending {
            Ending::Release => lease.release(),
            Ending::Dead => lease.close_dead(),
            Ending::Drain => {
                // Whatever else would have ended it: one use more than it has had.
                let reason = lease.fault(2).unwrap_or(CloseReason::Drained);
                lease.end(reason);
            }
        }
        registry.look(&self.core, visit.desk);
        let desk = visit.desk();
        // Not sooner: until here it counted as one that is coming.
        desk.strike(index, &desk.limits, || registry.grant(visit.desk));
        registry.channels.give(index);
    }

    /// Looks at all channels that are suspended, if there may be any.
    pub fn tend_all(&self) {
        // Relaxed: see `note_limit`.
        if !self.registry.barren.swap(false, Ordering::Relaxed) {
            return;
        }
        for desk in self.registry.all() {
            self.tend(desk);
            if self.registry.desk(desk).has_barren_channels() {
                self.registry.barren.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Looks at the channels of a peer that are suspended. Returns how many are so no more.
    pub fn tend(&self, desk: u32) -> usize {
        let suspended = self.registry.desk(desk).suspended();
        suspended.into_iter().filter(|&index| self.tend_one(index)).count()
    }

    fn tend_one(&self, index: u32) -> bool {
        let channel = self.registry.channels.get(index);
        if !channel.streams.seize() {
            return false;
        }
        let opened = u64::from(channel.streams.load().opened());
        let look = |lease: &mut LeaseOf<K, M>| {
            if lease.fault(opened + 1).is_some() {
                return Some(Ending::Drain);
            }
            match self.manager.probe(lease) {
                Liveness::Alive if self.manager.streams(lease) == 0 => None,
                Liveness::Alive => Some(Ending::Release),
                Liveness::Closed | Liveness::UnexpectedData => Some(Ending::Dead),
            }
        };
        // SAFETY: parked above (H2).
        let ending =
            unsafe { channel.with_owned(|lease| self.core.engine().shielded(|| look(lease))) };
        // What panics is of no more use.
        match ending.unwrap_or(Some(Ending::Dead)) {
            None if channel.streams.suspend() => return false,
            None => self.finish(index, Ending::Drain),
            Some(ending) => self.finish(index, ending),
        }
        true
    }

    /// The channels of a peer take no more streams. Those that nobody uses are closed.
    pub fn drain_channels(&self, desk: u32) {
        for index in self.registry.desk(desk).drain_channels() {
            self.finish(index, Ending::Drain);
        }
    }
}

impl<K, M> Drop for Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        // Nobody has a stream any more: what is left are channels that are suspended, whose
        // leases keep the pool below.
        for desk in self.registry.all() {
            self.drain_channels(desk);
        }
    }
}
