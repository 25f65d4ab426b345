//! Whatever is done to a pool, on one thread and by a clock that is turned by hand,
//! a list for each key would have done the same.

mod bound;
#[path = "../common/mod.rs"]
mod common;
mod memory;
mod oracle;
mod script;

use std::time::Duration;

use proptest::prelude::*;
use slabpool::{
    Clock, CloseReason, GroupSettings, ManualClock, Pool, PooledOwned, PutOptions, Token,
};

use common::{Connection, Journal, Tally};
use oracle::{Limits, NEVER, Oracle, Rule, Told};
use script::{KEYS, Op, Setup, script, setup};

/// A pool, what it should be, and what the script holds of it.
struct Run {
    pool: Pool<u8, Connection>,
    clock: ManualClock,
    tally: Tally,
    journal: Journal<u8>,
    oracle: Oracle,
    /// Of all connections ever taken, with their numbers.
    tokens: Vec<(u32, Token)>,
    leases: Vec<PooledOwned<u8, Connection>>,
    handles: Vec<(u8, slabpool::Group<u8, Connection>)>,
    next_id: u32,
}

fn span(ms: u64) -> Option<Duration> {
    (ms != NEVER).then(|| Duration::from_millis(ms))
}

impl Run {
    fn new(setup: &Setup) -> Self {
        let (clock, journal) = (Clock::manual(), Journal::new());
        let Limits { idle_timeout, max_lifetime, max_idle, max_uses } = setup.defaults;
        let pool = Pool::builder()
            .capacity(setup.capacity)
            .idle_timeout(span(idle_timeout))
            .max_lifetime(span(max_lifetime))
            .lifetime_jitter(0.0)
            .max_idle_per_group(max_idle.unwrap_or(usize::MAX))
            .max_uses(max_uses)
            .lanes(setup.lanes)
            .on_close(journal.hook())
            .clock(&clock)
            .build()
            .unwrap();
        Self {
            pool,
            clock,
            tally: Tally::default(),
            journal,
            oracle: Oracle::new(setup.capacity, setup.defaults),
            tokens: Vec::new(),
            leases: Vec::new(),
            handles: Vec::new(),
            next_id: 0,
        }
    }

