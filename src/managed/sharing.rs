//! Those who share: how a stream begins, and how it ends.

mod ends;
mod guards;

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use crate::handle::Group;
use crate::lease::Lease as CoreLease;
use crate::managed::desk::Way;
use crate::managed::manager::Manager;
use crate::managed::pool::Inner;
use crate::managed::slot::Slot;
use crate::managed::streams::{Begun, STREAMS_MAX, State};
use crate::managed::waiting::{ErrorOf, Got, Kind, LeaseOf, Spell};
use crate::sync::Ordering;
pub(crate) use guards::Prospect;
use guards::{Hold, Trial};

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

/// What there is for one who shares, without waiting.
pub(crate) enum Now<K, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    M: Manager<K>,
{
    Taken(Taken<K, M>),
    /// A connection that must be checked. The caller is a prospect.
    Due(LeaseOf<K, M>),
    Nothing,
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
                // SAFETY: the trial has a stream (H4).
                let lease = unsafe { registry.channels.get(channel).lease() };
                let same = std::ptr::eq(lease.members(), Arc::as_ptr(members));
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

    /// A stream of a channel that has room, or the connection that is idle, if there is either
    /// and nobody was here before. Waits for nothing but locks.
    pub fn share_now<Q>(&self, key: &Q) -> Now<K, M>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let engine = self.core.engine();
        let Some(members) = engine.directory.with(key, Arc::clone) else { return Now::Nothing };
        // Acquire: as in `first_stream`.
        let desk = members.annex.load(Ordering::Acquire).checked_sub(1);
        let active = desk.is_some_and(|desk| self.registry.desk(desk).hint().is_some());
        // A look first: to find nothing would count as a miss.
        let any_idle = members.lanes.live(&engine.core) > 0;
        if !active && !any_idle {
            return Now::Nothing;
        }
        // If not, it learns why when it seeks.
        let Ok(visit) = self.registry.visit(&members) else { return Now::Nothing };
        let prospect = match visit.desk().enter() {
            Way::Stream(stream) => {
                let stream = self.admit_begun(stream);
                return stream.map_or(Now::Nothing, |stream| Now::Taken(Taken::Stream(stream)));
            }
            Way::Look => Prospect::of(self, visit.desk),
            Way::Join => return Now::Nothing,
        };
        let raw = if any_idle { engine.lease(&members) } else { None };
        let Some(raw) = raw else { return Now::Nothing };
        let lease = CoreLease::new(self.core.clone(), raw);
        if self.is_due(&lease) {
            prospect.spend();
            return Now::Due(lease);
        }
        match self.activate(lease, prospect) {
            Some(taken) => Now::Taken(taken),
            None => {
                self.registry.tally.diverted();
                Now::Nothing
            }
        }
    }

    /// Whether a stream may be kept that has just begun. Runs the user's `streams`.
    #[inline]
    fn admit(&self, trial: Trial<'_, K, M>, number: u32, state: State) -> Option<Begun> {
        let channel = self.registry.channels.get(trial.channel);
        // SAFETY: the trial has a stream (H4).
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
            // SAFETY: the caller has a stream (H4).
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
        self.note_limit(limit);
        let desk = registry.desk(channel.desk());
        if desk.word.load().is_waiting() {
            desk.serve_streams();
        }
        state.used() <= limit
    }

    /// Maintenance looks after channels that serve nobody.
    fn note_limit(&self, limit: u32) {
        if limit == 0 {
            // Relaxed: a look that comes a step later will do.
            self.registry.barren.store(true, Ordering::Relaxed);
        }
    }

    /// As [`Inner::admit`], of a stream that comes from the desk.
    fn admit_begun(&self, stream: Begun) -> Option<Begun> {
        let state = self.registry.channels.get(stream.channel).streams.load();
        self.admit(Trial { inner: self, channel: stream.channel }, stream.number, state)
    }

    /// A stream, or a connection, for a caller that did not find one at once, or found one that
    /// is due to be checked, as a prospect.
    pub async fn seek_shared(
        self: Arc<Self>,
        group: Group<K, Slot<M::Connection>>,
        mut due: Option<LeaseOf<K, M>>,
        spell: Spell,
    ) -> Result<Taken<K, M>, ErrorOf<K, M>> {
        let visit = self.registry.visit(group.members()).map_err(ErrorOf::<K, M>::GroupLimits)?;
        self.mind(&group, visit.desk);
        let again = || self.registry.lease_again(&self.core, group.members());
        // When it first has to wait, as good as now.
        let mut since = Some(spell.start);
        loop {
            let way = if due.is_some() { Way::Look } else { visit.desk().enter() };
            let prospect = match way {
                Way::Stream(stream) => match self.admit_begun(stream) {
                    Some(stream) => return Ok(self.sought(stream)),
                    None => continue,
                },
                Way::Look => Some(Prospect::of(&self, visit.desk)),
                Way::Join => None,
            };
            if due.is_none() && self.tend(visit.desk) > 0 {
                continue;
            }
            let found = due.take().or_else(|| prospect.as_ref().and_then(|_| again()));
            let (lease, prospect) = match (found, prospect) {
                (Some(lease), Some(prospect)) => (lease, prospect),
                (_, prospect) => {
                    let kind = Kind::Sharing { prospect: prospect.is_some() };
                    prospect.into_iter().for_each(Prospect::spend);
                    let since = since.take().unwrap_or_else(Instant::now);
                    match self.wait(&visit, &group, spell, since, kind).await? {
                        Got::Lease(lease) => (lease, Prospect::of(&self, visit.desk)),
                        Got::Stream(stream) => match self.admit_begun(stream) {
                            Some(stream) => return Ok(self.sought(stream)),
                            None => continue,
                        },
                    }
                }
            };
            // The others wait for it: no longer than for a connect.
            let lease = if self.is_due(&lease) {
                let connect_timeout = self.terms_of(visit.desk).connect_timeout;
                let checked = timeout(connect_timeout, self.check(lease, spell)).await;
                let Some(lease) = checked.unwrap_or(Ok(None))? else { continue };
                lease
            } else {
                lease
            };
            if let Some(taken) = self.activate(lease, prospect) {
                return Ok(taken);
            }
        }
    }

    fn sought(&self, stream: Begun) -> Taken<K, M> {
        if stream.number > 1 {
            self.registry.tally.sought();
        }
        Taken::Stream(stream)
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
        // SAFETY: taken from the arena above, so that it is the caller's (H4).
        unsafe { registry.channels.get(channel).fill(lease, desk, used, limit) };
        prospect.spend();
        let make = || registry.grant(desk);
        let limits = &registry.desk(desk).limits;
        registry.desk(desk).activated(&registry.channels, channel, limit, limits, make);
        self.note_limit(limit);
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
            // SAFETY: it is held (H1, H4).
            let limit = self.manager.streams(unsafe { channel.lease() }).min(STREAMS_MAX);
            if limit != channel.streams.load().limit() {
                self.has_changed(hold.channel, limit);
            }
        }
        self.tend(desk);
    }
}
