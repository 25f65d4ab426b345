//! The hub of a desk: connections that serve several at a time, and those who share them.
//!
//! The *warmest* channel, the one that is active for longest, is filled first, so that those
//! which are not needed run dry and become idle.
//!
//! # The handshake
//!
//! As in `desk.rs`: who waits *joins first, and looks then*; who ends a stream *ends it first,
//! and looks at the line then*. They meet in the word of the channel, which the waiter touches
//! by a read-modify-write before it looks for room.
//!
//! # What counts as coming
//!
//! A connect is started only for what nothing else is about to serve:
//!
//! * *prospects*: connections that one who shares has, or looks for, and will open to the
//!   others;
//! * *parked* channels: whoever has parked one is about to hand its connection on, or to make
//!   it idle. It stays in the list until that is done, and connects are looked at then;
//! * *suspended* ones, whose limit is 0 for now, for those who share.
//!
//! How many a connection will serve is guessed to be what the last one did; all, at first, so
//! that one connect is started for all who share.

use std::mem;
use std::sync::Arc;

use super::{Desk, LineFull, Room, Ticket, Trade, after::After};
use crate::managed::channel::Channels;
use crate::managed::desk::Joins;
use crate::managed::limits::Limits;
use crate::managed::streams::Begun;
use crate::sync::Ordering;

/// See the module. Under the lock of the desk.
pub struct Hub<L> {
    /// Where the channels are, once there was one.
    home: Option<Arc<Channels<L>>>,
    /// Those that are active, in the order of activation.
    active: Vec<u32>,
    /// The number of the next one in that order.
    next: u32,
    prospects: usize,
    /// How many a connection is thought to serve; 0 if that is not known.
    expected: u32,
}

/// What one who shares may do who has just come.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// This stream is its own.
    Stream(Begun),
    /// It may look for an idle connection, being a prospect.
    Look,
    /// Others were here before.
    Join,
}

/// What there is of channels at a desk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bench {
    /// Active channels.
    pub channels: usize,
    /// Their streams.
    pub streams: usize,
    /// Streams that they have had, but for the first of each.
    pub joined: u64,
}

impl<L> Default for Hub<L> {
    fn default() -> Self {
        Self { home: None, active: Vec::new(), next: 0, prospects: 0, expected: 0 }
    }
}

impl<L> Hub<L> {
    /// A connection was given to one in the line, who shares or does not.
    pub(super) fn note_prospect(&mut self, shares: bool) {
        self.prospects += usize::from(shares);
    }

    /// Whether a connection is about to be opened to those who share.
    pub(super) fn has_prospects(&self) -> bool {
        self.prospects > 0
    }

    /// What a hub has that is nobody's any more.
    #[must_use = "to be dropped without the lock"]
    pub(super) fn clear(&mut self) -> Self {
        debug_assert!(self.active.is_empty() && self.prospects == 0, "they keep the desk");
        mem::take(self)
    }

    /// A stream of the warmest channel that has room.
    fn open(&self) -> Option<Begun> {
        let home = self.home.as_ref()?;
        self.active.iter().find_map(|&channel| {
            let number = home.get(channel).streams.open().ok()?.opened();
            Some(Begun { channel, number })
        })
    }

    /// Parked channels, and suspended ones.
    fn coming(&self) -> (usize, usize) {
        let Some(home) = &self.home else { return (0, 0) };
        let states = self.active.iter().map(|&index| home.get(index).streams.load());
        states.fold((0, 0), |(parked, suspended), state| {
            let hands_on = state.is_parked() && !state.is_draining();
            (parked + usize::from(hands_on), suspended + usize::from(state.is_suspended()))
        })
    }
}

impl<T: Trade> Room<T> {
    /// How many connects are wanted, those under way included.
    pub(super) fn wanted(&self) -> usize {
        let (all, shared) = (self.line.demand(), self.line.demand_to_share());
        if self.hub.active.is_empty() && shared == 0 {
            return all;
        }
        let (parked, suspended) = self.hub.coming();
        let each = if self.hub.expected == 0 { usize::MAX } else { self.hub.expected as usize };
        let to_share = shared.div_ceil(each).saturating_sub(self.hub.prospects + suspended);
        (all - shared + to_share).saturating_sub(parked)
    }
}

impl<T: Trade> Desk<T> {
    /// The channel that the next stream should be of.
    #[inline(always)]
    pub fn hint(&self) -> Option<u32> {
        // Acquire: pairs with `set_hint`, so that the place is there. It is advice, and stays a
        // channel whatever becomes of it.
        self.hint.load(Ordering::Acquire).checked_sub(1)
    }

    fn set_hint(&self, channel: Option<u32>) {
        // Release: pairs with `hint`.
        self.hint.store(channel.map_or(0, |index| index + 1), Ordering::Release);
    }

    /// There is room in a channel again: if it is warmer than the one that streams are taken
    /// of now, the next are taken of this.
    #[inline(always)]
    pub fn warm(&self, channels: &Channels<T::Lease>, index: u32) {
        let hint = self.hint();
        if hint == Some(index) {
            return;
        }
        let order = channels.get(index).order();
        // They are numbered in a ring.
        let colder = |other| (order.wrapping_sub(channels.get(other).order()) as i32) < 0;
        if hint.is_none_or(colder) {
            self.set_hint(Some(index));
        }
    }

    /// What one who shares may do. For `Look`, it is a prospect until it says what came of it.
    pub fn enter(&self) -> Way {
        let mut room = self.lock();
        if room.line.first_sharing().is_none() {
            let open = room.hub.open();
            self.set_hint(open.map(|stream| stream.channel));
            if let Some(stream) = open {
                return Way::Stream(stream);
            }
        }
        if !room.line.is_empty() {
            return Way::Join;
        }
        room.hub.prospects += 1;
        Way::Look
    }

