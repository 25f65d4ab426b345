//! What a pool must do, in plain data: a list for each key. Times are milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use slabpool::{CloseReason, Meta};

use crate::memory::Memory;
use crate::wire::Probing;

pub const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub idle_timeout: u64,
    pub max_lifetime: u64,
    pub max_idle: Option<usize>,
    /// No more than `max_idle`.
    pub min_idle: usize,
    pub max_uses: u64,
}

#[derive(Debug)]
pub struct Connection {
    pub key: u8,
    pub born: u64,
    pub stamp: u64,
    pub deadline: u64,
    pub retire_at: u64,
    pub patience: u64,
    pub uses: u64,
    pub uses_max: u64,
    pub doomed: bool,
    pub invalid: bool,
    pub drained: bool,
    pub leased: bool,
    /// What it would be closed for by who looks at it, and since when.
    pub fate: Option<(CloseReason, u64)>,
    /// Since when it is idle past its time, and not exempt.
    pub overdue: Option<u64>,
    /// Whether it was exempt in this idle spell.
    pub was_exempt: bool,
}

impl Connection {
    /// When it ends, exempt or not.
    pub fn hard_end(&self) -> u64 {
        self.stamp.saturating_add(self.patience).min(self.retire_at)
    }
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
    pub probing: Probing,
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
    pub fn new(capacity: usize, defaults: Limits, probing: Probing) -> Self {
        Self {
            now: 0,
            probing,
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
    pub fn remove(&mut self, id: u32) -> Connection {
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

    pub fn why_unfit(&self, id: u32, used_up: bool) -> Option<CloseReason> {
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

    /// Whether an idle connection is among the youngest of its group, which are exempt
    /// from its idle timeout.
    pub fn is_exempt(&self, id: u32) -> bool {
        let connection = &self.connections[&id];
        let group = &self.groups[&connection.key];
        let stays = |other: &&u32| {
            let other = &self.connections[other];
            self.now < other.hard_end() && !other.invalid
        };
        let younger = group.idle.iter().rev().take_while(|&&other| other != id).filter(stays);
        let spared = if group.limits.idle_timeout == 0 { 0 } else { group.limits.min_idle };
        self.now < connection.hard_end() && !connection.invalid && younger.count() < spared
    }

    /// What a probe would find against a connection.
    pub fn fault(&self, id: u32) -> Option<CloseReason> {
        let (reason, _) = self.connections[&id].fate?;
        (self.probing != Probing::Off).then_some(reason)
    }

    /// Something happens at the other end of a connection. False if it had happened before.
    pub fn suffer(&mut self, id: u32, reason: CloseReason) -> bool {
        let now = self.now;
        let connection = self.connections.get_mut(&id).unwrap();
        let first = connection.fate.is_none();
        connection.fate.get_or_insert((reason, now));
        first
    }
}
