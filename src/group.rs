//! What the connections under one key share.

use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::core::stock::Loan;
use crate::engine::Engine;
use crate::limits::Limits;
use crate::reconfigure::Own;
use crate::stats::GroupTally;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// One group, as the pool has it. [`Group`](crate::Group) is the user's handle.
pub(crate) struct Members<K> {
    /// Where the idle connections are. Apart from the rest, which is read-mostly.
    pub lanes: Loan,
    pub limits: Limits,
    /// The settings that the limits differ by from those of the pool.
    pub own: Own,
    /// Void tickets left in the lanes since they were compacted last; about.
    garbage: AtomicU32,
    pub roll: Roll,
    pub tally: GroupTally,
    /// Whether settings of its own keep the group, as one more handle.
    pub configured: AtomicBool,
    /// For the layer above: the number of the peer's desk there, and one. 0 is none. Advice.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "there is no layer above"))]
    pub annex: AtomicU32,
    /// Of the key, for the directory.
    pub hash: u64,
    pub key: ManuallyDrop<K>,
}

/// Void tickets that a group may have, besides as many as it has connections.
const GARBAGE_ALLOWED: u32 = 32;

impl<K> Members<K> {
    /// A group that one connection or handle has entered.
    pub fn new(key: K, hash: u64, lanes: Loan, limits: Limits, own: Own, roll: Roll) -> Self {
        Self {
            lanes,
            limits,
            own,
            garbage: AtomicU32::new(0),
            roll,
            tally: GroupTally::default(),
            configured: AtomicBool::new(false),
            annex: AtomicU32::new(0),
            hash,
            key: ManuallyDrop::new(key),
        }
    }

    #[inline(always)]
    pub fn generation(&self) -> u32 {
        self.lanes.era.generation()
    }

    pub fn invalidate(&self) {
        self.lanes.era.invalidate();
        // A release that comes later sees it (`check_shelved`); what one has made idle
        // before, the sweep sees that the caller asks for.
        self.lanes.barrier();
    }

    /// Counts a void ticket; true when it is time to compact.
    pub fn litter(&self) -> bool {
        // Relaxed: a heuristic, that guards nothing.
        let garbage = self.garbage.fetch_add(1, Ordering::Relaxed) + 1;
        garbage > GARBAGE_ALLOWED.saturating_add(self.roll.connections())
    }

    /// Says that the lanes were compacted.
    pub fn tidied(&self) {
        // Relaxed: as in `litter`.
        self.garbage.store(0, Ordering::Relaxed);
    }
}

impl<K, C> Engine<K, C> {
    /// A group that `member` has entered.
    pub fn new_group(&self, key: K, hash: u64, member: Member) -> Members<K> {
        let own = self.config.settings_of(&key);
        let limits = Limits::new(&self.settings.load(), &own);
        self.tuning.note_min_idle(own.min_idle.unwrap_or(0));
        let lanes = self.stock.lend(&self.core);
        let group = Members::new(key, hash, lanes, limits, Own::new(own), Roll::with(member));
        self.remind(&group);
        group
    }
}

impl<K> Drop for Members<K> {
    /// Whoever lets go of a group last may be in the middle of something: an insertion that
    /// makes room, a get. So a panic of the key's destructor goes no further, as those of
    /// connections do not. Nobody is left to count it.
    fn drop(&mut self) {
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the group is being dropped, once, by the last who had it: G1.
            unsafe { ManuallyDrop::drop(&mut self.key) }
        }));
        // The destructor of what it carries might panic again.
        dropped.map_err(mem::forget).ok();
    }
}

impl<K> fmt::Debug for Members<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("roll", &self.roll).finish_non_exhaustive()
    }
}

/// Who is in a group, and whether anyone may still enter.
///
/// ```text
///  63      62          32 31            0
/// +-------+--------------+---------------+
/// |retired|   handles    |  connections  |
/// +-------+--------------+---------------+
/// ```
///
/// * **G1** A group is retired only when nothing is in it, and in the same step:
///   nothing can enter a retired group.
pub(crate) struct Roll(AtomicU64);

const CONNECTION_ONE: u64 = 1;
const HANDLE_ONE: u64 = 1 << 32;
const RETIRED: u64 = 1 << 63;

/// What enters a group and keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member {
    Connection,
    Handle,
}

impl Member {
    fn one(self) -> u64 {
        match self {
            Self::Connection => CONNECTION_ONE,
            Self::Handle => HANDLE_ONE,
        }
    }
}

impl Roll {
    pub fn with(member: Member) -> Self {
        Self(AtomicU64::new(member.one()))
    }

    /// Enters. False if the group is retired: there is, or will be, another one.
    #[must_use]
    pub fn enter(&self, member: Member) -> bool {
        // Relaxed: the count guards only itself; the directory publishes the
        // group, the lanes publish what is in it.
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |roll| {
                (roll & RETIRED == 0).then(|| roll + member.one())
            })
            .is_ok()
    }

    /// Leaves. True if this retired the group: the caller takes it out of the
    /// directory.
    #[must_use = "a retired group must leave the directory"]
    pub fn leave(&self, member: Member) -> bool {
        // AcqRel: whoever retires the group comes after all who left it before.
        let before = self.0.fetch_sub(member.one(), Ordering::AcqRel);
        debug_assert_eq!(before & RETIRED, 0, "nobody is in a retired group");
        before == member.one()
            // Relaxed: the subtraction before it has synchronised. It fails if
            // someone has entered, who then retires the group in turn.
            && self.0.compare_exchange(0, RETIRED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub fn connections(&self) -> u32 {
        self.0.load(Ordering::Relaxed) as u32
    }
}

impl fmt::Debug for Roll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roll = self.0.load(Ordering::Relaxed);
        f.debug_struct("Roll")
            .field("connections", &(roll as u32))
            .field("handles", &((roll & !RETIRED) >> 32))
            .field("retired", &(roll & RETIRED != 0))
            .finish()
    }
}
