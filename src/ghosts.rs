//! Misses that a rule has caused, by having closed a connection too early.

use std::fmt;
use std::ops::Index;

use crate::core::ghost::{RULES_MAX, STEP};
use crate::engine::Engine;
use crate::error::CloseReason;
use crate::group::Members;

/// How long before a miss a connection had been closed, to an eighth of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ago {
    /// Up to 1 s.
    Second,
    /// More than 1 s, up to 10 s.
    TenSeconds,
    /// More than 10 s, up to 1 min.
    Minute,
    /// More than 1 min, up to 10 min.
    Longer,
}

impl Ago {
    /// All bands, in the order of [`Ago::index`].
    pub const ALL: [Self; 4] = [Self::Second, Self::TenSeconds, Self::Minute, Self::Longer];

    /// A small number, for tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// A word for logs and metrics: the end of the band.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "1s",
            Self::TenSeconds => "10s",
            Self::Minute => "1min",
            Self::Longer => "10min",
        }
    }

    fn of_steps(steps: u64) -> Self {
        match steps * STEP / 1_000_000 {
            0..=1_000 => Self::Second,
            1_001..=10_000 => Self::TenSeconds,
            10_001..=60_000 => Self::Minute,
            _ => Self::Longer,
        }
    }
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "within 1 s",
            Self::TenSeconds => "after 1 s to 10 s",
            Self::Minute => "after 10 s to 1 min",
            Self::Longer => "after 1 min to 10 min",
        })
    }
}

/// Misses that would have been hits if a rule had waited longer: for each rule, how many,
/// and how much longer it would have had to wait.
///
/// `stats.ghosts[(CloseReason::Evicted, Ago::Second)]` are the gets that missed up to a
/// second after a connection of their key had been closed to make room. Many of them say
/// that the capacity is too small; many at [`CloseReason::Idle`], that the idle timeout
/// is too short, if the peer can bear a longer one. As [`Display`](fmt::Display) shows it:
///
/// ```text
/// evicted: 120 misses within 1 s, 3 after 1 s to 10 s; idle: 1 miss after 10 s to 1 min
/// ```
///
/// The pool remembers what its rules close for up to 10 minutes. A miss takes the youngest
/// such memory of its key, and each one counts once. A connection that expired counts from
/// when its time was up, also if it was closed later.
///
/// The memory has a fixed size, 4 to 32 KiB, of the capacity that the pool was built with.
/// It forgets the oldest first, where much is closed: then some of these numbers are too
/// small, and some misses are counted as [`AllLeased`](crate::Miss::AllLeased) or
/// [`Cold`](crate::Miss::Cold) that a rule has caused. It knows keys by a part of their
/// hash: about one miss in half a million may be put down to a close under another key.
/// Misses for which [`get_if`](crate::Pool::get_if) found connections and refused them are
/// not counted here.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Ghosts([[u64; Ago::ALL.len()]; Ghosts::RULES.len()]);

impl Ghosts {
    /// The rules by which the pool closes connections of its own accord, in the order
    /// of [`Ghosts::iter`]. Other reasons have no ghosts.
    pub const RULES: [CloseReason; 8] = [
        CloseReason::Idle,
        CloseReason::Lifetime,
        CloseReason::Uses,
        CloseReason::Evicted,
        CloseReason::GroupFull,
        CloseReason::Trimmed,
        CloseReason::Dead,
        CloseReason::UnexpectedData,
    ];

    pub(crate) fn new(mut count: impl FnMut(usize, usize) -> u64) -> Self {
        Self(std::array::from_fn(|rule| std::array::from_fn(|ago| count(rule, ago))))
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.as_flattened().iter().sum()
    }

    /// All of one rule; 0 for a reason that has no ghosts.
    pub fn of(&self, rule: CloseReason) -> u64 {
        Ago::ALL.into_iter().map(|ago| self[(rule, ago)]).sum()
    }

