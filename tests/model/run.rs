//! A script, done to a pool and to what it should be.

use std::time::Duration;

use slabpool::{Clock, CloseReason, Connection, ManualClock, Pool, PooledOwned, PutOptions, Token};

use crate::common::{Journal, Tally};
use crate::op::{KEYS, Op, Setup};
use crate::oracle::{Limits, NEVER, Oracle};
use crate::wire::{Probing, Wire, Wires};

/// A pool, what it should be, and what the script holds of it.
pub struct Run {
    pub pool: Pool<u8, Wire>,
    clock: ManualClock,
    pub tally: Tally,
    pub wires: Wires,
    pub journal: Journal<u8>,
    pub oracle: Oracle,
    /// Of all connections ever taken, with their numbers.
    pub tokens: Vec<(u32, Token)>,
    pub leases: Vec<PooledOwned<u8, Wire>>,
    pub handles: Vec<(u8, slabpool::Group<u8, Wire>)>,
    pub next_id: u32,
}

pub fn span(ms: u64) -> Option<Duration> {
    (ms != NEVER).then(|| Duration::from_millis(ms))
}

impl Run {
    pub fn new(setup: &Setup) -> Self {
        let (clock, journal) = (Clock::manual(), Journal::new());
        let Limits { idle_timeout, max_lifetime, max_idle, min_idle, max_uses } = setup.defaults;
        let told = journal.clone();
        let builder = Pool::<u8, Wire>::builder()
            .capacity(setup.capacity)
            .idle_timeout(span(idle_timeout))
            .max_lifetime(span(max_lifetime))
            .lifetime_jitter(0.0)
            .max_idle_per_group(max_idle.unwrap_or(usize::MAX))
            .min_idle_per_group(min_idle)
            .max_uses(max_uses)
            .lanes(setup.lanes)
            .on_close(move |key, wire, reason| told.write(key, wire.id, reason))
            .clock(&clock);
        let builder = match setup.probing {
            Probing::Off => builder,
            Probing::Ask(interval) => builder.probe(Wire::liveness).probe_interval(span(interval)),
            Probing::Watch => builder.watch(),
        };
        let pool = builder.build().unwrap();
        Self {
            pool,
            clock,
            tally: Tally::default(),
            wires: Wires::default(),
            journal,
            oracle: Oracle::new(setup.capacity, setup.defaults, setup.probing),
            tokens: Vec::new(),
            leases: Vec::new(),
            handles: Vec::new(),
            next_id: 0,
        }
    }

    pub fn step(&mut self, op: &Op) {
        match *op {
            Op::Get { key, owned } => self.get(key, owned),
            Op::GetIf { key, rule } => self.get_if(key, rule),
            Op::Insert { key } => self.insert(key),
            Op::Put { key, patience, count } => {
                (0..count).for_each(|_| self.put(key, patience));
            }
            Op::Release { at } => self.end(at, |run, lease| {
                run.oracle.release(lease.id);
                lease.release();
            }),
            Op::ReleaseWith { at, patience, uses } => self.end(at, |run, lease| {
                run.oracle.say(lease.id, patience, uses);
                run.oracle.release(lease.id);
                let idle_timeout = patience.and_then(span);
                lease.release_with(PutOptions::new().idle_timeout(idle_timeout).max_uses(uses));
            }),
            Op::CloseDead { at } => self.end(at, |run, lease| {
                run.oracle.end(lease.id, CloseReason::Dead);
                lease.close_dead();
            }),
            Op::Suffer { at, reason } => self.suffer(at, reason),
            Op::CloseLease { at } => self.end(at, |run, lease| {
                run.oracle.end(lease.id, CloseReason::Unhealthy);
                lease.close();
            }),
            Op::DropLease { at } => self.end(at, |run, lease| {
                run.oracle.end(lease.id, CloseReason::Dropped);
                drop(lease);
            }),
            Op::Detach { at } => self.end(at, |run, lease| {
                run.oracle.detach(lease.id);
                let id = lease.id;
                assert_eq!(lease.detach().id, id);
            }),
            Op::Take { at, alive } => self.take(at, alive),
            Op::Evict { at, alive, count } => {
                (0..count).for_each(|n| self.evict(at + n * 3, alive));
            }
            _ => self.step_all(op),
        }
    }