    fn step(&mut self, op: &Op) {
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
                self.oracle.now += ms;
            }
            Op::Maintain => self.maintain(),
            Op::Close => {
                self.pool.close();
                self.oracle.close();
            }
            _ => unreachable!("{op:?} is for `step`"),
        }
    }

    fn get(&mut self, key: u8, owned: bool) {
        let handle = self.handles.iter().find(|(other, _)| *other == key);
        let lease = match handle {
            Some((_, handle)) => handle.get_owned(),
            None if owned => self.pool.get_owned(&key),
            // The borrowed twin, to see that it finds the same.
            None => match self.pool.get(&key) {
                Some(lease) => {
                    assert_eq!(*lease.key(), key);
                    let (id, told) = self.oracle.get(key).expect("a get that misses");
                    assert_eq!((lease.id, told), (id, Self::told(&lease.meta())));
                    self.oracle.release(id);
                    return lease.release();
                }
                None => None,
            },
        };
        let expected = self.oracle.get(key);
        self.check_lease(lease, expected);
    }

    fn get_if(&mut self, key: u8, rule: Rule) {
        // Through a handle, for want of an owned twin: the lease is ended at once.
        let lease = self.pool.get_if(&key, |meta| rule.holds(meta));
        let expected = self.oracle.get_if(key, rule);
        assert_eq!(lease.as_ref().map(|lease| (lease.id, Self::told(&lease.meta()))), expected);
        if let Some(lease) = lease {
            self.oracle.release(lease.id);
            lease.release();
        }
    }

    fn told(meta: &slabpool::Meta) -> Told {
        assert!(meta.reused);
        (meta.age.as_millis() as u64, meta.idle_for.as_millis() as u64, meta.uses)
    }

    fn check_lease(
        &mut self,
        lease: Option<PooledOwned<u8, Connection>>,
        expected: Option<(u32, Told)>,
    ) {
        let got = lease.as_ref().map(|lease| (lease.id, Self::told(&lease.meta())));
        assert_eq!(got, expected);
        self.leases.extend(lease);
    }

    fn connect(&mut self) -> Connection {
        self.next_id += 1;
        self.tally.connect(self.next_id)
    }

    fn insert(&mut self, key: u8) {
        let connection = self.connect();
        let id = connection.id;
        let expected = self.oracle.insert(key, id);
        let got = match self.pool.insert_owned(&key, connection) {
            Ok(lease) => {
                assert!(!lease.meta().reused);
                assert_eq!(lease.meta().uses, 1);
                self.tokens.push((id, lease.token()));
                self.leases.push(lease);
                Ok(())
            }
            Err(rejected) => {
                assert_eq!(rejected.connection.id, id, "a rejected connection is given back");
                Err(rejected.reason)
            }
        };
        assert_eq!(got, expected);
    }

    fn put(&mut self, key: u8, patience: u64) {
        let connection = self.connect();
        let id = connection.id;
        let expected = self.oracle.put(key, id, patience);
        let options = PutOptions::new().idle_timeout(span(patience));
        let got = match self.pool.put_with(&key, connection, options) {
            Ok(token) => {
                self.tokens.push((id, token));
                Ok(())
            }
            Err(rejected) => {
                assert_eq!(rejected.connection.id, id, "a rejected connection is given back");
                Err(rejected.reason)
            }
        };
        assert_eq!(got, expected);
    }

    fn end(&mut self, at: usize, end: impl FnOnce(&mut Self, PooledOwned<u8, Connection>)) {
        if !self.leases.is_empty() {
            let lease = self.leases.swap_remove(at % self.leases.len());
            end(self, lease);
        }
    }

    /// A token: of a connection in the pool if `alive`, of any that ever was if not.
    fn token(&self, at: usize, alive: bool) -> Option<(u32, Token)> {
        let there = |id: &u32| !alive || self.oracle.connections.contains_key(id);
        let tokens: Vec<_> = self.tokens.iter().filter(|(id, _)| there(id)).collect();
        (!tokens.is_empty()).then(|| *tokens[at % tokens.len()])
    }

    fn take(&mut self, at: usize, alive: bool) {
        let Some((id, token)) = self.token(at, alive) else { return };
        let taken = self.pool.take(token);
        assert!(taken.as_ref().is_none_or(|connection| connection.id == id));
        assert_eq!(taken.is_some(), self.oracle.take(id));
    }

    fn evict(&mut self, at: usize, alive: bool) {
        let Some((id, token)) = self.token(at, alive) else { return };
        assert_eq!(self.pool.evict(token), self.oracle.evict(id));
    }

    fn retain(&mut self, rule: Rule, odd: bool) {
        let mut shown = Vec::new();
        self.pool.retain(|&key, meta, connection| {
            shown.push((key, connection.id, Self::told(meta)));
            rule.holds(meta) && (connection.id % 2 == 1) == odd
        });
        shown.sort_unstable_by_key(|&(_, id, _)| id);
        assert_eq!(shown, self.oracle.idle());
        self.oracle.close_idle(CloseReason::Cleared, |_, id, told| {
            !(rule.agrees(told) && (id % 2 == 1) == odd)
        });
        self.oracle.close_unfit();
    }

    fn drain(&mut self, key: u8) {
        match self.handles.iter().find(|(other, _)| *other == key) {
            Some((_, handle)) => handle.drain(),
            None => self.pool.drain_group(&key),
        }
        self.oracle.drain(key);
    }

    fn resume(&mut self, key: u8) {
        match self.handles.iter().find(|(other, _)| *other == key) {
            Some((_, handle)) => handle.resume(),
            None => self.pool.resume_group(&key),
        }
        self.oracle.resume(key);
    }

    fn configure(&mut self, key: u8, own: Option<Limits>) {
        let mut settings = GroupSettings::new();
        if let Some(Limits { idle_timeout, max_lifetime, max_idle, max_uses }) = own {
            settings = settings
                .idle_timeout(span(idle_timeout))
                .max_lifetime(span(max_lifetime))
                .max_idle(max_idle.unwrap_or(usize::MAX))
                .max_uses(max_uses);
        }
        self.pool.group(&key).configure(settings).unwrap();
        self.oracle.configure(key, own);
    }

    fn reconfigure(&mut self, capacity: Option<usize>, defaults: Option<Limits>) {
        let capacity = capacity.unwrap_or(self.oracle.capacity);
        let defaults = defaults.unwrap_or(self.oracle.defaults);
        let change = |settings: &mut slabpool::Settings| {
            settings.capacity = capacity;
            settings.idle_timeout = span(defaults.idle_timeout);
            settings.max_lifetime = span(defaults.max_lifetime);
            settings.max_idle_per_group = defaults.max_idle.unwrap_or(usize::MAX);
            settings.max_uses = defaults.max_uses;
        };
        self.pool.reconfigure(change).unwrap();
        let mut settings = self.pool.settings();
        change(&mut settings);
        assert_eq!(settings, self.pool.settings());
        self.oracle.reconfigure(capacity, defaults);
    }

    fn maintain(&mut self) {
        self.compare_closes();
        let expired = self.pool.maintain();
        let did = self.journal.written();
        let tick = self.pool.tick().as_millis() as u64;
        assert_eq!(
            expired,
            self.oracle.maintain(tick, |id| did
                .iter()
                .any(|&(_, other, reason)| other == id && reason != CloseReason::Evicted))
        );
    }

    fn compare_closes(&mut self) {
        let mut closes = self.journal.read();
        closes.sort_by_key(|&(_, id, _)| id);
        self.oracle.closes.sort_by_key(|&(_, id, _)| id);
        assert_eq!(closes, self.oracle.closes);
        self.oracle.closes.clear();
    }
}

impl Run {
    fn compare(&mut self) {
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
    fn finish(mut self) {
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

/// More of them on request, as proptest has it.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    let cases = if asked { ProptestConfig::default().cases } else { 1_000 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_pool_does_what_a_list_for_each_key_does(setup in setup(), script in script()) {
        let mut run = Run::new(&setup);
        for op in &script {
            run.step(op);
            run.compare();
        }
        run.finish();
    }
}
