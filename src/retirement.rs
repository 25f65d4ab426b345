//! Whose turn it is to be retired: plain data, one owner, no clock.
//!
//! Connections whose lifetime has ended wait in a line for each group, and the lines take
//! turns. So no group starves, and a connection that waits costs nothing: it is looked at
//! when it enters its line, and when it is called. Lines are linked through an array that
//! the seats' indices index, so that nothing is allocated for each of them.
//!
//! A second of the pool's clock has so many calls that succeed; those that it did not use
//! are not carried over.

use std::collections::VecDeque;

use hashbrown::HashMap;

const SECOND: u64 = 1_000_000_000;
/// Not in a line.
const OUT: u32 = u32::MAX;
/// The last one in its line.
const END: u32 = u32::MAX - 1;

/// Those of one group that wait.
#[derive(Debug)]
struct Line {
    group: u64,
    first: u32,
    last: u32,
    /// The tick for which `left` holds.
    tick: u64,
    /// How many of the group may still go in that tick.
    left: u32,
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// For each seat, who comes after it in its line.
    behind: Vec<u32>,
    lines: Vec<Line>,
    /// Lines that are not in use.
    vacant: Vec<usize>,
    by_group: HashMap<u64, usize, ahash::RandomState>,
    /// Lines in the order of their turns.
    turns: VecDeque<usize>,
    /// Lines that are empty, or have done their part for this tick.
    resting: Vec<usize>,
    tick: u64,
    second: u64,
    /// How many went in that second.
    served: u32,
}

impl Lines {
    /// Whether there is a line.
    pub fn are_any(&self) -> bool {
        !self.turns.is_empty() || !self.resting.is_empty()
    }

    /// Puts a seat at the end of the line of its group, unless it is in a line.
    pub fn enter(&mut self, seat: u32, group: u64) {
        let index = seat as usize;
        if self.behind.len() <= index {
            self.behind.resize(index + 1, OUT);
        }
        if self.behind[index] != OUT {
            return;
        }
        self.behind[index] = END;
        let number = match self.by_group.get(&group) {
            Some(&number) => number,
            None => self.open(group),
        };
        let line = &mut self.lines[number];
        if line.first == END {
            line.first = seat;
        } else {
            self.behind[line.last as usize] = seat;
        }
        line.last = seat;
    }

    fn open(&mut self, group: u64) -> usize {
        let line = Line { group, first: END, last: END, tick: u64::MAX, left: 0 };
        let number = self.vacant.pop().unwrap_or(self.lines.len());
        if number == self.lines.len() {
            self.lines.push(line);
        } else {
            self.lines[number] = line;
        }
        self.by_group.insert(group, number);
        self.turns.push_back(number);
        number
    }

    /// Says what time it is, before the calls of a step.
    pub fn begin(&mut self, tick: u64, now: u64) {
        if self.second != now / SECOND {
            self.second = now / SECOND;
            self.served = 0;
        }
        if self.tick != tick {
            self.tick = tick;
            for number in self.resting.drain(..) {
                let line = &self.lines[number];
                if line.first == END {
                    self.by_group.remove(&line.group);
                    self.vacant.push(number);
                } else {
                    self.turns.push_back(number);
                }
            }
        }
    }

    /// Calls the seat whose turn it is, if one more may go in this second: it is out of
    /// its line. If it went, [`Lines::serve`] must be told next.
    pub fn call(&mut self, per_second: u32) -> Option<u32> {
        while self.served < per_second {
            let &number = self.turns.front()?;
            let line = &mut self.lines[number];
            let done = line.tick == self.tick && line.left == 0;
            if line.first == END || done {
                self.turns.pop_front();
                self.resting.push(number);
                continue;
            }
            let seat = line.first;
            line.first = std::mem::replace(&mut self.behind[seat as usize], OUT);
            return Some(seat);
        }
        None
    }

    /// Counts the one that was called last, and gives the turn to the next line.
    /// `allowance` says how many of the group may go in a tick; one always may.
    pub fn serve(&mut self, allowance: impl FnOnce() -> u32) {
        let Some(number) = self.turns.pop_front() else { return };
        let line = &mut self.lines[number];
        if line.tick != self.tick {
            line.tick = self.tick;
            line.left = allowance().max(1);
        }
        line.left -= 1;
        self.served += 1;
        self.turns.push_back(number);
    }
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    /// All that may go in one step.
    fn step(lines: &mut Lines, tick: u64, per_second: u32, share: u32) -> Vec<u32> {
        lines.begin(tick, tick * SECOND);
        std::iter::from_fn(|| {
            let seat = lines.call(per_second)?;
            lines.serve(|| share);
            Some(seat)
        })
        .collect()
    }

    #[test]
    fn who_waits_is_called_once_and_in_order() {
        let mut lines = Lines::default();
        for seat in 0..100_000 {
            lines.enter(seat, u64::from(seat % 4));
            lines.enter(seat / 2, 9);
        }
        for second in 1..=10_000 {
            let called = step(&mut lines, second, 10, u32::MAX);
            let first = (second as u32 - 1) * 10;
            assert_eq!(called, (first..first + 10).collect::<Vec<_>>());
        }
        assert!(step(&mut lines, 10_001, 10, u32::MAX).is_empty());
        assert!(step(&mut lines, 10_002, 10, u32::MAX).is_empty());
        assert!(!lines.are_any(), "an empty line is forgotten");
        assert_eq!(lines.vacant.len(), lines.lines.len());
        lines.enter(7, 1);
        assert_eq!(step(&mut lines, 10_003, 10, 1), [7]);
    }

    #[test]
    fn a_line_rests_when_it_has_given_its_share() {
        let mut lines = Lines::default();
        (0..6).for_each(|seat| lines.enter(seat, 1));
        (6..9).for_each(|seat| lines.enter(seat, 2));
        assert_eq!(step(&mut lines, 1, 100, 2), [0, 6, 1, 7]);
        assert_eq!(step(&mut lines, 1, 100, 2), []);
        assert_eq!(step(&mut lines, 2, 100, 0), [2, 8], "one always may");
        assert_eq!(step(&mut lines, 3, 1, 2), [3]);
        assert_eq!(step(&mut lines, 4, 100, 9), [4, 5]);
    }

    #[test]
    fn those_that_are_gone_cost_no_turn() {
        let mut lines = Lines::default();
        (0..10).for_each(|seat| lines.enter(seat, 1));
        lines.begin(1, SECOND);
        for seat in 0..9 {
            assert_eq!(lines.call(1), Some(seat));
        }
        lines.enter(3, 1);
        assert_eq!(lines.call(1), Some(9));
        lines.serve(|| 5);
        assert_eq!(lines.call(1), None, "the second is used up");
        assert_eq!(lines.call(2), Some(3));
        assert_eq!(lines.call(2), None);
        // It comes while its empty line rests.
        lines.enter(4, 1);
        assert_eq!(lines.call(2), None);
        assert_eq!(step(&mut lines, 2, 2, 5), [4]);
    }
}