    /// Every rule and band with its number.
    pub fn iter(&self) -> impl Iterator<Item = (CloseReason, Ago, u64)> + '_ {
        Self::RULES.into_iter().flat_map(move |rule| {
            Ago::ALL.into_iter().map(move |ago| (rule, ago, self[(rule, ago)]))
        })
    }
}

const _: () = assert!(Ghosts::RULES.len() <= RULES_MAX);

/// The number of a rule, if it has ghosts.
fn rule_of(reason: CloseReason) -> Option<usize> {
    Ghosts::RULES.into_iter().position(|rule| rule == reason)
}

impl Index<(CloseReason, Ago)> for Ghosts {
    type Output = u64;

    fn index(&self, (reason, ago): (CloseReason, Ago)) -> &u64 {
        rule_of(reason).map_or(&0, |rule| &self.0[rule][ago.index()])
    }
}

impl fmt::Debug for Ghosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = self.iter().filter(|&(_, _, count)| count > 0);
        f.debug_map().entries(some.map(|(rule, ago, count)| ((rule, ago), count))).finish()
    }
}

impl fmt::Display for Ghosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("none");
        }
        let mut last = None;
        for (rule, ago, count) in self.iter().filter(|&(_, _, count)| count > 0) {
            if last == Some(rule) {
                write!(f, ", {count} {ago}")?;
                continue;
            }
            let between = if last.is_none() { "" } else { "; " };
            let misses = if count == 1 { "miss" } else { "misses" };
            write!(f, "{between}{rule}: {count} {misses} {ago}")?;
            last = Some(rule);
        }
        Ok(())
    }
}

impl<K, C> Engine<K, C> {
    /// Remembers a connection that was closed, if that was by a rule. `deadline` is when
    /// its time was up, if it was.
    pub fn leave_ghost(&self, group: &Members<K>, reason: CloseReason, deadline: u64) {
        let Some(rule) = rule_of(reason) else { return };
        let now = self.config.clock.now();
        let time = match reason {
            CloseReason::Idle | CloseReason::Lifetime => deadline.min(now),
            _ => now,
        };
        self.ghosts.leave(group.hash, rule, time);
    }

