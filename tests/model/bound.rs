//! What is closed when the pool is full, or was made smaller.

use slabpool::CloseReason;

use crate::oracle::{Limits, Oracle};

impl Oracle {
    pub fn reconfigure(&mut self, capacity: usize, defaults: Limits) {
        (self.capacity, self.defaults) = (capacity, defaults);
        for group in self.groups.values_mut() {
            group.limits = group.own.unwrap_or(defaults);
        }
        self.shrink();
    }

    /// Closes what is idle and too many. Returns how many.
    pub fn shrink(&mut self) -> usize {
        let excess = self.connections.len().saturating_sub(self.capacity);
        (0..excess).map_while(|_| self.evict_oldest()).count()
    }

    fn evict_oldest(&mut self) -> Option<()> {
        self.victim().map(|victim| self.close_one(victim, CloseReason::Evicted))
    }

    /// Room for one more. In a pool of which the capacity was lowered, up to 32 go.
    pub fn make_room(&mut self) -> bool {
        for _ in 0..32 {
            let count = self.connections.len();
            if count < self.capacity || self.evict_oldest().is_none() || count == self.capacity {
                break;
            }
        }
        self.connections.len() < self.capacity
    }
}
