//! What a peer may have, while that is changed.
//!
//! * **M4** A permit is given out, and a caller turned away, under the lock of the line, by
//!   the limits as they are read under it. So whoever has changed them, and takes the lock
//!   after that, knows that the old ones give out no more; and whoever comes to wait after
//!   that goes by the new ones.
//! * **M7** The limits of a desk are what the pool has, but for what its peer has of its own.
//!   They are worked out under the lock of the line, from those of the pool as they are
//!   read under it: of several who change those, the last one to come to the desk has the
//!   latest. A desk that a peer takes up reads them under the lock of its shard.

use std::fmt;
use std::time::Duration;

use crate::managed::word::Bounds;
use crate::sync::{AtomicU64, Ordering};

const CONNECTIONS_BITS: u32 = 24;
const CONNECTING_BITS: u32 = 16;
const WAITERS_SHIFT: u32 = CONNECTIONS_BITS + CONNECTING_BITS;
const WAITERS_MASK: u64 = (1 << 23) - 1;
/// Set where only one connect at a time runs for a peer that has no open connection.
const SINGLE_FLIGHT: u64 = 1 << 63;
const CONNECTIONS_MASK: u64 = (1 << CONNECTIONS_BITS) - 1;
const CONNECTING_MASK: u64 = (1 << CONNECTING_BITS) - 1;

/// [`Bounds`] in one word, so that they change together.
pub struct Limits(AtomicU64);

impl Limits {
    /// Limits to begin with.
    pub fn new(bounds: Bounds) -> Self {
        Self(AtomicU64::new(pack(bounds)))
    }

    /// The limits in force.
    pub fn load(&self) -> Bounds {
        // Relaxed: what counts is read under the lock of the line, which orders it (M4).
        let word = self.0.load(Ordering::Relaxed);
        Bounds {
            connections: (word & CONNECTIONS_MASK) as u32,
            connecting: (word >> CONNECTIONS_BITS & CONNECTING_MASK) as u32,
            single_flight: word & SINGLE_FLIGHT != 0,
            waiters: (word >> WAITERS_SHIFT & WAITERS_MASK) as u32,
        }
    }

    /// The most connections, for a release.
    #[inline(always)]
    pub fn connections(&self) -> u32 {
        // Relaxed: whoever lowers it raises the tags of the heads after that
        // (`Lanes::barrier`), and looks then. A release that has pushed before is found; one
        // that pushes after sees it.
        (self.0.load(Ordering::Relaxed) & CONNECTIONS_MASK) as u32
    }

    /// Changes them. The caller goes to every desk after this.
    pub fn store(&self, bounds: Bounds) {
        // Relaxed: see `load` and `connections`.
        self.0.store(pack(bounds), Ordering::Relaxed);
    }
}

/// What a peer has of its own. What is `None` is as the pool has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub connections: Option<u32>,
    pub connecting: Option<u32>,
    pub waiters: Option<u32>,
    pub single_flight: Option<bool>,
    pub acquire_timeout: Option<Duration>,
    pub connect_timeout: Option<Duration>,
}

impl Own {
    /// These, over those of the pool.
    pub fn over(&self, pool: Bounds) -> Bounds {
        Bounds {
            connections: self.connections.unwrap_or(pool.connections),
            connecting: self.connecting.unwrap_or(pool.connecting),
            single_flight: self.single_flight.unwrap_or(pool.single_flight),
            waiters: self.waiters.unwrap_or(pool.waiters),
        }
    }
}

fn pack(bounds: Bounds) -> u64 {
    u64::from(bounds.connections)
        | u64::from(bounds.connecting) << CONNECTIONS_BITS
        | u64::from(bounds.waiters) << WAITERS_SHIFT
        | if bounds.single_flight { SINGLE_FLIGHT } else { 0 }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;
    use crate::managed::word::{CONNECTING_MAX, CONNECTIONS_MAX, WAITERS_MAX};

    #[test]
    fn the_largest_and_the_smallest_fit() {
        for (connections, connecting, waiters) in
            [(CONNECTIONS_MAX, CONNECTING_MAX, WAITERS_MAX), (1, 1, 0), (CONNECTIONS_MAX, 1, 7)]
        {
            for single_flight in [false, true] {
                let bounds = Bounds { connections, connecting, single_flight, waiters };
                let limits = Limits::new(bounds);
                assert_eq!((limits.load(), limits.connections()), (bounds, connections));
            }
        }
    }
}
