//! Those who share: how a stream begins, and how it ends.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use crate::connection::Liveness;
use crate::error::CloseReason;
use crate::handle::Group;
use crate::managed::desk::Way;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::slot::Slot;
use crate::managed::streams::{Begun, STREAMS_MAX, State};
use crate::managed::waiting::{ErrorOf, Got, Kind, LeaseOf, Spell};
use crate::sync::Ordering;

/// What one who shares has got.
pub(crate) enum Taken<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// A connection that serves one at a time.
    Alone(LeaseOf<K, M>),
    Stream(Begun),
}

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

/// One who is about to open a connection to the others who share, or looks for one.
pub(crate) struct Prospect<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    inner: &'a Inner<K, M>,
    desk: u32,
    /// Whether the desk still counts it.
    counts: bool,
}

impl<'a, K, M> Prospect<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    /// One that the desk has counted.
    pub fn of(inner: &'a Inner<K, M>, desk: u32) -> Self {
        Self { inner, desk, counts: true }
    }

    /// The caller says to the desk what came of it.
    fn spend(mut self) {
        self.counts = false;
    }

    /// It has a connection that serves one at a time.
    fn alone(mut self) {
        self.counts = false;
        self.end(true);
    }

    fn end(&self, alone: bool) {
        let registry = &self.inner.registry;
        let make = || registry.permit(self.desk);
        registry.desk(self.desk).unprospect(alone, registry.bounds, make);
    }
}

impl<K, M> Drop for Prospect<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        if self.counts {
            self.end(false);
        }
    }
}

/// A stream that may not be kept: it is as if it had never begun, when this is dropped.
struct Trial<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    inner: &'a Inner<K, M>,
    channel: u32,
}

impl<K, M> Drop for Trial<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        self.inner.undo_stream(self.channel);
    }
}

/// A channel that is held for a look. It is let go when this is dropped.
struct Hold<'a, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    inner: &'a Inner<K, M>,
    channel: u32,
}

impl<K, M> Drop for Hold<'_, K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    fn drop(&mut self) {
        self.inner.end_stream(self.channel);
    }
}

