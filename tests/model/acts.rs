//! What a script does to a pool, one act after the other.

use slabpool::{CloseReason, GroupSettings, PooledOwned, PutOptions, Token};

use crate::oracle::{Limits, Rule, Told};
use crate::run::{Run, span};
use crate::wire::Wire;

impl Run {
    pub fn get(&mut self, key: u8, owned: bool) {
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

    pub fn get_if(&mut self, key: u8, rule: Rule) {
        // Through a handle, for want of an owned twin: the lease is ended at once.
        let lease = self.pool.get_if(&key, |meta| rule.holds(meta));
        let expected = self.oracle.get_if(key, rule);
        assert_eq!(lease.as_ref().map(|lease| (lease.id, Self::told(&lease.meta()))), expected);
        if let Some(lease) = lease {
            self.oracle.release(lease.id);
            lease.release();
        }
    }

    pub fn told(meta: &slabpool::Meta) -> Told {
        assert!(meta.reused);
        (meta.age.as_millis() as u64, meta.idle_for.as_millis() as u64, meta.uses)
    }

    pub fn check_lease(
        &mut self,
        lease: Option<PooledOwned<u8, Wire>>,
        expected: Option<(u32, Told)>,
    ) {
        let got = lease.as_ref().map(|lease| (lease.id, Self::told(&lease.meta())));
        assert_eq!(got, expected);
        self.leases.extend(lease);
    }

    fn connect(&mut self) -> Wire {
        self.next_id += 1;
        self.wires.connect(self.tally.connect(self.next_id))
    }

    pub fn insert(&mut self, key: u8) {
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

    pub fn put(&mut self, key: u8, patience: u64) {
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

    pub fn end(&mut self, at: usize, end: impl FnOnce(&mut Self, PooledOwned<u8, Wire>)) {
        if !self.leases.is_empty() {
            let lease = self.leases.swap_remove(at % self.leases.len());
            end(self, lease);
        }
    }

    /// A token: of a connection in the pool if `alive`, of any that ever was if not.
    pub fn token(&self, at: usize, alive: bool) -> Option<(u32, Token)> {
        let there = |id: &u32| !alive || self.oracle.connections.contains_key(id);
        let tokens: Vec<_> = self.tokens.iter().filter(|(id, _)| there(id)).collect();
        (!tokens.is_empty()).then(|| *tokens[at % tokens.len()])
    }

    /// Something happens at the other end of a connection that is in the pool.
    pub fn suffer(&mut self, at: usize, reason: CloseReason) {
        if let Some((id, _)) = self.token(at, true)
            && self.oracle.suffer(id, reason)
        {
            self.wires.suffer(id, reason);
        }
    }

    pub fn take(&mut self, at: usize, alive: bool) {
        let Some((id, token)) = self.token(at, alive) else { return };
        let taken = self.pool.take(token);
        assert!(taken.as_ref().is_none_or(|connection| connection.id == id));
        assert_eq!(taken.is_some(), self.oracle.take(id));
    }

    pub fn evict(&mut self, at: usize, alive: bool) {
        let Some((id, token)) = self.token(at, alive) else { return };
        assert_eq!(self.pool.evict(token), self.oracle.evict(id));
    }

    pub fn retain(&mut self, rule: Rule, odd: bool) {
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
        self.oracle.close_watched();
        self.oracle.close_unfit();
    }

    pub fn drain(&mut self, key: u8) {
        match self.handles.iter().find(|(other, _)| *other == key) {
            Some((_, handle)) => handle.drain(),
            None => self.pool.drain_group(&key),
        }
        self.oracle.drain(key);
    }

    pub fn resume(&mut self, key: u8) {
        match self.handles.iter().find(|(other, _)| *other == key) {
            Some((_, handle)) => handle.resume(),
            None => self.pool.resume_group(&key),
        }
        self.oracle.resume(key);
    }

    pub fn configure(&mut self, key: u8, own: Option<Limits>) {
        let mut settings = GroupSettings::new();
        if let Some(Limits { idle_timeout, max_lifetime, max_idle, min_idle, max_uses }) = own {
            settings = settings
                .idle_timeout(span(idle_timeout))
                .max_lifetime(span(max_lifetime))
                .max_idle(max_idle.unwrap_or(usize::MAX))
                .min_idle(min_idle)
                .max_uses(max_uses);
        }
        self.pool.group(&key).configure(settings).unwrap();
        self.oracle.configure(key, own);
    }

    pub fn reconfigure(&mut self, capacity: Option<usize>, defaults: Option<Limits>) {
        let capacity = capacity.unwrap_or(self.oracle.capacity);
        let defaults = defaults.unwrap_or(self.oracle.defaults);
        let change = |settings: &mut slabpool::Settings| {
            settings.capacity = capacity;
            settings.idle_timeout = span(defaults.idle_timeout);
            settings.max_lifetime = span(defaults.max_lifetime);
            settings.max_idle_per_group = defaults.max_idle.unwrap_or(usize::MAX);
            settings.min_idle_per_group = defaults.min_idle;
            settings.max_uses = defaults.max_uses;
        };
        self.pool.reconfigure(change).unwrap();
        let mut settings = self.pool.settings();
        change(&mut settings);
        assert_eq!(settings, self.pool.settings());
        self.oracle.reconfigure(capacity, defaults);
    }

    pub fn maintain(&mut self) {
        self.compare_closes();
        let closed = self.pool.maintain();
        let did = self.journal.written();
        let tick = self.pool.tick().as_millis() as u64;
        let reason = |id| {
            let found = did.iter().find(|&&(_, other, _)| other == id);
            found.map(|&(_, _, reason)| reason).filter(|&reason| reason != CloseReason::Evicted)
        };
        assert_eq!(closed, self.oracle.maintain(tick, reason));
    }

    pub fn compare_closes(&mut self) {
        let mut closes = self.journal.read();
        closes.sort_by_key(|&(_, id, _)| id);
        self.oracle.closes.sort_by_key(|&(_, id, _)| id);
        assert_eq!(closes, self.oracle.closes);
        self.oracle.closes.clear();
    }
}
