//! How idle connections age: who is exempt from the idle timeout, how fast lifetimes end,
//! what is trimmed because nobody needs it.

#[path = "../common/mod.rs"]
mod common;
mod exempt;
mod retired;
mod threads;
mod trimmed;

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use slabpool::{
    Builder, Clock, CloseReason, GroupSettings, ManualClock, Pool, PooledOwned, PutOptions,
    RetirementBudget,
};

use common::{Connection, Journal, NANOSECOND, SECOND, Tally, keep_alive};

const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    clock: ManualClock,
    journal: Journal<u8>,
    tally: Tally,
    next_id: u32,
}

impl Bench {
    fn new() -> Self {
        let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
        Self { clock, journal, tally, next_id: 0 }
    }

    fn builder(&self) -> Builder<u8, Connection> {
        let builder = Pool::builder().capacity(200_000).lifetime_jitter(0.0);
        builder.clock(&self.clock).on_close(self.journal.hook())
    }

    fn connect(&mut self) -> Connection {
        self.next_id += 1;
        self.tally.connect(self.next_id)
    }

    fn put(&mut self, pool: &Pool<u8, Connection>, key: u8, count: usize) {
        for _ in 0..count {
            let connection = self.connect();
            pool.put(&key, connection).unwrap();
        }
    }
}

/// The numbers of a group's idle connections, in order of their release.
fn idle(pool: &Pool<u8, Connection>, key: u8) -> Vec<u32> {
    let mut idle = Vec::new();
    pool.retain(|&other, meta, connection| {
        if other == key {
            idle.push((std::cmp::Reverse(meta.idle_for), connection.id));
        }
        true
    });
    idle.sort_unstable();
    idle.into_iter().map(|(_, id)| id).collect()
}

/// Lets a time pass, with maintenance in each tick.
fn pass(pool: &Pool<u8, Connection>, clock: &ManualClock, mut time: Duration) {
    while !time.is_zero() {
        let step = time.min(pool.tick());
        clock.advance(step);
        pool.maintain();
        time -= step;
    }
}
