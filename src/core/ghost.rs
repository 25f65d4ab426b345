//! What is remembered of connections that were closed by a rule: for which key, by
//! which rule, when. A miss looks here whether the rule was to blame.
//!
//! The table has a fixed size and forgets. A key has one bucket, of one cache line,
//! that it shares with others. When that is full, the oldest ghost in it goes. Ghosts
//! of one key, one rule and one [`STEP`] are one word with a count, so that a burst of
//! closes does not push out the rest.
//!
//! # Layout of a word
//!
//! ```text
//!  63             32 31  29 28    22 21              0
//! +-----------------+------+--------+-----------------+
//! |      time       | rule | count  |       tag       |   0: nothing
//! +-----------------+------+--------+-----------------+
//! ```
//!
//! The time stands on top, so that the largest word is the youngest ghost. It ends
//! after 17 years of the clock; from then on, all ghosts are of that time.
//!
//! The tag is a part of the key's hash. Two keys of one bucket have the same one with a
//! probability of 2^-22: then a miss of one key may be put down to a close of the other.
//!
//! # Invariants
//!
//! * **V1** A word is all that there is to its ghosts: it leads to no other memory. So
//!   all accesses are Relaxed, and a word that went and came back is as good as one that
//!   stayed.
//! * **V2** Words are only exchanged, so that a ghost is taken once.

use crate::sync::{AtomicU64, Ordering};

/// Words in a bucket: a cache line.
const SLOTS: usize = if cfg!(slabpool_loom) { 2 } else { 8 };

/// Buckets for small pools and for large ones: 4 KiB to 32 KiB.
const BUCKETS_MIN: usize = 64;
const BUCKETS_MAX: usize = 512;

/// Nanoseconds. Times count in steps, rounded down.
pub const STEP: u64 = 125_000_000;
/// Steps. What was closed longer ago, by 10 minutes, is no ghost.
pub const AGE_MAX: u64 = 600_000_000_000 / STEP;

const TAG_BITS: u32 = 22;
const COUNT_BITS: u32 = 7;
const RULE_BITS: u32 = 3;
const TIME_BITS: u32 = 32;
const COUNT_SHIFT: u32 = TAG_BITS;
const RULE_SHIFT: u32 = COUNT_SHIFT + COUNT_BITS;
const TIME_SHIFT: u32 = RULE_SHIFT + RULE_BITS;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const COUNT_MASK: u64 = COUNT_MAX << COUNT_SHIFT;
const COUNT_ONE: u64 = 1 << COUNT_SHIFT;
const TIME_MAX: u64 = (1 << TIME_BITS) - 1;

const _: () = assert!(TIME_SHIFT + TIME_BITS == u64::BITS);
const _: () = assert!(cfg!(slabpool_loom) || size_of::<Bucket>() == 64);

/// Rules that a word can tell apart.
pub const RULES_MAX: usize = 1 << RULE_BITS;

/// What a slot held at one moment: ghosts of one key, one rule and one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word(u64);

impl Word {
    const EMPTY: Self = Self(0);

    /// One ghost.
    fn new(hash: u64, rule: usize, time: u64) -> Self {
        debug_assert!(rule < RULES_MAX, "rule {rule} is wider than {RULE_BITS} bits");
        Self(step_of(time) << TIME_SHIFT | (rule as u64) << RULE_SHIFT | COUNT_ONE | tag(hash))
    }

    fn count(self) -> u64 {
        (self.0 & COUNT_MASK) >> COUNT_SHIFT
    }

    fn rule(self) -> usize {
        (self.0 >> RULE_SHIFT) as usize % RULES_MAX
    }

    fn step(self) -> u64 {
        self.0 >> TIME_SHIFT
    }

    /// How many steps before `now` this was.
    fn age(self, now: u64) -> u64 {
        // Another thread may have read the clock later.
        step_of(now).saturating_sub(self.step())
    }

    fn is_of(self, hash: u64) -> bool {
        self != Self::EMPTY && self.0 & TAG_MASK == tag(hash)
    }

    /// Whether both differ in nothing but the count.
    fn is_like(self, other: Self) -> bool {
        self != Self::EMPTY && (self.0 ^ other.0) & !COUNT_MASK == 0
    }

    /// With one ghost more, if there is room in the count.
    fn one_more(self) -> Option<Self> {
        (self.count() < COUNT_MAX).then(|| Self(self.0 + COUNT_ONE))
    }

    /// With one ghost less.
    fn one_less(self) -> Self {
        debug_assert_ne!(self.count(), 0, "only a ghost that is there is taken");
        if self.count() == 1 { Self::EMPTY } else { Self(self.0 - COUNT_ONE) }
    }
}

fn step_of(time: u64) -> u64 {
    (time / STEP).min(TIME_MAX)
}

/// The high bits; buckets are chosen by the low ones.
fn tag(hash: u64) -> u64 {
    hash >> (u64::BITS - TAG_BITS)
}

/// A place for a word, with every transition that exists (V2).
#[derive(Debug)]
struct Slot(AtomicU64);

