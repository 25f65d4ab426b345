//! What a pool must do, in plain data: a list for each key. Times are milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use slabpool::{CloseReason, Meta, Miss, RejectReason};

use crate::memory::{self, Memory};

pub const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub idle_timeout: u64,
    pub max_lifetime: u64,
    pub max_idle: Option<usize>,
    pub max_uses: u64,
}

#[derive(Debug)]
pub struct Connection {
    key: u8,
    born: u64,
    stamp: u64,
    deadline: u64,
    retire_at: u64,
    patience: u64,
    uses: u64,
    doomed: bool,
    invalid: bool,
    drained: bool,
    leased: bool,
}

#[derive(Debug)]
pub struct Group {
    /// Released last comes last.
    pub idle: Vec<u32>,
    pub leased: usize,
    pub handles: usize,
    pub limits: Limits,
    pub own: Option<Limits>,
    pub draining: bool,
}

/// A predicate on what a connection says of itself.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    IdleUnder(u64),
    UsesUpTo(u64),
    YoungerThan(u64),
    Any,
}

impl Rule {
    pub fn holds(self, meta: &Meta) -> bool {
        match self {
            Self::IdleUnder(limit) => meta.idle_for < Duration::from_millis(limit),
            Self::UsesUpTo(limit) => meta.uses <= limit,
            Self::YoungerThan(limit) => meta.age < Duration::from_millis(limit),
            Self::Any => true,
        }
    }

    pub fn agrees(self, (age, idle_for, uses): Told) -> bool {
        match self {
            Self::IdleUnder(limit) => idle_for < limit,
            Self::UsesUpTo(limit) => uses <= limit,
            Self::YoungerThan(limit) => age < limit,
            Self::Any => true,
        }
    }
}

/// What a lease says of its connection: age, idle time, uses.
pub type Told = (u64, u64, u64);

#[derive(Debug)]
pub struct Oracle {
    pub now: u64,
    pub capacity: usize,
    pub defaults: Limits,
    pub groups: BTreeMap<u8, Group>,
    pub connections: BTreeMap<u32, Connection>,
    pub closed: bool,
    /// Closed since the last look: key, number, reason.
    pub closes: Vec<(u8, u32, CloseReason)>,
    pub hits: u64,
    pub memory: Memory,
    pub inserts: u64,
    pub rejects: u64,
    pub taken: u64,
}

impl Oracle {
    pub fn new(capacity: usize, defaults: Limits) -> Self {
        Self {
            now: 0,
            capacity,
            defaults,
            groups: BTreeMap::new(),
            connections: BTreeMap::new(),
            closed: false,
            closes: Vec::new(),
            hits: 0,
            memory: Memory::default(),
            inserts: 0,
            rejects: 0,
            taken: 0,
        }
    }

    pub fn group(&mut self, key: u8) -> &mut Group {
        let limits = self.defaults;
        self.groups.entry(key).or_insert(Group {
            idle: Vec::new(),
            leased: 0,
            handles: 0,
            limits,
            own: None,
            draining: false,
        })
    }

    /// Groups that nobody is in are gone.
    pub fn forget_empty_groups(&mut self) {
        self.groups.retain(|_, group| {
            let kept = group.handles > 0 || group.own.is_some() || group.draining;
            kept || !group.idle.is_empty() || group.leased > 0
        });
    }

    pub fn configure(&mut self, key: u8, own: Option<Limits>) {
        let limits = own.unwrap_or(self.defaults);
        let group = self.group(key);
        group.limits = limits;
        group.own = own;
        self.forget_empty_groups();
    }

    /// Takes a connection from the books.
    fn remove(&mut self, id: u32) -> Connection {
        let connection = self.connections.remove(&id).unwrap();
        let group = self.groups.get_mut(&connection.key).unwrap();
        if connection.leased {
            group.leased -= 1;
        } else {
            group.idle.retain(|&other| other != id);
        }
        self.forget_empty_groups();
        connection
    }

    pub fn close_one(&mut self, id: u32, reason: CloseReason) {
        let connection = self.remove(id);
        self.memory.leave(connection.key, reason, connection.deadline, self.now);
        self.closes.push((connection.key, id, reason));
    }

    fn why_unfit(&self, id: u32, used_up: bool) -> Option<CloseReason> {
        let connection = &self.connections[&id];
        if self.closed {
            Some(CloseReason::Closed)
        } else if connection.doomed {
            Some(CloseReason::Removed)
        } else if connection.drained {
            Some(CloseReason::Drained)
        } else if connection.invalid {
            Some(CloseReason::Invalidated)
        } else if self.now >= connection.retire_at {
            Some(CloseReason::Lifetime)
        } else if self.now >= connection.deadline {
            Some(CloseReason::Idle)
        } else {
            used_up.then_some(CloseReason::Uses)
        }
    }