    /// Counts a miss that a rule has caused, and says which.
    pub fn ghost_hit(&self, hash: u64, now: u64) -> Option<CloseReason> {
        let (rule, steps) = self.ghosts.take(hash, now)?;
        self.counters.ghosts[rule][Ago::of_steps(steps).index()].add();
        Some(Ghosts::RULES[rule])
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::core::ghost::{AGE_MAX, GhostTable};
    use crate::{Clock, Group, GroupStats, Miss, Pool};

    #[test]
    fn bands_are_indexed_in_order() {
        for (index, ago) in Ago::ALL.into_iter().enumerate() {
            assert_eq!(ago.index(), index);
        }
    }

    #[test]
    fn a_band_includes_its_end() {
        let bands = [0, 8, 9, 80, 81, 480, 481, AGE_MAX].map(Ago::of_steps);
        let expected = Ago::ALL.map(|ago| [ago, ago]);
        assert_eq!(bands, expected.as_flattened());
    }

    #[test]
    fn an_operator_can_read_it() {
        let mut ghosts = Ghosts::default();
        assert_eq!(ghosts.to_string(), "none");
        ghosts.0[3] = [120, 3, 0, 0];
        ghosts.0[0] = [0, 0, 1, 0];
        assert_eq!(
            ghosts.to_string(),
            "idle: 1 miss after 10 s to 1 min; evicted: 120 misses within 1 s, 3 after 1 s to 10 s"
        );
        assert_eq!((ghosts.total(), ghosts.of(CloseReason::Evicted)), (124, 123));
        assert_eq!(ghosts[(CloseReason::Idle, Ago::Minute)], 1);
        assert_eq!(ghosts[(CloseReason::Removed, Ago::Minute)], 0);
        assert_eq!(ghosts.of(CloseReason::Removed), 0);
        assert_eq!(
            format!("{ghosts:?}"),
            "{(Idle, Minute): 1, (Evicted, Second): 120, (Evicted, TenSeconds): 3}"
        );
    }

    /// A pool in which the only connection was closed for this reason, while a handle
    /// keeps its group.
    fn pool_after(reason: CloseReason) -> (Pool<u8, ()>, Group<u8, ()>) {
        let pool = Pool::builder().clock(Clock::manual()).build().unwrap();
        let group = pool.group(&1);
        pool.put(&1, ()).unwrap();
        let engine = pool.engine();
        let lease = engine.directory.with(&1, |members| engine.lease(members)).flatten();
        engine.end(lease.expect("it was put in"), reason);
        (pool, group)
    }

    #[test]
    fn what_a_rule_closes_is_a_ghost_and_nothing_else() {
        let expected = |rule| match rule {
            CloseReason::Idle | CloseReason::Lifetime | CloseReason::Uses => Miss::Expired,
            CloseReason::Evicted | CloseReason::GroupFull | CloseReason::Trimmed => Miss::Evicted,
            CloseReason::Dead | CloseReason::UnexpectedData => Miss::Dead,
            _ => Miss::Cold,
        };
        for reason in CloseReason::ALL {
            let (pool, group) = pool_after(reason);
            assert!(group.get().is_none());
            let stats = pool.stats();
            let ghosts = u64::from(Ghosts::RULES.contains(&reason));
            assert_eq!(stats.misses[expected(reason)], 1, "{reason}");
            assert_eq!((stats.ghosts.of(reason), stats.ghosts.total()), (ghosts, ghosts));
            assert!(group.get().is_none());
            let stats = pool.stats();
            assert_eq!((stats.misses.total(), stats.ghosts.total()), (2, ghosts), "{reason}");
            assert!(stats.misses[Miss::Cold] > 0, "{reason}: a ghost counts once");
        }
    }

    #[test]
    fn a_group_counts_what_its_peer_does() {
        for reason in CloseReason::ALL {
            let (pool, group) = pool_after(reason);
            let expected = GroupStats {
                closed_by_peer: u64::from(reason == CloseReason::Dead),
                unexpected_data: u64::from(reason == CloseReason::UnexpectedData),
            };
            assert_eq!((group.stats(), pool.group_stats(&1)), (expected, expected), "{reason}");
            assert_eq!(pool.group_stats(&2), GroupStats::default());
            drop(group);
            assert_eq!(pool.group_stats(&1), GroupStats::default(), "gone with the group");
        }
    }

    /// Threads leave ghosts of two keys and two rules, so many that their words just fit,
    /// then take them: each is found, once.
    #[test]
    fn threads_find_each_ghost_once() {
        const THREADS: usize = 4;
        const GHOSTS: usize = 200;
        let table = GhostTable::new(1);
        let keys = [0, 1 << 63];
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let table = &table;
                scope.spawn(move || {
                    (0..GHOSTS).for_each(|n| table.leave(keys[n % 2], thread % 2, STEP));
                });
            }
        });
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (table, taken) = (&table, &taken);
                scope.spawn(move || {
                    while table.take(keys[thread % 2], STEP).is_some() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), THREADS * GHOSTS);
    }

    /// As above, all at once: whatever is forgotten, nothing is found twice.
    #[test]
    fn threads_that_leave_and_take_find_no_more_than_there_was() {
        const GHOSTS: usize = 2_000;
        let (table, taken) = (GhostTable::new(1), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (table, taken) = (&table, &taken);
                scope.spawn(move || {
                    for n in 0..GHOSTS {
                        table.leave(0, thread, n as u64 / 100 * STEP);
                        let found = (n % 3 < 2).then(|| table.take(0, GHOSTS as u64 * STEP));
                        taken.fetch_add(usize::from(found.flatten().is_some()), Ordering::Relaxed);
                    }
                });
            }
        });
        while table.take(0, GHOSTS as u64 * STEP).is_some() {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        let taken = taken.into_inner();
        assert!((1..=4 * GHOSTS).contains(&taken), "{taken} of {}", 4 * GHOSTS);
    }
}
