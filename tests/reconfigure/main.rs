//! Settings that change while the pool is in use: each takes effect where it is said to,
//! in every group, and the bound holds whatever races.

mod capacity;
#[path = "../common/mod.rs"]
mod common;
mod limits;
mod modes;
mod races;

use slabpool::{Builder, Clock, CloseReason, ManualClock, Pool, RejectReason, Settings};

use common::{Connection, Journal, NANOSECOND, Tally};

/// A pool and what is told of it.
struct Bench {
    clock: ManualClock,
    journal: Journal<u8>,
    tally: Tally,
    pool: Pool<u8, Connection>,
}

impl Bench {
    fn new(set: impl FnOnce(Builder<u8, Connection>) -> Builder<u8, Connection>) -> Self {
        let (clock, journal) = (Clock::manual(), Journal::new());
        let builder = Pool::builder().lifetime_jitter(0.0).clock(&clock).on_close(journal.hook());
        let pool = set(builder).build().unwrap();
        Self { clock, journal, tally: Tally::default(), pool }
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.pool.reconfigure(change).unwrap();
    }

    fn put(&self, key: u8, id: u32) -> Result<(), RejectReason> {
        self.pool.put(&key, self.tally.connect(id)).map(drop).map_err(|rejected| rejected.reason)
    }

    /// Puts them in, each a nanosecond after the one before.
    fn fill(&self, key: u8, ids: std::ops::Range<u32>) {
        for id in ids {
            self.put(key, id).unwrap();
            self.clock.advance(NANOSECOND);
        }
    }

    fn closed(&self) -> Vec<(u32, CloseReason)> {
        self.journal.read().into_iter().map(|(_, id, reason)| (id, reason)).collect()
    }
}
