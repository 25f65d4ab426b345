//! What is said of one connection, when it is put in and when it is released.

use crate::engine::{Engine, RawLease};
use crate::error::CloseReason;
use crate::settings::PutOptions;
use crate::time::{NEVER, nanos, nanos_or_never};

/// What is said of one connection, in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long it may stay idle, in nanoseconds.
    pub patience: u64,
    /// How often it may be leased.
    pub uses: u64,
}

impl Terms {
    /// Nothing.
    pub const NONE: Self = Self { patience: NEVER, uses: u64::MAX };
}

impl From<PutOptions> for Terms {
    fn from(options: PutOptions) -> Self {
        Self {
            patience: nanos_or_never(options.idle_timeout),
            uses: options.max_uses.unwrap_or(Self::NONE.uses),
        }
    }
}

impl<K, C> Engine<K, C> {
    /// As [`Engine::release`], with what is said of this connection from now on.
    #[inline]
    pub fn release_with(&self, lease: RawLease<K, C>, options: PutOptions) {
        // The lease owns the seat, and with it these fields of the record (S2). They are
        // published as the connection is, by the state.
        let record = lease.record();
        if let Some(timeout) = options.idle_timeout {
            let patience = nanos(timeout);
            record.patience.set(patience);
            // For those who do not own the seat.
            self.core.card(record.seat).patience.set(patience);
        }
        if let Some(uses) = options.max_uses {
            record.uses_max.set(lease.uses().saturating_add(uses));
        }
        self.release(lease);
    }

    /// Ends a lease whose connection the peer had closed, and learns from it if the peer
    /// did so while the connection was idle.
    #[cold]
    pub fn close_dead(&self, lease: RawLease<K, C>) {
        if lease.reused {
            // The stamp is that of the last release.
            let idle_for = lease.since.saturating_sub(lease.seat().stamp.get());
            self.learn(&lease.record().group, idle_for);
        }
        self.end(lease, CloseReason::Dead);
    }
}