impl Slot {
    fn load(&self) -> Word {
        // Relaxed: V1.
        Word(self.0.load(Ordering::Relaxed))
    }

    /// Puts `next` in place of what was `seen`.
    fn exchange(&self, seen: Word, next: Word) -> bool {
        // Relaxed, both: V1.
        self.0.compare_exchange(seen.0, next.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([Slot; SLOTS]);

impl Bucket {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Slot(AtomicU64::new(Word::EMPTY.0))))
    }

    fn words(&self) -> impl Iterator<Item = (&Slot, Word)> {
        self.0.iter().map(|slot| (slot, slot.load()))
    }

    /// Where a ghost goes, what is there, and what is there then: with its like, or
    /// in place of the oldest. `None` if there is none that is older.
    fn place_for(&self, ghost: Word) -> Option<(&Slot, Word, Word)> {
        let words = self.0.each_ref().map(Slot::load);
        let with = |place: usize, next| Some((&self.0[place], words[place], next));
        let joins = |word: &Word| word.is_like(ghost) && word.one_more().is_some();
        if let Some(place) = words.iter().position(joins) {
            return with(place, words[place].one_more()?);
        }
        let oldest = words.iter().copied().fold(words[0], Word::min);
        let gives_way = oldest == Word::EMPTY || oldest.step() < ghost.step();
        let place = words.iter().position(|&word| word == oldest)?;
        gives_way.then_some(ghost).and_then(|ghost| with(place, ghost))
    }
}

/// Ghosts of closed connections.
#[derive(Debug)]
pub struct GhostTable {
    /// A power of two, or none at all.
    buckets: Box<[Bucket]>,
}

impl GhostTable {
    pub fn new(buckets: usize) -> Self {
        assert!(buckets == 0 || buckets.is_power_of_two(), "{buckets} is no power of two");
        Self { buckets: (0..buckets).map(|_| Bucket::new()).collect() }
    }

    /// A table for a pool of this capacity: room for twice as many ghosts, within
    /// limits.
    ///
    /// In models it has no room, so that they stay as small as what they are about:
    /// the table has models of its own.
    pub fn for_capacity(capacity: usize) -> Self {
        let wanted = (capacity / (SLOTS / 2)).clamp(BUCKETS_MIN, BUCKETS_MAX);
        Self::new(if cfg!(slabpool_loom) { 0 } else { wanted.next_power_of_two() })
    }

    fn bucket(&self, hash: u64) -> Option<&Bucket> {
        let mask = self.buckets.len().checked_sub(1)?;
        self.buckets.get(hash as usize & mask)
    }

    /// Remembers that `rule` closed a connection of this key at `time`.
    ///
    /// Starts over only when another thread has changed the bucket meanwhile.
    pub fn leave(&self, hash: u64, rule: usize, time: u64) {
        let Some(bucket) = self.bucket(hash) else { return };
        let ghost = Word::new(hash, rule, time);
        while let Some((slot, seen, next)) = bucket.place_for(ghost) {
            if slot.exchange(seen, next) {
                return;
            }
        }
    }

