//! Who is leased, and who comes in and back.

use slabpool::{CloseReason, Miss, RejectReason};

use crate::memory;
use crate::oracle::{Connection, Limits, NEVER, Oracle, Rule, Told};
use crate::wire::Probing;

impl Oracle {
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
            let unfit = self.why_unfit(id, used_up);
            let spared = unfit == Some(CloseReason::Idle) && !used_up && self.is_exempt(id);
            match unfit.filter(|_| !spared).or(self.fault(id)) {
                None => return Some(self.lease(id)),
                Some(reason) => {
                    met = memory::more_telling(met, memory::explains(reason));
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
        let mut met = None;
        for id in idle.into_iter().rev() {
            let connection = &self.connections[&id];
            let used_up = connection.uses >= self.groups[&key].limits.max_uses;
            let (age, idle_for) = (self.now - connection.born, self.now - connection.stamp);
            let agrees = rule.agrees((age, idle_for, connection.uses + 1));
            let unfit = self.why_unfit(id, used_up);
            let spared = unfit == Some(CloseReason::Idle) && !used_up && self.is_exempt(id);
            let seen = match unfit.filter(|_| !spared) {
                // Left to others.
                Some(reason) => memory::explains(reason),
                None if !agrees => Some(Miss::Predicate),
                None => match self.fault(id) {
                    None => return Some(self.lease(id)),
                    Some(reason) => {
                        self.close_one(id, reason);
                        memory::explains(reason)
                    }
                },
            };
            met = memory::more_telling(met, seen);
        }
        self.miss(key, met);
        None
    }

    /// What a release says of its connection.
    pub fn say(&mut self, id: u32, patience: Option<u64>, uses: Option<u64>) {
        let connection = self.connections.get_mut(&id).unwrap();
        if let Some(patience) = patience.filter(|&patience| patience != NEVER) {
            connection.patience = patience;
        }
        if let Some(uses) = uses {
            connection.uses_max = connection.uses.saturating_add(uses);
        }
    }

    pub fn release(&mut self, id: u32) {
        let (now, key) = (self.now, self.connections[&id].key);
        let Limits { idle_timeout, max_idle, max_uses, .. } = self.groups[&key].limits;
        let connection = self.connections.get_mut(&id).unwrap();
        let patience = connection.patience.min(idle_timeout);
        connection.stamp = now;
        connection.deadline = now.saturating_add(patience).min(connection.retire_at);
        (connection.overdue, connection.was_exempt) = (None, false);
        let used_up = connection.uses >= max_uses.min(connection.uses_max);
        let fault = self.fault(id).filter(|_| self.probing == Probing::Watch);
        if let Some(reason) = self.why_unfit(id, used_up).or(fault) {
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
                uses_max: u64::MAX,
                fate: None,
                overdue: None,
                was_exempt: false,
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
}
