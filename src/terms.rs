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
            record.patience.set(nanos(timeout));
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

/// What a record says of its connection, as one reads it who does not own the seat. Holds if
/// the reader then seizes the seat in the incarnation that it saw before (S1, S3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The hash of its group's key: the same for all of a group.
    pub group: u64,
    pub retire_at: u64,
    pub uses_base: u64,
    patience: u64,
}

impl Facts {
    /// When a connection that was released at `stamp` ends by an idle timeout of its own.
    pub fn own_end(&self, stamp: u64) -> u64 {
        stamp.saturating_add(self.patience)
    }

    /// When it ends for good: as [`Facts::own_end`], or by its lifetime.
    pub fn hard_end(&self, stamp: u64) -> u64 {
        self.own_end(stamp).min(self.retire_at)
    }
}

impl<K, C> Engine<K, C> {
    /// What the record of the connection in a seat says. `None` if the connection has left.
    ///
    /// The caller has found the seat occupied, so that the key on its card is that of this
    /// connection or of a later one.
    pub fn facts_at(&self, seat: u32) -> Option<Facts> {
        let key = self.core.card(seat).key.follow() as usize;
        let record = self.store.get(key).filter(|record| record.seat == seat)?;
        Some(Facts {
            group: self.directory.held(&record.group, |group| group.hash)?,
            retire_at: record.retire_at.get(),
            uses_base: record.uses_base.get(),
            patience: record.patience.get(),
        })
    }
}