    /// Leases an idle connection.
    fn lease(&mut self, id: u32) -> (u32, Told) {
        let connection = self.connections.get_mut(&id).unwrap();
        connection.leased = true;
        connection.uses += 1;
        let told = (self.now - connection.born, self.now - connection.stamp, connection.uses);
        let group = self.groups.get_mut(&connection.key).unwrap();
        group.idle.retain(|&other| other != id);
        group.leased += 1;
        self.hits += 1;
        (id, told)
    }

    pub fn get(&mut self, key: u8) -> Option<(u32, Told)> {
        let mut met = None;
        while let Some(&id) = self.groups.get(&key).and_then(|group| group.idle.last()) {
            let used_up = self.connections[&id].uses >= self.groups[&key].limits.max_uses;
            match self.why_unfit(id, used_up) {
                None => return Some(self.lease(id)),
                Some(reason) => {
                    met = met.or(memory::explains(reason));
                    self.close_one(id, reason);
                }
            }
        }
        self.miss(key, met);
        None
    }

    fn miss(&mut self, key: u8, met: Option<Miss>) {
        let in_use = self.groups.get(&key).is_some_and(|group| group.leased > 0);
        let other = if in_use { Miss::AllLeased } else { Miss::Cold };
        let draining = self.groups.get(&key).is_some_and(|group| group.draining);
        let met = if self.closed || draining { Some(Miss::Closed) } else { met };
        self.memory.miss(key, met, other, self.now);
    }

    pub fn get_if(&mut self, key: u8, rule: Rule) -> Option<(u32, Told)> {
        let idle = self.groups.get(&key).map_or(Vec::new(), |group| group.idle.clone());
        let (mut expired, mut unwanted) = (None, None);
        let found = idle.into_iter().rev().find(|id| {
            let connection = &self.connections[id];
            let used_up = connection.uses >= self.groups[&key].limits.max_uses;
            let (age, idle_for) = (self.now - connection.born, self.now - connection.stamp);
            let unfit = self.why_unfit(*id, used_up);
            expired = expired.or(unfit.and_then(memory::explains));
            let agrees = rule.agrees((age, idle_for, connection.uses + 1));
            unwanted = unwanted.or((unfit.is_none() && !agrees).then_some(Miss::Predicate));
            unfit.is_none() && agrees
        });
        if found.is_none() {
            self.miss(key, expired.or(unwanted));
        }
        found.map(|id| self.lease(id))
    }

    pub fn release(&mut self, id: u32) {
        let (now, key) = (self.now, self.connections[&id].key);
        let Limits { idle_timeout, max_idle, max_uses, .. } = self.groups[&key].limits;
        let connection = self.connections.get_mut(&id).unwrap();
        let patience = connection.patience.min(idle_timeout);
        connection.stamp = now;
        connection.deadline = now.saturating_add(patience).min(connection.retire_at);
        let used_up = connection.uses >= max_uses;
        if let Some(reason) = self.why_unfit(id, used_up) {
            return self.close_one(id, reason);
        }
        let group = self.groups.get_mut(&key).unwrap();
        if max_idle.is_some_and(|cap| group.idle.len() >= cap) {
            return self.close_one(id, CloseReason::GroupFull);
        }
        group.leased -= 1;
        group.idle.push(id);
        self.connections.get_mut(&id).unwrap().leased = false;
    }

    pub fn end(&mut self, id: u32, reason: CloseReason) {
        self.close_one(id, reason);
    }

    pub fn detach(&mut self, id: u32) {
        self.remove(id);
        self.taken += 1;
    }

    /// The number of a connection is that of its insertion.
    pub fn insert(&mut self, key: u8, id: u32) -> Result<(), RejectReason> {
        self.admit(key, id, NEVER, true)
    }

    pub fn put(&mut self, key: u8, id: u32, patience: u64) -> Result<(), RejectReason> {
        self.admit(key, id, patience, false)
    }

