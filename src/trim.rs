//! Connections that nobody needed: once in each window, half of those that were idle for
//! the whole of it are closed, the oldest first.
//!
//! As gets take what was released last, these are exactly as many as the group had to
//! spare at its busiest moment of the window. Half, so that a quiet window between two
//! busy ones does not cost all of them.
//!
//! A sweep goes over the seats, a piece in each step of maintenance, and notes what was
//! idle for so long. Each piece is sorted, and the sorted pieces are merged as they are
//! needed, so that no step sorts a million. What is noted is a hint: a connection that was
//! used since has another incarnation, and stays (S1).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use crate::ageing::{Closing, LOOKS_PER_STEP};
use crate::core::seat::Mark;
use crate::core::state::Phase;
use crate::core::ticket::Claim;
use crate::engine::Engine;
use crate::error::CloseReason;
use crate::reaper::CHORES_PER_STEP;
use crate::time::NEVER;

/// Memory for so many notes is kept from one sweep to the next.
const NOTES_KEPT: usize = 1 << 16;

/// A connection that was idle for the whole window, in the order of closing: by group,
/// the one released longest ago first, then by insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    group: u64,
    stamp: u64,
    serial: u32,
    seat: u32,
    incarnation: u64,
}

/// What was counted of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    idle: u32,
    /// Of these, idle for the whole window.
    unused: u32,
}

/// A sorted piece of the notes: the first that is left, where it lies, and where the
/// piece ends.
type Piece = Reverse<(Note, usize, usize)>;

/// The group that is being trimmed.
#[derive(Clone, Copy, Debug)]
struct Trimmed {
    group: u64,
    /// Its notes that were passed.
    passed: u32,
    /// How many of its notes may go, the first ones. Not known until one is met that
    /// still is idle, since it leads to the group's limits.
    quota: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    /// From this seat on.
    Counting(u32),
    Closing,
}

/// A sweep, and when the next one begins.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    stage: Stage,
    next: u64,
    /// When the sweep began, and the length of its window.
    began: u64,
    window: u64,
    counts: HashMap<u64, Count, ahash::RandomState>,
    notes: Vec<Note>,
    pieces: BinaryHeap<Piece>,
    trimmed: Option<Trimmed>,
}

impl Sweep {
    pub fn is_under_way(&self) -> bool {
        self.stage != Stage::Waiting
    }

    fn begin(&mut self, now: u64, window: u64, groups: usize) {
        (self.began, self.window) = (now, window);
        self.next = now.saturating_add(window);
        self.stage = Stage::Counting(0);
        // Now, since the table is empty and has nothing to move.
        self.counts.reserve(groups);
    }

    fn end(&mut self) {
        self.stage = Stage::Waiting;
        self.trimmed = None;
        self.counts.clear();
        self.counts.shrink_to(NOTES_KEPT);
        self.pieces.clear();
        self.notes.clear();
        self.notes.shrink_to(NOTES_KEPT);
    }

    /// Adds an idle connection to the count of its group.
    fn count(&mut self, note: Note) {
        let count = self.counts.entry(note.group).or_default();
        count.idle += 1;
        if self.began.saturating_sub(note.stamp) >= self.window {
            count.unused += 1;
            self.notes.push(note);
        }
    }

    /// Closes the piece of the notes that begins at `start`.
    fn finish_piece(&mut self, start: usize) {
        let piece = &mut self.notes[start..];
        piece.sort_unstable();
        if let Some(&first) = piece.first() {
            self.pieces.push(Reverse((first, start, self.notes.len())));
        }
    }

    /// The next note in order.
    fn next_note(&mut self) -> Option<Note> {
        let Reverse((note, at, end)) = self.pieces.pop()?;
        if at + 1 < end {
            self.pieces.push(Reverse((self.notes[at + 1], at + 1, end)));
        }
        Some(note)
    }

    /// Half of a group's surplus, rounded up: of those that were not needed, what is
    /// beyond `min_idle`.
    fn quota(&self, group: u64, min_idle: u32) -> u32 {
        let Count { idle, unused } = self.counts.get(&group).copied().unwrap_or_default();
        unused.min(idle.saturating_sub(min_idle)).div_ceil(2)
    }
}

impl<K, C> Engine<K, C> {
    /// A bounded piece of a sweep, if one is due or under way.
    pub fn trim_surplus<'a>(
        &'a self,
        sweep: &mut Sweep,
        now: u64,
        closing: &mut Closing<'a, K, C>,
    ) {
        let window = self.tuning.trim_window();
        if window == NEVER {
            sweep.next = 0;
            return sweep.end();
        }
        // If the window was shortened, the next sweep comes sooner.
        sweep.next = sweep.next.min(now.saturating_add(window));
        if sweep.stage == Stage::Waiting && now >= sweep.next {
            sweep.begin(now, window, self.directory.len());
        }
        if let Stage::Counting(from) = sweep.stage {
            self.count_idle(sweep, from);
        }
        if sweep.stage == Stage::Closing {
            self.close_surplus(sweep, closing);
        }
    }

    /// Counts what is idle in the next so many seats.
    fn count_idle(&self, sweep: &mut Sweep, from: u32) {
        let start = sweep.notes.len();
        let mut seats = self.core.seats.iter_from(from);
        for (index, seat) in seats.by_ref().take(LOOKS_PER_STEP) {
            let word = seat.state.load();
            // S3: if the seat is still in this incarnation when it is seized, the fields
            // read here were those of this idle spell. Those at their end go anyway.
            let stamp = seat.stamp.get();
            let facts = (word.phase() == Phase::Idle).then(|| self.facts_at(index)).flatten();
            if let Some(facts) = facts.filter(|facts| sweep.began < facts.hard_end(stamp)) {
                sweep.count(Note {
                    group: facts.group,
                    stamp,
                    serial: Mark::serial(seat.mark.get()),
                    seat: index,
                    incarnation: word.incarnation(),
                });
            }
        }
        sweep.finish_piece(start);
        sweep.stage = match seats.next() {
            Some((next, _)) => Stage::Counting(next),
            None => Stage::Closing,
        };
    }

    fn close_surplus<'a>(&'a self, sweep: &mut Sweep, closing: &mut Closing<'a, K, C>) {
        for _ in 0..LOOKS_PER_STEP {
            if closing.len() >= CHORES_PER_STEP {
                return;
            }
            let Some(note) = sweep.next_note() else { return sweep.end() };
            let claim = Claim { seat: note.seat, incarnation: note.incarnation };
            // One that was used meanwhile was needed, and no other goes in its place.
            if self.is_surplus(sweep, &note, claim)
                && let Some(removed) = self.remove_aged(claim)
            {
                closing.push((removed, CloseReason::Trimmed));
            }
        }
    }

    /// Whether the connection of a note is among those that go, if it still is idle. Notes
    /// are shown in order.
    fn is_surplus(&self, sweep: &mut Sweep, note: &Note, claim: Claim) -> bool {
        let begun = sweep.trimmed.filter(|trimmed| trimmed.group == note.group);
        let mut trimmed = begun.unwrap_or(Trimmed { group: note.group, passed: 0, quota: None });
        if trimmed.quota.is_none()
            && let Some(group) = self.group_at(claim)
        {
            trimmed.quota = Some(sweep.quota(note.group, group.limits.min_idle()));
            self.let_go(group);
        }
        let surplus = trimmed.quota.is_some_and(|quota| trimmed.passed < quota);
        trimmed.passed += 1;
        sweep.trimmed = Some(trimmed);
        surplus
    }
}