    /// As [`Desk::join`], of one who shares. `prospect`: it was one, and has found nothing.
    pub fn join_sharing(
        &self,
        who: T::Waiter,
        how: Joins,
        bounds: &Limits,
        make: impl Fn() -> T::Grant,
        prospect: bool,
    ) -> Result<Ticket, LineFull> {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        room.hub.prospects -= usize::from(prospect);
        let failures = room.failures;
        // Nothing can be returned where nothing is.
        let wants = how != Joins::Patient || self.word.load().connections() == 0;
        let id = room.line.join_sharing(who, wants);
        // In the line first, and looks then.
        self.word.set_waiting(true);
        if let Some(home) = &room.hub.home {
            room.hub.active.iter().for_each(|&index| home.get(index).streams.touch());
        }
        self.hand_streams(&mut room, &mut after);
        self.allot(&mut room, bounds, make, &mut after);
        let covered = self.word.load().connecting() as usize;
        let alone = room.line.waiting().saturating_sub(covered);
        let full = alone > bounds.load().waiters as usize
            && room.line.waits(id)
            && !room.line.is_granted(id);
        if full {
            let left = room.line.leave(id);
            after.note((left.waker, left.grant));
        }
        self.settle(&mut room.line, &mut after);
        if full { Err(LineFull) } else { Ok(Ticket { id, failures }) }
    }

    /// A newcomer has a stream while others wait: it keeps it only if none of them shares.
    /// True if it does.
    pub fn claim_stream(&self, stream: Begun) -> bool {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let Some(first) = room.line.first_sharing() else { return true };
        after.note(room.line.resolve_with_stream(first, stream));
        self.settle(&mut room.line, &mut after);
        false
    }

    /// Hands streams to those who wait to share, as far as there is room.
    #[cold]
    pub fn serve_streams(&self) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        self.hand_streams(&mut room, &mut after);
    }

    fn hand_streams(&self, room: &mut Room<T>, after: &mut After<T>) {
        while let Some(id) = room.line.first_sharing() {
            let Some(stream) = room.hub.open() else { break };
            after.note(room.line.resolve_with_stream(id, stream));
        }
        self.settle(&mut room.line, after);
    }

    /// A prospect has opened its connection to the others: they get what there is.
    pub fn activated(
        &self,
        channels: &Arc<Channels<T::Lease>>,
        index: u32,
        limit: u32,
        bounds: &Limits,
        make: impl Fn() -> T::Grant,
    ) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        let hub = &mut room.hub;
        hub.prospects -= 1;
        hub.home.get_or_insert_with(|| Arc::clone(channels));
        channels.get(index).set_order(hub.next);
        hub.next = hub.next.wrapping_add(1);
        hub.active.push(index);
        if limit > 0 {
            hub.expected = limit;
        }
        self.hand_streams(&mut room, &mut after);
        if self.hint().is_none() && channels.get(index).streams.load().has_room() {
            self.set_hint(Some(index));
        }
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// A prospect has come to nothing, or to a connection that serves one at a time.
    pub fn unprospect(&self, alone: bool, bounds: &Limits, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        room.hub.prospects -= 1;
        if alone {
            room.hub.expected = 1;
        }
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// The owner of a channel has handed its connection on. The channel is still the owner's.
    pub fn strike(&self, index: u32, bounds: &Limits, make: impl Fn() -> T::Grant) {
        let mut after = After::<T>::default();
        let mut room = self.lock();
        room.hub.active.retain(|&other| other != index);
        if self.hint() == Some(index) {
            self.set_hint(None);
        }
        self.allot(&mut room, bounds, make, &mut after);
    }

    /// No stream begins any more of the channels that are active now. Those that nobody uses
    /// are the caller's.
    #[must_use = "a channel that is parked is the caller's"]
    pub fn drain_channels(&self) -> Vec<u32> {
        let room = self.lock();
        let Some(home) = &room.hub.home else { return Vec::new() };
        let drain = |index: &u32| home.get(*index).streams.drain(false);
        room.hub.active.iter().copied().filter(drain).collect()
    }

    /// Holds the channels that are in use, for a look. The caller lets them go.
    #[must_use = "a channel that is held must be let go"]
    pub fn hold_channels(&self) -> Vec<u32> {
        let room = self.lock();
        let Some(home) = &room.hub.home else { return Vec::new() };
        let hold = |index: &u32| home.get(*index).streams.hold();
        room.hub.active.iter().copied().filter(hold).collect()
    }

    /// Those that are suspended now.
    pub fn suspended(&self) -> Vec<u32> {
        let room = self.lock();
        let Some(home) = &room.hub.home else { return Vec::new() };
        let suspended = |index: &u32| home.get(*index).streams.load().is_suspended();
        room.hub.active.iter().copied().filter(suspended).collect()
    }

    /// Whether there is one that serves nobody for now, or will when its last stream ends.
    pub fn has_barren_channels(&self) -> bool {
        let room = self.lock();
        let Some(home) = &room.hub.home else { return false };
        room.hub.active.iter().any(|&index| home.get(index).streams.load().limit() == 0)
    }

    /// How many there are.
    pub fn bench(&self) -> Bench {
        let room = self.lock();
        let Some(home) = &room.hub.home else { return Bench::default() };
        let mut bench = Bench { channels: room.hub.active.len(), ..Bench::default() };
        for state in room.hub.active.iter().map(|&index| home.get(index).streams.load()) {
            bench.streams += state.used() as usize;
            // Who has parked one has counted them.
            let open = !state.is_parked();
            bench.joined += u64::from(state.opened()).saturating_sub(1) * u64::from(open);
        }
        bench
    }
}