impl<K, M> Inner<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
    M::Connection: Sync,
{
    /// A stream of the warmest channel of a peer, if it has room and nobody waits. Takes no
    /// lock, and does not allocate.
    #[inline]
    pub fn first_stream<Q>(&self, key: &Q) -> Option<Begun>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let registry = &*self.registry;
        let (trial, state, desk, same) = self.core.engine().directory.with_or(
            key,
            |members| {
                // Acquire: pairs with the Release in `visit`, so that the desk is there.
                let desk = members.annex.load(Ordering::Acquire).checked_sub(1)?;
                let channel = registry.desk(desk).hint()?;
                let state = registry.channels.get(channel).streams.open().ok()?;
                let trial = Trial { inner: self, channel };
                // Desk and channel may be another peer's by now.
                // SAFETY: the trial has a stream.
                let lease = unsafe { registry.channels.get(channel).lease() };
                let same = Arc::ptr_eq(lease.members(), members);
                Some((trial, state, desk, same))
            },
            |_| None,
        )?;
        if !same {
            return None;
        }
        let stream = self.admit(trial, state.opened(), state)?;
        let desk = registry.desk(desk);
        if desk.word.load().is_waiting() && !desk.claim_stream(stream) {
            return None;
        }
        Some(stream)
    }

    /// Whether a stream may be kept that has just begun. Runs the user's `streams`.
    #[inline]
    fn admit(&self, trial: Trial<'_, K, M>, number: u32, state: State) -> Option<Begun> {
        let channel = self.registry.channels.get(trial.channel);
        // SAFETY: the trial has a stream.
        let lease = unsafe { channel.lease() };
        if lease.fault(u64::from(number)).is_some() {
            // The trial has a stream, so that this parks nothing.
            let _parked = channel.streams.drain(false);
            return None;
        }
        let limit = self.manager.streams(lease).min(STREAMS_MAX);
        if limit != state.limit() && !self.has_changed(trial.channel, limit) {
            return None;
        }
        let stream = Begun { channel: trial.channel, number };
        std::mem::forget(trial);
        Some(stream)
    }

    /// The end of a stream that was used. If it might go to one who waits, and should not,
    /// nobody gets it.
    #[inline]
    pub fn leave_stream(&self, index: u32) {
        let registry = &*self.registry;
        let channel = registry.channels.get(index);
        if registry.desk(channel.desk()).word.load().is_waiting() {
            // SAFETY: the caller has a stream.
            let lease = unsafe { channel.lease() };
            let next = u64::from(channel.streams.load().opened()) + 1;
            if lease.fault(next).is_some() {
                // The caller has a stream, so that this parks nothing.
                let _parked = channel.streams.drain(false);
            }
        }
        self.end_stream(index);
    }

    /// A channel can serve another number than it could. False if it serves more than that.
    /// The caller has a stream of it.
    #[cold]
    fn has_changed(&self, channel: u32, limit: u32) -> bool {
        let registry = &*self.registry;
        let channel = registry.channels.get(channel);
        let state = channel.streams.set_limit(limit);
        let desk = registry.desk(channel.desk());
        if desk.word.load().is_waiting() {
            desk.serve_streams();
        }
        state.used() <= limit
    }

    /// As [`Inner::admit`], of a stream that comes from the desk.
    fn admit_begun(&self, stream: Begun) -> Option<Begun> {
        let state = self.registry.channels.get(stream.channel).streams.load();
        self.admit(Trial { inner: self, channel: stream.channel }, stream.number, state)
    }

    /// A stream, or a connection, for a caller that did not find one at once.
    pub async fn seek_shared(
        self: Arc<Self>,
        group: Group<K, Slot<M::Connection>>,
        spell: Spell,
    ) -> Result<Taken<K, M>, ErrorOf<K, M>> {
        let visit = self.registry.visit(group.members());
        loop {
            let prospect = match visit.desk().enter() {
                Way::Stream(stream) => match self.admit_begun(stream) {
                    Some(stream) => return Ok(Taken::Stream(stream)),
                    None => continue,
                },
                Way::Look => Some(Prospect::of(&self, visit.desk)),
                Way::Join => None,
            };
            if self.tend(visit.desk) > 0 {
                continue;
            }
            let found = prospect.as_ref().and_then(|_| group.get_owned());
            let (lease, prospect) = match (found, prospect) {
                (Some(lease), Some(prospect)) => (lease, prospect),
                (_, prospect) => {
                    let kind = Kind::Sharing { prospect: prospect.is_some() };
                    prospect.into_iter().for_each(Prospect::spend);
                    match self.wait(&visit, &group, spell, kind).await? {
                        Got::Lease(lease) => (lease, Prospect::of(&self, visit.desk)),
                        Got::Stream(stream) => match self.admit_begun(stream) {
                            Some(stream) => return Ok(Taken::Stream(stream)),
                            None => continue,
                        },
                    }
                }
            };
            let Some(lease) = self.check(lease, spell).await? else { continue };
            if let Some(taken) = self.activate(lease, prospect) {
                return Ok(taken);
            }
        }
    }

    /// Opens a connection to all who share, if it serves several. `None` if it serves none
    /// for now.
    fn activate(&self, lease: LeaseOf<K, M>, prospect: Prospect<'_, K, M>) -> Option<Taken<K, M>> {
        let limit = self.manager.streams(&lease).min(STREAMS_MAX);
        if limit == 1 {
            prospect.alone();
            return Some(Taken::Alone(lease));
        }
        let (registry, desk) = (&self.registry, prospect.desk);
        let channel = registry.channels.take().expect("there are more channels than connections");
        let used = limit.min(1);
        // SAFETY: taken from the arena above.
        unsafe { registry.channels.get(channel).fill(lease, desk, used, limit) };
        prospect.spend();
        let make = || registry.permit(desk);
        registry.desk(desk).activated(&registry.channels, channel, limit, registry.bounds, make);
        if used == 0 {
            // The pool may have been closed before it was listed.
            self.tend(desk);
            return None;
        }
        Some(Taken::Stream(Begun { channel, number: 1 }))
    }

    /// Asks the channels of a peer how many streams they can have.
    pub fn refresh(&self, desk: u32) {
        let channels = &self.registry.channels;
        let held = self.registry.desk(desk).hold_channels();
        let held: Vec<_> = held.into_iter().map(|channel| Hold { inner: self, channel }).collect();
        for hold in held {
            let channel = channels.get(hold.channel);
            // SAFETY: it is held.
            let limit = self.manager.streams(unsafe { channel.lease() }).min(STREAMS_MAX);
            if limit != channel.streams.load().limit() {
                self.has_changed(hold.channel, limit);
            }
        }
        self.tend(desk);
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
        match ending {
            Ending::Release => lease.release(),
            Ending::Dead => lease.close_dead(),
            Ending::Drain => {
                // Whatever else would have ended it: one use more than it has had.
                let reason = lease.fault(2).unwrap_or(CloseReason::Drained);
                lease.end(reason);
            }
        }
        let desk = visit.desk();
        if desk.word.load().is_waiting() {
            registry.serve(&self.core, visit.desk);
        }
        // Not sooner: until here it counted as one that is coming.
        desk.strike(index, registry.bounds, || registry.permit(visit.desk));
        registry.channels.give(index);
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
        // SAFETY: parked above.
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
