//! What a pool must remember of the connections that its rules have closed, and count of
//! its misses.

use std::collections::BTreeMap;

use slabpool::{Ago, CloseReason, Ghosts, Miss, Stats};

/// What is sure to be remembered: words of one key, one rule and one step. With more of
/// them, it depends on the keys' hashes what is forgotten.
const WORDS_MAX: usize = 8;
const COUNT_MAX: u32 = 127;
/// Milliseconds, and steps.
const STEP: u64 = 125;
const AGE_MAX: u64 = 600_000 / STEP;

#[derive(Debug)]
struct Word {
    key: u8,
    step: u64,
    rule: CloseReason,
    count: u32,
}

/// Ghosts, and the misses that were counted.
#[derive(Debug, Default)]
pub struct Memory {
    words: Vec<Word>,
    /// Whether the words once were too many.
    forgetful: bool,
    known: BTreeMap<usize, u64>,
    /// Misses that depend on what was forgotten.
    unknown: u64,
    ghosts: BTreeMap<(usize, usize), u64>,
}

/// The kind of miss that a connection leads to which was closed for this reason.
fn kind(reason: CloseReason) -> Option<Miss> {
    match reason {
        CloseReason::Idle | CloseReason::Lifetime | CloseReason::Uses => Some(Miss::Expired),
        CloseReason::Dead | CloseReason::UnexpectedData => Some(Miss::Dead),
        CloseReason::Evicted | CloseReason::GroupFull => Some(Miss::Evicted),
        _ => None,
    }
}

/// What kind of miss a connection explains that is met and not fit.
pub fn explains(reason: CloseReason) -> Option<Miss> {
    if reason == CloseReason::Invalidated { Some(Miss::Expired) } else { kind(reason) }
}

/// Of what a get has met, what is counted: what expired, then what died, then what was not
/// wanted.
pub fn more_telling(one: Option<Miss>, other: Option<Miss>) -> Option<Miss> {
    let order = [Miss::Predicate, Miss::Dead, Miss::Expired];
    let rank = |miss: Option<Miss>| order.iter().position(|&known| Some(known) == miss);
    if rank(other) > rank(one) { other } else { one }
}

impl Memory {
    /// A connection was closed. Its time was up at `deadline`, if it was.
    pub fn leave(&mut self, key: u8, reason: CloseReason, deadline: u64, now: u64) {
        if kind(reason).is_none() {
            return;
        }
        let expired = matches!(reason, CloseReason::Idle | CloseReason::Lifetime);
        let step = if expired { deadline.min(now) } else { now } / STEP;
        let like = self.words.iter_mut().find(|word| {
            (word.key, word.step, word.rule) == (key, step, reason) && word.count < COUNT_MAX
        });
        match like {
            Some(word) => word.count += 1,
            None => self.words.push(Word { key, step, rule: reason, count: 1 }),
        }
        self.forgetful |= self.words.len() > WORDS_MAX;
    }

    fn take(&mut self, key: u8, now: u64) -> Option<CloseReason> {
        let order = |word: &Word| Ghosts::RULES.iter().position(|&rule| rule == word.rule);
        let words = self.words.iter().enumerate().filter(|(_, word)| word.key == key);
        let (at, _) = words.max_by_key(|(_, word)| (word.step, order(word)))?;
        let word = &mut self.words[at];
        let age = now / STEP - word.step;
        if age > AGE_MAX {
            return None;
        }
        let ago = match age * STEP {
            0..=1_000 => Ago::Second,
            1_001..=10_000 => Ago::TenSeconds,
            10_001..=60_000 => Ago::Minute,
            _ => Ago::Longer,
        };
        let rule = word.rule;
        *self.ghosts.entry((rule.index(), ago.index())).or_default() += 1;
        word.count -= 1;
        if word.count == 0 {
            self.words.swap_remove(at);
        }
        Some(rule)
    }

    /// A get has missed. `met` is what it knows by itself; else `other` holds, unless
    /// something is remembered.
    pub fn miss(&mut self, key: u8, met: Option<Miss>, other: Miss, now: u64) {
        let certain = matches!(met, Some(Miss::Closed | Miss::Predicate));
        let ghost = if certain { None } else { self.take(key, now) };
        if met.is_none() && self.forgetful {
            self.unknown += 1;
            return;
        }
        let miss = met.or(ghost.and_then(kind)).unwrap_or(other);
        *self.known.entry(miss.index()).or_default() += 1;
    }

    /// Asserts that these are the numbers.
    pub fn check(&self, stats: &Stats) {
        for (miss, count) in stats.misses.iter() {
            let known = self.known.get(&miss.index()).copied().unwrap_or(0);
            let exact = matches!(miss, Miss::Closed | Miss::Predicate);
            let most = if exact { known } else { known + self.unknown };
            assert!((known..=most).contains(&count), "{miss}: {count} of {known} to {most}");
        }
        let total = self.known.values().sum::<u64>() + self.unknown;
        assert_eq!(stats.misses.total(), total, "misses");
        for (rule, ago, count) in stats.ghosts.iter() {
            let expected = self.ghosts.get(&(rule.index(), ago.index())).copied().unwrap_or(0);
            assert!(self.forgetful || count == expected, "{rule} {ago}: {count}, {expected}");
            assert!(count <= stats.closes[rule], "{rule}: {count} of {}", stats.closes[rule]);
        }
    }
}
