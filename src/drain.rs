//! Giving up in good order: a pool whose last leases are waited for, and groups that
//! take no connections for a while.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use crate::core::lanes::Lanes;
use crate::engine::Engine;
use crate::error::CloseReason;
#[cfg(feature = "tracing")]
use crate::events::Name;
use crate::events::event;
use crate::group::{Member, Members};
use crate::handle::Group;
use crate::pool::Pool;

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Pool<K, C> {
    /// Drains the group of one key: gets find nothing, what is idle is closed before
    /// this returns, what is leased is closed on release
    /// ([`CloseReason::Drained`] each), insertions are rejected
    /// ([`RejectReason::Draining`](crate::RejectReason::Draining)). So it stays until
    /// [`resume_group`](Pool::resume_group), also when no handle to the group is left,
    /// and if there was no such group. Of a group that is draining already, it closes
    /// what that drain has not taken up yet.
    ///
    /// For a peer that is to be taken out of service. The group counts in
    /// [`Status::groups`](crate::Status::groups) meanwhile.
    ///
    /// Takes time for each idle connection of the group, and looks at no other.
    pub fn drain_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.group(key).drain();
    }

    /// Lets connections into a group again that was drained. Those from before the
    /// drain are not used again: what is still leased is closed on release.
    ///
    /// A drain that is still at work on another thread may close what is put into the
    /// group meanwhile.
    ///
    /// Takes no time but for the lookup, and does nothing if the group is not draining.
    pub fn resume_group<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let group = self.engine().directory.with(key, Arc::clone);
        if let Some(group) = group {
            self.engine().resume(&group);
        }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Group<K, C> {
    /// As [`Pool::drain_group`].
    pub fn drain(&self) {
        self.pool().engine().drain(self.members());
    }

    /// As [`Pool::resume_group`].
    pub fn resume(&self) {
        self.pool().engine().resume(self.members());
    }

    /// Whether the group was drained, and not resumed since.
    pub fn is_draining(&self) -> bool {
        self.members().lanes.era.is_draining()
    }
}

impl<K, C> Engine<K, C> {
    /// Drains a group that the caller keeps.
    fn drain(&self, group: &Arc<Members<K>>) {
        // Before it is said, since whoever resumes it takes this member out.
        let entered = group.roll.enter(Member::Handle);
        debug_assert!(entered, "the caller keeps the group");
        if !group.lanes.era.drain(self.generation()) {
            self.part(group, Member::Handle);
        }
        event!(info, group = %Name(&self.config, group), "group drained");
        self.clear(group, CloseReason::Drained);
    }

    /// Ends the drain of a group, if it drains.
    fn resume(&self, group: &Arc<Members<K>>) {
        if group.lanes.era.resume() {
            event!(info, group = %Name(&self.config, group), "group resumed");
            self.part(group, Member::Handle);
        }
    }
}

/// Why a connection with this mark is not fit for use, if it is of a former generation.
pub(crate) fn outdated(lanes: &Lanes, mark: u64) -> CloseReason {
    if lanes.era.has_drained(mark) { CloseReason::Drained } else { CloseReason::Invalidated }
}

#[cfg(feature = "tokio")]
pub use whole::Drained;

#[cfg(feature = "tokio")]
mod whole {
    use std::fmt;
    use std::hash::Hash;
    use std::time::Duration;

    use tokio::time::{Instant, timeout_at};

    use crate::pool::Pool;

    /// What came of [`Pool::drain`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[must_use = "connections may still be out"]
    #[non_exhaustive]
    pub struct Drained {
        /// Connections that were still in the pool when the deadline was over: leased,
        /// or just being closed. 0 if it is empty, and that is final.
        pub remaining: usize,
    }

    impl Drained {
        /// Whether all leases have ended and all connections were closed in time.
        pub fn is_complete(self) -> bool {
            self.remaining == 0
        }
    }

    impl fmt::Display for Drained {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.remaining {
                0 => f.write_str("drained"),
                1 => f.write_str("1 connection was still out at the deadline"),
                many => write!(f, "{many} connections were still out at the deadline"),
            }
        }
    }

    impl<K: Hash + Eq + Send + Sync + 'static, C: Send + 'static> Pool<K, C> {
        /// Closes the pool as [`close`](Pool::close) does, at once when this is called,
        /// and then waits until all leases have ended and all connections are closed,
        /// `on_close` hooks included, but no longer than `deadline` from the call,
        /// rounded up to a millisecond. A deadline of zero only closes and reports.
        ///
        /// Leases that end by [`detach`](crate::Lease::detach) have ended. One that was
        /// forgotten ([`std::mem::forget`]) never does, and is waited for until the
        /// deadline. After that, leases go on as in any closed pool.
        ///
        /// Nothing polls: whoever gives up the last connection wakes those who wait,
        /// of whom there may be several. The future keeps the pool. A hook that waits
        /// for it waits for the connection that it was given itself.
        ///
        /// # Panics
        ///
        /// When it has to wait, and is polled outside a tokio runtime with time enabled.
        ///
        /// # Cancel safety
        ///
        /// Dropping the future ends the waiting. The pool stays closed, and may be
        /// drained again.
        pub fn drain(
            &self,
            deadline: Duration,
        ) -> impl Future<Output = Drained> + Send + use<K, C> {
            let start = Instant::now();
            self.close();
            let pool = self.clone();
            async move {
                let capacity = &pool.engine().capacity;
                if capacity.used() > 0 && !deadline.is_zero() {
                    match start.checked_add(deadline) {
                        // Over or not, the count says what came of it.
                        Some(end) => drop(timeout_at(end, capacity.emptied()).await),
                        None => capacity.emptied().await,
                    }
                }
                Drained { remaining: capacity.used() }
            }
        }
    }
}
