//! What is remembered of closed connections: of few, all; of many, nothing that was not.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;

use crate::core::ghost::{AGE_MAX, GhostTable, RULES_MAX, STEP};

#[derive(Arbitrary, Debug)]
pub enum Op {
    Leave {
        key: u8,
        rule: u8,
        count: u8,
    },
    Take {
        key: u8,
    },
    /// Milliseconds.
    Advance(u32),
    /// To the end of the time that a word has room for, and beyond.
    AdvanceFar,
}

/// Words in the bucket that all the keys share.
const SLOTS: usize = 8;
const KEYS: u8 = 3;
/// In one word.
const COUNT_MAX: u32 = 127;
const STEP_MAX: u64 = u32::MAX as u64;
const MILLISECOND: u64 = 1_000_000;

/// Keys of one bucket, with tags of their own.
fn hash(key: u8) -> u64 {
    u64::from(key % KEYS) << 42 | 5
}

pub fn run(ops: &[Op]) {
    let table = GhostTable::new(4);
    let mut now = 0_u64;
    // All that was left and not taken, by key, step and rule; and how much that once was.
    let mut left: BTreeMap<(u8, u64, usize), (u32, u32)> = BTreeMap::new();
    let mut words_max = 0;
    for op in ops {
        let step = (now / STEP).min(STEP_MAX);
        match *op {
            Op::Leave { key, rule, count } => {
                let (key, rule) = (key % KEYS, usize::from(rule) % RULES_MAX);
                (0..count).for_each(|_| table.leave(hash(key), rule, now));
                let (there, peak) = left.entry((key, step, rule)).or_default();
                *there += u32::from(count);
                *peak = (*peak).max(*there);
            }
            Op::Take { key } => {
                let key = key % KEYS;
                let taken = table.take(hash(key), now);
                let youngest = left.range((key, 0, 0)..(key + 1, 0, 0)).next_back();
                let youngest = youngest.map(|(&(_, step, rule), _)| (step, rule));
                let age = |at| step - at;
                let expected = youngest.filter(|&(at, _)| age(at) <= AGE_MAX);
                if words_max <= SLOTS {
                    assert_eq!(taken, expected.map(|(at, rule)| (rule, age(at))));
                }
                if let Some((rule, age)) = taken {
                    assert!(age <= AGE_MAX);
                    let ghost = left.get_mut(&(key, step - age, rule));
                    ghost.expect("nothing is taken that was not left").0 -= 1;
                }
            }
            Op::Advance(ms) => now = now.saturating_add(u64::from(ms) * MILLISECOND),
            Op::AdvanceFar => now = now.max((STEP_MAX - 2) * STEP),
        }
        left.retain(|_, (there, _)| *there > 0);
        // One more word is begun when all of its kind are full. They do not join again.
        let words = left.values().map(|(_, peak)| peak.div_ceil(COUNT_MAX) as usize).sum();
        words_max = words_max.max(words);
    }
}
