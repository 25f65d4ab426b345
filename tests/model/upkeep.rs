//! Who goes without having been asked for.

use slabpool::CloseReason;

use crate::oracle::{Oracle, Told};
use crate::wire::Probing;

impl Oracle {
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

    /// In a pool that watches, `retain` closes what has died.
    pub fn close_watched(&mut self) {
        for (_, id, _) in self.idle() {
            if let Some(reason) = self.fault(id).filter(|_| self.probing == Probing::Watch) {
                self.close_one(id, reason);
            }
        }
    }

    pub fn advance(&mut self, ms: u64) {
        self.now += ms;
        // Time alone makes nobody lose an exemption. So who was in time before and is not
        // exempt now has been overdue since its deadline.
        for (_, id, _) in self.idle() {
            let connection = &self.connections[&id];
            let (deadline, before) = (connection.deadline, self.now - ms);
            if before < deadline && self.now >= deadline && !self.is_exempt(id) {
                self.connections.get_mut(&id).unwrap().overdue = Some(deadline);
            }
        }
    }

    /// Notes who is exempt, and who is overdue.
    pub fn mark_overdue(&mut self) {
        for (_, id, _) in self.idle() {
            let (now, exempt) = (self.now, self.is_exempt(id));
            let connection = self.connections.get_mut(&id).unwrap();
            if now < connection.deadline {
                continue;
            }
            if exempt {
                (connection.overdue, connection.was_exempt) = (None, true);
            } else {
                connection.overdue.get_or_insert(now);
            }
        }
    }

    /// Why maintenance may close an idle connection as its time is up, and whether it must.
    fn overdue(&self, id: u32, tick: u64) -> Option<(CloseReason, bool)> {
        let connection = &self.connections[&id];
        let since = connection.overdue?;
        let spell = connection.deadline - connection.stamp;
        let patience = if connection.was_exempt { tick.max(spell / 8) + tick } else { tick };
        let ended = self.now >= connection.retire_at;
        let reason = if ended { CloseReason::Lifetime } else { CloseReason::Idle };
        // A lifetime ends in time, whoever was exempt.
        let late = self.now - since.min(connection.retire_at);
        Some((reason, late >= patience))
    }

    /// Why maintenance may close an idle connection as a probe finds it, and whether it must.
    fn found_out(&self, id: u32, tick: u64) -> Option<(CloseReason, bool)> {
        let connection = &self.connections[&id];
        let (reason, since) = connection.fate?;
        let due = |now: u64, interval: u64| {
            let whole = now.checked_sub(connection.stamp)? / interval;
            (whole > 0).then(|| connection.stamp + whole * interval)
        };
        match self.probing {
            Probing::Off => None,
            Probing::Watch => Some((reason, true)),
            Probing::Ask(interval) => {
                due(self.now, interval)?;
                let last = self.now.checked_sub(tick).and_then(|now| due(now, interval));
                Some((reason, last.is_some_and(|last| last >= since)))
            }
        }
    }

    /// Maintenance must close what was invalidated, what expired a tick ago, and what
    /// died before the last time that it was to be asked, if that is a tick ago; it may
    /// close what did so less than a tick ago. `did` says what it has closed for that, and
    /// why. And then what is too many, and nothing else. Returns how many of these.
    pub fn maintain(&mut self, tick: u64, did: impl Fn(u32) -> Option<CloseReason>) -> usize {
        let mut closed = 0;
        let idle = self.idle();
        let verdicts: Vec<_> = idle
            .iter()
            .map(|&(_, id, _)| (id, [self.overdue(id, tick), self.found_out(id, tick)]))
            .collect();
        for (id, verdicts) in verdicts {
            let mut verdicts = verdicts.into_iter().flatten();
            if self.connections[&id].invalid {
                self.close_one(id, CloseReason::Invalidated);
            } else if let Some(reason) = did(id) {
                assert!(verdicts.any(|(may, _)| may == reason), "{id} for {reason}: {self:?}");
                self.close_one(id, reason);
                closed += 1;
            } else {
                assert!(!verdicts.any(|(_, must)| must), "{id} stays: {self:?}");
            }
        }
        closed + self.shrink()
    }

    pub fn close(&mut self) {
        self.closed = true;
        self.close_idle(CloseReason::Closed, |_, _, _| true);
    }
}
