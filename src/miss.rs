//! Why gets miss.

use std::fmt;
use std::ops::Index;

use crate::core::seat::Seat;
use crate::core::tagged::NIL;
use crate::engine::{Engine, RawLease};
use crate::error::CloseReason;
use crate::group::Members;

/// Why a get found no connection, and with it what would have to change.
///
/// Of several reasons, the one that says the most is counted: [`Closed`](Miss::Closed)
/// first, then what the get has met itself ([`Expired`](Miss::Expired),
/// [`Dead`](Miss::Dead), [`Predicate`](Miss::Predicate)), then what is remembered of the
/// key's former connections (see [`Ghosts`](crate::Ghosts)), then
/// [`AllLeased`](Miss::AllLeased), then [`Cold`](Miss::Cold).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Miss {
    /// Nothing is known of a connection under this key. No limit of the pool is to
    /// blame.
    Cold,
    /// The connections under this key are in use, and none was closed by a rule: there
    /// were too few of them for so many requests at a time.
    AllLeased,
    /// A connection was there, or had been lately, and its time was up: its idle
    /// timeout, its lifetime, its uses. Or one was there that had been invalidated.
    Expired,
    /// A connection was there, or had been lately, and its peer had closed it or had
    /// sent what nobody asked for.
    Dead,
    /// A connection had been there lately, and gave way to a bound: the capacity, the
    /// most idle ones of its group, or what its group needed.
    Evicted,
    /// Only of `get_if`: there were connections, and the predicate refused them.
    Predicate,
    /// The pool is closed, or the group drained.
    Closed,
}

impl Miss {
    /// All kinds, in the order of [`Miss::index`].
    pub const ALL: [Self; 7] = [
        Self::Cold,
        Self::AllLeased,
        Self::Expired,
        Self::Dead,
        Self::Evicted,
        Self::Predicate,
        Self::Closed,
    ];

    /// A small number, for tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// A word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::AllLeased => "all_leased",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Evicted => "evicted",
            Self::Predicate => "predicate",
            Self::Closed => "closed",
        }
    }

    /// What a get misses by for which a connection was closed by this rule.
    fn by_rule(rule: CloseReason) -> Option<Self> {
        match rule {
            CloseReason::Idle | CloseReason::Lifetime | CloseReason::Uses => Some(Self::Expired),
            CloseReason::Dead | CloseReason::UnexpectedData => Some(Self::Dead),
            CloseReason::Evicted | CloseReason::GroupFull | CloseReason::Trimmed => {
                Some(Self::Evicted)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Gets that found no connection, by kind: `stats.misses[Miss::AllLeased]`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Misses([u64; Miss::ALL.len()]);

impl Misses {
    pub(crate) fn new(count: impl FnMut(usize) -> u64) -> Self {
        Self(std::array::from_fn(count))
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Miss, u64)> + '_ {
        Miss::ALL.into_iter().map(|miss| (miss, self[miss]))
    }
}

impl Index<Miss> for Misses {
    type Output = u64;

    fn index(&self, miss: Miss) -> &u64 {
        &self.0[miss.index()]
    }
}

impl fmt::Debug for Misses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|&(_, count)| count > 0)).finish()
    }
}

/// What a get has met and could not use, as far as that explains a miss.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met(Option<Miss>, Silent);

/// Whether a miss counts: not of one who has missed already, and looks again.
type Silent = bool;

impl Met {
    /// For one whose miss does not count.
    #[cfg(feature = "tokio")]
    pub const SILENT: Self = Self(None, true);

    /// A connection that was not fit, for this reason.
    pub fn refused(&mut self, reason: CloseReason) {
        let miss = match reason {
            CloseReason::Invalidated => Some(Miss::Expired),
            reason => Miss::by_rule(reason),
        };
        match (miss, self.0) {
            (Some(Miss::Expired), _) => self.0 = miss,
            (Some(_), None | Some(Miss::Predicate)) => self.0 = miss,
            _ => {}
        }
    }

    fn is_silent(self) -> bool {
        self.1
    }

    /// A connection that was fit, and that the predicate refused.
    pub fn unwanted(&mut self) {
        self.0 = self.0.or(Some(Miss::Predicate));
    }
}

impl<K, C> Engine<K, C> {
    /// Goes on after a connection that is not fit. Apart, so that what was met takes no
    /// register from a get that meets nothing of the kind.
    #[cold]
    #[inline(never)]
    pub fn pass_over(
        &self,
        lease: RawLease<K, C>,
        fault: CloseReason,
        group: &Members<K>,
    ) -> Option<(&Seat, u32)> {
        let (now, mut met) = (lease.since, Met::default());
        met.refused(fault);
        self.refuse(lease, fault);
        self.search(group, now, NIL, met)
    }

    /// As [`Engine::lease`], for one who has missed already: counts no miss.
    #[cfg(feature = "tokio")]
    #[cold]
    pub fn lease_again(&self, group: &Members<K>) -> Option<RawLease<K, C>> {
        let now = self.config.clock.now();
        let (seat, ticket) = self.search(group, now, NIL, Met::SILENT)?;
        Some(RawLease::new(seat, ticket, now, true))
    }

    /// Counts a miss of a key with this hash, which has no group.
    #[cold]
    #[inline(never)]
    pub fn missed_key<T>(&self, hash: u64) -> Option<T> {
        self.missed(hash, None, Met::default(), self.config.clock.now());
        None
    }

    /// Counts a miss of a key with this hash, and with this group if it has one.
    #[cold]
    #[inline(never)]
    pub fn missed(&self, hash: u64, group: Option<&Members<K>>, met: Met, now: u64) {
        if met.is_silent() {
            return;
        }
        let miss = match met.0 {
            _ if self.is_closed() || group.is_some_and(|group| group.lanes.era.is_draining()) => {
                Miss::Closed
            }
            // There was one. Whether the predicate had liked another is not known.
            Some(Miss::Predicate) => Miss::Predicate,
            met => {
                let ghost = self.ghost_hit(hash, now).and_then(Miss::by_rule);
                let in_use = group.is_some_and(|group| group.roll.connections() > 0);
                met.or(ghost).unwrap_or(if in_use { Miss::AllLeased } else { Miss::Cold })
            }
        };
        self.counters.misses[miss.index()].add();
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn misses_are_indexed_in_order() {
        for (index, miss) in Miss::ALL.into_iter().enumerate() {
            assert_eq!(miss.index(), index);
        }
    }

    /// Whatever a get meets first, what says the most is kept.
    #[test]
    fn what_was_met_is_ranked() {
        let ranked = [
            (CloseReason::Invalidated, Some(Miss::Expired)),
            (CloseReason::Lifetime, Some(Miss::Expired)),
            (CloseReason::UnexpectedData, Some(Miss::Dead)),
            (CloseReason::Removed, None),
            (CloseReason::Closed, None),
        ];
        for (low, (reason, expected)) in ranked.into_iter().enumerate() {
            for (other, _) in ranked.into_iter().skip(low) {
                for order in [[reason, other], [other, reason]] {
                    let mut met = Met::default();
                    order.into_iter().for_each(|reason| met.refused(reason));
                    assert_eq!(met.0, expected, "{order:?}");
                    met.unwanted();
                    assert_eq!(met.0, expected.or(Some(Miss::Predicate)), "{order:?}");
                }
            }
        }
        let mut met = Met::default();
        met.unwanted();
        met.refused(CloseReason::Removed);
        assert_eq!(met.0, Some(Miss::Predicate));
        met.refused(CloseReason::Dead);
        assert_eq!(met.0, Some(Miss::Dead));
    }
}