    fn admit(&mut self, key: u8, id: u32, patience: u64, leased: bool) -> Result<(), RejectReason> {
        let mut refusal = self.refusal(key, patience, leased);
        if refusal.is_none() && !self.make_room() {
            refusal = Some(RejectReason::Full { capacity: self.capacity });
        }
        if let Some(reason) = refusal {
            self.forget_empty_groups();
            self.rejects += 1;
            return Err(reason);
        }
        let limits = self.group(key).limits;
        let (now, retire_at) = (self.now, self.now.saturating_add(limits.max_lifetime));
        let deadline = now.saturating_add(patience.min(limits.idle_timeout)).min(retire_at);
        let group = self.group(key);
        if leased {
            group.leased += 1;
        } else {
            group.idle.push(id);
        }
        let (uses, stamp, born) = (u64::from(leased), now, now);
        let (doomed, invalid, drained) = (false, false, false);
        self.connections.insert(
            id,
            Connection {
                key,
                born,
                stamp,
                deadline,
                retire_at,
                patience,
                uses,
                doomed,
                invalid,
                drained,
                leased,
            },
        );
        self.inserts += 1;
        Ok(())
    }

    fn refusal(&mut self, key: u8, patience: u64, leased: bool) -> Option<RejectReason> {
        let closed = self.closed;
        let group = self.group(key);
        let Limits { idle_timeout, max_idle, .. } = group.limits;
        if closed {
            Some(RejectReason::Closed)
        } else if group.draining {
            Some(RejectReason::Draining)
        } else if !leased && patience.min(idle_timeout) == 0 {
            Some(RejectReason::NeverIdle)
        } else {
            let max_idle = max_idle.filter(|&cap| !leased && group.idle.len() >= cap);
            max_idle.map(|max_idle| RejectReason::GroupFull { max_idle })
        }
    }

    /// Released longest ago; of several, inserted first.
    pub fn victim(&self) -> Option<u32> {
        let idle = self.connections.iter().filter(|(_, connection)| !connection.leased);
        idle.min_by_key(|&(&id, connection)| (connection.stamp, id)).map(|(&id, _)| id)
    }

    pub fn take(&mut self, id: u32) -> bool {
        let idle = self.connections.get(&id).is_some_and(|connection| !connection.leased);
        if idle {
            self.detach(id);
        }
        idle
    }

    pub fn evict(&mut self, id: u32) -> bool {
        match self.connections.get_mut(&id) {
            None => false,
            Some(connection) if connection.leased => {
                connection.doomed = true;
                true
            }
            Some(_) => {
                self.close_one(id, CloseReason::Removed);
                true
            }
        }
    }

    /// What is idle: key, number, and what it would say if it was leased.
    pub fn idle(&self) -> Vec<(u8, u32, Told)> {
        let told = |c: &Connection| (self.now - c.born, self.now - c.stamp, c.uses + 1);
        let idle = self.connections.iter().filter(|(_, c)| !c.leased);
        idle.map(|(&id, c)| (c.key, id, told(c))).collect()
    }

    /// Closes the idle connections for which `which` says so.
    pub fn close_idle(&mut self, reason: CloseReason, which: impl Fn(u8, u32, Told) -> bool) {
        for (key, id, told) in self.idle() {
            if which(key, id, told) {
                self.close_one(id, reason);
            }
        }
    }

    pub fn invalidate(&mut self, which: impl Fn(u8) -> bool) {
        for connection in self.connections.values_mut().filter(|c| which(c.key)) {
            connection.invalid = true;
        }
    }

    /// Closes what is idle and was invalidated.
    pub fn close_unfit(&mut self) {
        for (_, id, _) in self.idle() {
            if self.connections[&id].invalid {
                self.close_one(id, CloseReason::Invalidated);
            }
        }
    }

    pub fn drain(&mut self, key: u8) {
        self.group(key).draining = true;
        for connection in self.connections.values_mut().filter(|c| c.key == key) {
            connection.drained = true;
        }
        self.close_idle(CloseReason::Drained, |other, _, _| other == key);
    }

    pub fn resume(&mut self, key: u8) {
        if let Some(group) = self.groups.get_mut(&key) {
            group.draining = false;
        }
        self.forget_empty_groups();
    }

    /// Maintenance must close what was invalidated, and what expired a tick ago; it
    /// may close what expired less than a tick ago. `did` says what it has closed for
    /// that. And then what is too many, and nothing else. Returns how many of both.
    pub fn maintain(&mut self, tick: u64, did: impl Fn(u32) -> bool) -> usize {
        let mut expired = 0;
        for (_, id, _) in self.idle() {
            let connection = &self.connections[&id];
            if connection.invalid {
                self.close_one(id, CloseReason::Invalidated);
            } else if self.now >= connection.deadline
                && (self.now - connection.deadline >= tick || did(id))
            {
                let ended = self.now >= connection.retire_at;
                self.close_one(id, if ended { CloseReason::Lifetime } else { CloseReason::Idle });
                expired += 1;
            }
        }
        expired + self.shrink()
    }

    pub fn close(&mut self) {
        self.closed = true;
        self.close_idle(CloseReason::Closed, |_, _, _| true);
    }
}
