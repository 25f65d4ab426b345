//! Numbers about a pool: counted on the cold paths, summed when they are read.

use std::fmt;
use std::ops::Index;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::core::state::Phase;
use crate::engine::Engine;
use crate::error::CloseReason;
use crate::ghosts::{Ago, Ghosts};
use crate::group::Members;
use crate::miss::{Miss, Misses};
use crate::sync::{AtomicU64, Ordering};

/// What is in a pool, or in one group of it. From [`Pool::status`](crate::Pool::status)
/// and [`Pool::group_status`](crate::Pool::group_status).
///
/// Read while others work, the numbers may be off by what happened meanwhile; of a
/// pool at rest they are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// Connections that wait to be leased.
    pub idle: usize,
    /// Connections that are leased.
    pub leased: usize,
    /// Groups that have a connection, a handle or settings of their own, or drain.
    pub groups: usize,
    /// The most connections that the pool holds, idle and leased together.
    pub capacity: usize,
}

/// What happened in a pool since it was built. From [`Pool::stats`](crate::Pool::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Gets that found a connection.
    pub hits: u64,
    /// Gets that found none, by why.
    pub misses: Misses,
    /// Misses that a rule of the pool has caused, by rule and by how much longer it
    /// would have had to wait.
    pub ghosts: Ghosts,
    /// Connections that the pool took, to be leased or idle.
    pub inserts: u64,
    /// Connections that the pool did not take.
    pub rejects: u64,
    /// Connections that the pool gave up, by reason.
    pub closes: Closes,
    /// Connections that were taken out alive, by `take` and `detach`.
    pub taken: u64,
    /// Panics of `on_close` and of connections' destructors, which were caught.
    pub panics: u64,
}

impl Stats {
    /// All gets, hits and misses.
    pub fn gets(&self) -> u64 {
        self.hits + self.misses.total()
    }

    /// The part of the gets that found a connection, from 0 to 1; 0 if there were
    /// none.
    pub fn reuse_ratio(&self) -> f64 {
        if self.gets() == 0 { 0.0 } else { self.hits as f64 / self.gets() as f64 }
    }
}

/// What happened in one group since it exists. From
/// [`Group::stats`](crate::Group::stats) and [`Pool::group_stats`](crate::Pool::group_stats).
///
/// A group goes with its last connection, and these numbers with it, unless a
/// [`Group`](crate::Group) handle or settings of its own keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Connections that the peer has closed, or that have failed
    /// ([`CloseReason::Dead`]).
    pub closed_by_peer: u64,
    /// Connections that were closed because their peer had sent what nobody asked for
    /// ([`CloseReason::UnexpectedData`]).
    pub unexpected_data: u64,
}

/// Connections that the pool gave up, by reason: `stats.closes[CloseReason::Idle]`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Closes([u64; CloseReason::ALL.len()]);

impl Closes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its number.
    pub fn iter(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.into_iter().map(|reason| (reason, self[reason]))
    }
}

impl Index<CloseReason> for Closes {
    type Output = u64;

    fn index(&self, reason: CloseReason) -> &u64 {
        &self.0[reason.index()]
    }
}

impl fmt::Debug for Closes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|&(_, count)| count > 0)).finish()
    }
}

/// About one connection, when it is leased or looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// Since it was inserted.
    pub age: Duration,
    /// How long it was idle: until it was leased, or until now if it is idle. Zero
    /// for a connection just inserted.
    pub idle_for: Duration,
    /// How often it was leased, this lease included; in predicates, the lease that they
    /// decide about. An idle one that is shown to [`retain`](crate::Pool::retain) says what
    /// its next lease will be.
    pub uses: u64,
    /// Whether it came out of the pool, so that the peer may have closed it
    /// meanwhile: a request that fails on it before any answer may be tried again
    /// on a new one. False for a connection just inserted.
    pub reused: bool,
}

/// Counters of the cold paths.
///
/// All accesses are Relaxed: each number stands for itself.
#[derive(Debug)]
pub(crate) struct Counters {
    pub misses: CachePadded<[Counter; Miss::ALL.len()]>,
    pub rejects: Counter,
    pub taken: Counter,
    pub panics: Counter,
    /// Rises of incarnations that are no hits, beside those by which connections leave:
    /// claims on connections that turned out to be unfit.
    pub vacated: CachePadded<Counter>,
    closes: [Counter; CloseReason::ALL.len()],
    /// By rule, then by band.
    pub ghosts: [[Counter; Ago::ALL.len()]; Ghosts::RULES.len()],
}

impl Counters {
    pub fn new() -> Self {
        Self {
            misses: CachePadded::default(),
            rejects: Counter::default(),
            taken: Counter::default(),
            panics: Counter::default(),
            vacated: CachePadded::default(),
            closes: Default::default(),
            ghosts: Default::default(),
        }
    }

    pub fn closed(&self, reason: CloseReason) {
        self.closes[reason.index()].add();
    }

    pub fn closes(&self) -> Closes {
        Closes(std::array::from_fn(|index| self.closes[index].get()))
    }
}

/// What is counted for each group: little, since there may be one for each connection.
#[derive(Debug, Default)]
pub(crate) struct GroupTally {
    closed_by_peer: Counter,
    unexpected_data: Counter,
}

impl GroupTally {
    pub fn closed(&self, reason: CloseReason) {
        match reason {
            CloseReason::Dead => self.closed_by_peer.add(),
            CloseReason::UnexpectedData => self.unexpected_data.add(),
            _ => {}
        }
    }

    pub fn stats(&self) -> GroupStats {
        GroupStats {
            closed_by_peer: self.closed_by_peer.get(),
            unexpected_data: self.unexpected_data.get(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self) {
        self.add_many(1);
    }

    pub fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<K, C> Engine<K, C> {
    pub fn status(&self) -> Status {
        let mut status = Status {
            groups: self.directory.len(),
            capacity: self.capacity.max(),
            ..Status::default()
        };
        for (_, seat) in self.core.seats.iter() {
            match seat.state.load().phase() {
                Phase::Idle | Phase::Inspected | Phase::Orphaned => status.idle += 1,
                Phase::Leased => status.leased += 1,
                Phase::Vacant | Phase::Claimed => {}
            }
        }
        status
    }

    pub fn group_status(&self, group: &Members<K>) -> Status {
        let idle = group.lanes.live(&self.core) as usize;
        Status {
            idle,
            leased: (group.roll.connections() as usize).saturating_sub(idle),
            groups: 1,
            capacity: self.capacity.max(),
        }
    }

    pub fn stats(&self) -> Stats {
        // Each hit raises an incarnation by one, and each end of a stay does (S1).
        let incarnations =
            self.core.seats.iter().map(|(_, seat)| seat.state.load().incarnation()).sum::<u64>();
        let (closes, taken) = (self.counters.closes(), self.counters.taken.get());
        let vacated = closes.total() + taken + self.counters.vacated.get();
        Stats {
            hits: incarnations.saturating_sub(vacated),
            misses: Misses::new(|index| self.counters.misses[index].get()),
            ghosts: Ghosts::new(|rule, ago| self.counters.ghosts[rule][ago].get()),
            // Each has a number. Relaxed: as the counters.
            inserts: self.serials.load(Ordering::Relaxed) - self.first_serial,
            rejects: self.counters.rejects.get(),
            closes,
            taken,
            panics: self.counters.panics.get(),
        }
    }
}