    /// Takes the youngest ghost of this key: its rule, and how many steps ago it was
    /// left.
    ///
    /// Starts over only when another thread has changed the bucket meanwhile.
    pub fn take(&self, hash: u64, now: u64) -> Option<(usize, u64)> {
        let bucket = self.bucket(hash)?;
        loop {
            let ghosts = bucket.words().filter(|(_, word)| word.is_of(hash));
            let (slot, youngest) = ghosts.max_by_key(|&(_, word)| word)?;
            let age = youngest.age(now);
            if age > AGE_MAX {
                return None;
            }
            if slot.exchange(youngest, youngest.one_less()) {
                return Some((youngest.rule(), age));
            }
        }
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    /// A hash with this tag and this bucket.
    fn hash(tag: u64, bucket: u64) -> u64 {
        tag << (u64::BITS - TAG_BITS) | bucket
    }

    #[test]
    fn a_ghost_is_found_once_by_its_key_alone() {
        let table = GhostTable::new(4);
        table.leave(hash(7, 2), 5, 40 * STEP);
        assert_eq!(table.take(hash(6, 2), 41 * STEP), None, "another tag");
        assert_eq!(table.take(hash(7, 3), 41 * STEP), None, "another bucket");
        assert_eq!(table.take(hash(7, 2), 41 * STEP), Some((5, 1)));
        assert_eq!(table.take(hash(7, 2), 41 * STEP), None, "it counts once");
    }

    #[test]
    fn the_zeroth_of_everything_is_a_ghost_as_well() {
        let table = GhostTable::new(1);
        table.leave(0, 0, 0);
        assert_eq!(table.take(0, 0), Some((0, 0)));
        assert_eq!(table.take(0, 0), None);
    }

    #[test]
    fn the_youngest_is_taken_first() {
        let table = GhostTable::new(1);
        for (rule, time) in [(0, 3), (1, 9), (2, 1), (3, 5)] {
            table.leave(1, rule, time * STEP);
        }
        let taken: Vec<_> = std::iter::from_fn(|| table.take(1, 10 * STEP)).collect();
        assert_eq!(taken, [(1, 1), (3, 5), (0, 7), (2, 9)]);
    }

    #[test]
    fn a_ghost_ends_after_ten_minutes() {
        let table = GhostTable::new(1);
        table.leave(1, 2, 5 * STEP);
        table.leave(1, 2, 6 * STEP);
        assert_eq!(table.take(1, (6 + AGE_MAX) * STEP), Some((2, AGE_MAX)));
        assert_eq!(table.take(1, (6 + AGE_MAX) * STEP), None);
    }

    #[test]
    fn a_clock_that_was_read_before_the_close_is_no_trouble() {
        let table = GhostTable::new(1);
        table.leave(1, 2, 5 * STEP);
        assert_eq!(table.take(1, 4 * STEP), Some((2, 0)));
    }

    #[test]
    fn times_end_and_ghosts_go_on() {
        let table = GhostTable::new(1);
        let last = TIME_MAX * STEP;
        table.leave(1, 7, last - STEP);
        table.leave(1, 6, u64::MAX);
        assert_eq!(table.take(1, u64::MAX), Some((6, 0)));
        assert_eq!(table.take(1, u64::MAX), Some((7, 1)));
        assert_eq!(table.take(1, u64::MAX), None);
    }

    #[test]
    fn a_burst_of_closes_is_a_few_words() {
        let table = GhostTable::new(1);
        let fit = SLOTS * COUNT_MAX as usize;
        for _ in 0..fit + 3 {
            table.leave(1, 4, 100 * STEP + 1);
        }
        for n in 0..fit {
            assert_eq!(table.take(1, 100 * STEP), Some((4, 0)), "ghost {n}");
        }
        assert_eq!(table.take(1, 100 * STEP), None);
    }

    #[test]
    fn in_a_full_bucket_the_oldest_goes() {
        let table = GhostTable::new(1);
        // Out of order, and the one that comes last is older than all.
        for time in [5, 2, 8, 1, 7, 4, 3, 6, 9, 0] {
            table.leave(hash(time, 0), 0, time * STEP);
        }
        let left = (0..10).filter(|&tag| table.take(hash(tag, 0), 10 * STEP).is_some());
        assert_eq!(left.collect::<Vec<u64>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_table_without_room_forgets_at_once() {
        let table = GhostTable::new(0);
        table.leave(u64::MAX, 1, 1);
        assert_eq!(table.take(u64::MAX, 1), None);
    }

    #[test]
    fn the_size_follows_the_capacity_within_limits() {
        let size = |capacity| GhostTable::for_capacity(capacity).buckets.len();
        assert_eq!([0, 1, 256].map(size), [BUCKETS_MIN; 3]);
        assert_eq!(size(257 * 2), 128, "rounded to a power of two");
        assert_eq!([2_048, 65_536, usize::MAX].map(size), [BUCKETS_MAX; 3]);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Leave { tag: u64, bucket: u64, rule: usize, time: u64 },
        Take { tag: u64, bucket: u64, now: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let key = || (0..3_u64, 0..2_u64);
        let time =
            || prop_oneof![0..3 * STEP, Just(u64::MAX), (0..9_000_u64).prop_map(|n| n * STEP)];
        prop_oneof![
            (key(), 0..RULES_MAX, time()).prop_map(|((tag, bucket), rule, time)| Op::Leave {
                tag,
                bucket,
                rule,
                time
            }),
            (key(), time()).prop_map(|((tag, bucket), now)| Op::Take { tag, bucket, now }),
        ]
    }

    type Lists = HashMap<(u64, u64), Vec<(u64, usize)>>;

    /// How many words the ghosts of a bucket are.
    fn words(lists: &Lists, bucket: u64) -> usize {
        let here = lists.iter().filter(|((_, other), _)| *other == bucket);
        here.map(|(_, list)| list.iter().collect::<HashSet<_>>().len()).sum()
    }

    proptest! {
        /// As long as no bucket has more words to hold than it has slots, a table is a
        /// list for each key: nothing is lost, nothing found twice.
        #[test]
        fn what_fits_is_not_lost(ops in prop::collection::vec(op(), 0..40)) {
            let (table, mut lists) = (GhostTable::new(2), Lists::new());
            for op in ops {
                match op {
                    Op::Leave { tag, bucket, rule, time } => {
                        lists.entry((tag, bucket)).or_default().push((step_of(time), rule));
                        if words(&lists, bucket) > SLOTS {
                            lists.get_mut(&(tag, bucket)).unwrap().pop();
                        } else {
                            table.leave(hash(tag, bucket), rule, time);
                        }
                    }
                    Op::Take { tag, bucket, now } => {
                        let list = lists.entry((tag, bucket)).or_default();
                        list.sort_unstable();
                        let ghost = list.pop_if(|(step, _)| step_of(now) <= *step + AGE_MAX);
                        let ghost = ghost.map(|(step, rule)| (rule, step_of(now).saturating_sub(step)));
                        prop_assert_eq!(table.take(hash(tag, bucket), now), ghost);
                    }
                }
            }
        }
    }
}