    /// The operations on many connections.
    fn step_all(&mut self, op: &Op) {
        match *op {
            Op::Clear => {
                self.pool.clear();
                self.oracle.close_idle(CloseReason::Cleared, |_, _, _| true);
            }
            Op::ClearGroup { key } => {
                self.pool.clear_group(&key);
                self.oracle.close_idle(CloseReason::Cleared, |other, _, _| other == key);
            }
            Op::Retain { rule, odd } => self.retain(rule, odd),
            Op::Invalidate => {
                self.pool.invalidate();
                self.oracle.invalidate(|_| true);
            }
            Op::InvalidateGroup { key } => {
                self.pool.invalidate_group(&key);
                self.oracle.invalidate(|other| other == key);
            }
            Op::Configure { key, own } => self.configure(key, own),
            Op::Drain { key } => self.drain(key),
            Op::Resume { key } => self.resume(key),
            Op::Reconfigure { capacity, defaults } => self.reconfigure(capacity, defaults),
            Op::Handle { key } => {
                self.handles.push((key, self.pool.group(&key)));
                self.oracle.group(key).handles += 1;
            }
            Op::DropHandle { at } => {
                if !self.handles.is_empty() {
                    let (key, handle) = self.handles.swap_remove(at % self.handles.len());
                    drop(handle);
                    self.oracle.group(key).handles -= 1;
                    self.oracle.forget_empty_groups();
                }
            }
            Op::Advance { ms } => {
                self.clock.advance(Duration::from_millis(ms));
                self.oracle.advance(ms);
            }
            Op::Maintain => self.maintain(),
            Op::Close => {
                self.pool.close();
                self.oracle.close();
            }
            _ => unreachable!("{op:?} is for `step`"),
        }
    }
}

impl Run {
    pub fn compare(&mut self) {
        self.oracle.mark_overdue();
        self.compare_closes();
        let (status, oracle) = (self.pool.status(), &self.oracle);
        let idle = oracle.idle().len();
        assert_eq!((status.idle, status.leased), (idle, oracle.connections.len() - idle));
        assert_eq!((status.groups, status.capacity), (oracle.groups.len(), oracle.capacity));
        for key in 0..KEYS {
            let status = self.pool.group_status(&key);
            let expected = oracle.groups.get(&key);
            let idle = expected.map_or(0, |group| group.idle.len());
            let leased = expected.map_or(0, |group| group.leased);
            let groups = usize::from(expected.is_some());
            assert_eq!((status.idle, status.leased, status.groups), (idle, leased, groups));
        }
        for (key, handle) in &self.handles {
            assert_eq!(handle.is_draining(), oracle.groups[key].draining);
        }
        let stats = self.pool.stats();
        assert_eq!(stats.hits, oracle.hits, "hits");
        oracle.memory.check(&stats);
        assert_eq!((stats.inserts, stats.rejects), (oracle.inserts, oracle.rejects));
        assert_eq!((stats.taken, stats.panics), (oracle.taken, 0));
        let there = (status.idle + status.leased) as u64;
        assert_eq!(stats.inserts, there + stats.taken + stats.closes.total());
        assert_eq!(self.tally.alive() as u64, there);
    }

    /// Ends what is left, and looks whether every connection was dropped.
    pub fn finish(mut self) {
        while let Some(lease) = self.leases.pop() {
            self.oracle.release(lease.id);
            lease.release();
        }
        self.compare();
        self.handles.clear();
        self.oracle.close();
        drop(self.pool);
        let mut closes = self.journal.read();
        closes.sort_by_key(|&(_, id, _)| id);
        self.oracle.closes.sort_by_key(|&(_, id, _)| id);
        assert_eq!(closes, self.oracle.closes);
        assert_eq!(self.tally.alive(), 0);
    }
}
