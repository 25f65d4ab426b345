//! A connection that serves several uses in one lease: whether it may begin another one.
//!
//! The layer above shares what it has leased. The pool below sees one lease, and is told
//! when it ends how many uses it was.

use std::borrow::Borrow;

use crate::core::seat::Mark;
use crate::drain::outdated;
use crate::engine::{Engine, RawLease};
use crate::error::CloseReason;
use crate::group::Members;
use crate::lease::Lease;
use crate::pool::Pool;

impl<P: Borrow<Pool<K, C>>, K, C> Lease<P, K, C> {
    /// Why the connection may not begin another use, if so, having had `more` of them in
    /// this lease, that one included. Reads, and changes nothing.
    #[inline(always)]
    pub(crate) fn fault(&self, more: u64) -> Option<CloseReason> {
        let (pool, raw) = self.parts();
        pool.engine().fault_in_use(raw, more)
    }

    /// Counts uses in this lease beyond the first.
    pub(crate) fn charge(&mut self, uses: u64) {
        let record = self.parts().1.record();
        record.uses_base.set(record.uses_base.get().wrapping_sub(uses));
    }

    /// The group that the connection is in, and keeps.
    #[inline(always)]
    pub(crate) fn members(&self) -> &Members<K> {
        &self.parts().1.record().group
    }
}

impl<K, C> Engine<K, C> {
    /// What a release would find, but for the idle timeout, and with other uses.
    #[inline(always)]
    fn fault_in_use(&self, lease: &RawLease<K, C>, more: u64) -> Option<CloseReason> {
        let (record, mark) = (lease.record(), lease.seat().mark.get());
        let uses_max = record.uses_max.get().min(record.group.limits.max_uses());
        let fit = self.config.clock.now() < record.retire_at.get()
            && Mark::is_of(mark, self.generation_of(&record.group))
            && (lease.uses() - 1).saturating_add(more) <= uses_max;
        if fit {
            None
        } else {
            Some(self.reason_in_use(record.retire_at.get(), &record.group, mark))
        }
    }

    #[cold]
    fn reason_in_use(&self, retire_at: u64, group: &Members<K>, mark: u64) -> CloseReason {
        if self.is_closed() {
            CloseReason::Closed
        } else if Mark::is_doomed(mark) {
            CloseReason::Removed
        } else if !Mark::is_of(mark, self.generation_of(group)) {
            outdated(&group.lanes, mark)
        } else if self.config.clock.now() >= retire_at {
            CloseReason::Lifetime
        } else {
            CloseReason::Uses
        }
    }
}
