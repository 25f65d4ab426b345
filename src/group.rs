//! What the connections under one key share.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::core::stock::Loan;
use crate::ending::discard;
use crate::engine::Engine;
use crate::limits::Limits;
use crate::reconfigure::Own;
use crate::settings::GroupSettings;
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
    pub annex: AtomicU32,
    /// How often the settings of the pool had been changed when the limits were worked out.
    pub changes: u32,
    /// Of the key, for the directory.
    pub hash: u64,
    pub key: ManuallyDrop<K>,
}

/// Void tickets that a group may have, besides as many as it has connections.
const GARBAGE_ALLOWED: u32 = 32;

impl<K> Members<K> {
    /// A group that one connection or handle has entered.
    fn new(key: K, hash: u64, lanes: Loan, member: Member, terms: GroupTerms) -> Self {
        let GroupTerms { limits, own, changes } = terms;
        Self {
            lanes,
            limits,
            own,
            garbage: AtomicU32::new(0),
            roll: Roll::with(member),
            tally: GroupTally::default(),
            configured: AtomicBool::new(false),
            annex: AtomicU32::new(0),
            changes,
            hash,
            key: ManuallyDrop::new(key),
        }
    }

    /// As [`Members::new`], in the place of a group that has gone: but for the lanes and
    /// the limits.
    fn renew(&mut self, key: K, hash: u64, member: Member) {
        self.garbage = AtomicU32::new(0);
        self.roll = Roll::with(member);
        self.tally = GroupTally::default();
        self.configured = AtomicBool::new(false);
        self.annex = AtomicU32::new(0);
        self.hash = hash;
        // SAFETY: G1: nobody has the group, and the key is replaced at once.
        unsafe { self.drop_key() };
        self.key = ManuallyDrop::new(key);
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
    /// A group that `member` has entered: a new one, or `spare` under another key.
    pub fn new_group(
        &self,
        key: K,
        hash: u64,
        member: Member,
        spare: Option<Arc<Members<K>>>,
    ) -> Arc<Members<K>> {
        let own = self.config.settings_of(&key);
        let mut spare = spare;
        if let Some(group) = spare.as_mut().and_then(Arc::get_mut) {
            group.renew(key, hash, member);
            debug_assert!(!group.lanes.era.is_draining(), "that would have kept the group");
            let as_before = own.is_none() && group.own.is_none() && group.limits.learned() == 0;
            if !as_before || group.changes != self.desk.changes() {
                let GroupTerms { limits, own, changes } = self.group_terms(own);
                (group.limits, group.own, group.changes) = (limits, own, changes);
            }
            self.remind(group);
            return spare.expect("it was there");
        }
        let lanes = self.stock.lend(&self.core);
        let group = Members::new(key, hash, lanes, member, self.group_terms(own));
        self.remind(&group);
        Arc::new(group)
    }

    #[cold]
    fn group_terms(&self, own: Option<GroupSettings>) -> GroupTerms {
        // Before the settings are read: these are at least as new.
        let changes = self.desk.changes();
        let own = own.unwrap_or_default();
        let limits = Limits::new(&self.settings.load(), &own);
        self.tuning.note_min_idle(own.min_idle.unwrap_or(0));
        GroupTerms { limits, own: Own::new(own), changes }
    }
}

/// What a group is given by the settings.
struct GroupTerms {
    limits: Limits,
    own: Own,
    changes: u32,
}

impl<K> Members<K> {
    /// Whoever lets go of a group last, or gives it another key, may be in the middle of
    /// something: an insertion that makes room, a get. So a panic of the key's destructor goes
    /// no further, as those of connections do not. Nobody is left to count it.
    ///
    /// # Safety
    ///
    /// The key is not used again.
    unsafe fn drop_key(&mut self) {
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: by the caller's promise.
            unsafe { ManuallyDrop::drop(&mut self.key) }
        }));
        dropped.map_err(discard).ok();
    }
}

impl<K> Drop for Members<K> {
    fn drop(&mut self) {
        // SAFETY: the group is being dropped, once, by the last who had it: G1.
        unsafe { self.drop_key() }
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
        // group, the lanes publish what is in it. Acquire if it is retired: pairs with the
        // Release of whoever has retired it. The caller may take it out in their stead, and
        // looks then who holds it.
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Acquire, |roll| {
                (roll & RETIRED == 0).then(|| roll + member.one())
            })
            .is_ok()
    }

    /// Leaves. True if this retired the group: the caller takes it out of the
    /// directory.
    #[must_use = "a retired group must leave the directory"]
    pub fn leave(&self, member: Member) -> bool {
        // Relaxed: a guess, so that the last one needs one step. AcqRel: whoever retires the
        // group comes after all who left it before, and before whoever finds it retired
        // (`enter`). Relaxed on failure: looks again below.
        let alone = self.0.load(Ordering::Relaxed) == member.one();
        let (both, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        if alone && self.0.compare_exchange(member.one(), RETIRED, both, relaxed).is_ok() {
            return true;
        }
        // AcqRel: whoever retires the group comes after all who left it before.
        let before = self.0.fetch_sub(member.one(), Ordering::AcqRel);
        debug_assert_eq!(before & RETIRED, 0, "nobody is in a retired group");
        before == member.one()
            // Release: as above. Not Acquire: the subtraction before it has synchronised. It
            // fails if someone has entered, who then retires the group in turn.
            && self.0.compare_exchange(0, RETIRED, Ordering::Release, Ordering::Relaxed).is_ok()
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
