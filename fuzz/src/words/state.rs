//! The state of a seat: a phase, and an incarnation.

use arbitrary::Arbitrary;

use crate::core::state::{Phase, State, Word};

/// Which incarnation is meant: the current one, or another.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Which {
    Current,
    /// One before it.
    Former(u8),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
pub enum Op {
    Claim(Which),
    Seize(Which),
    Inspect(Which),
    Orphan(Which),
    Restore(Which),
    Touch,
    // What the owner does, whatever the phase.
    Rest(Which),
    OccupyLeased(Which),
    Vacate,
}

/// One more than the largest incarnation has room for, with some left to count on.
const INCARNATIONS: u64 = (1 << 61) - 1_000_000;

/// What the state should be.
struct Model {
    incarnation: u64,
    phase: Phase,
}

impl Model {
    fn which(&self, which: Which) -> u64 {
        match which {
            Which::Current => self.incarnation,
            Which::Former(by) => self.incarnation.saturating_sub(by.into()),
            Which::Any(any) => any % INCARNATIONS,
        }
    }

    fn is(&self, word: Word) -> bool {
        (word.incarnation(), word.phase()) == (self.incarnation, self.phase)
    }

    /// What is done to one incarnation if that is in the right phase, or not at all.
    fn attempt(&mut self, state: &State, op: &Op) {
        let (at, from, to, done) = match *op {
            Op::Claim(at) => {
                let (at, to) = (self.which(at), Phase::Leased);
                let claimed = state.claim(at);
                assert!(claimed.is_ok() || claimed.is_err_and(|word| self.is(word)));
                (at, Phase::Idle, (at + 1, to), claimed.is_ok())
            }
            Op::Seize(at) => {
                let at = self.which(at);
                (at, Phase::Idle, (at, Phase::Claimed), state.seize(at))
            }
            Op::Inspect(at) => {
                let at = self.which(at);
                (at, Phase::Idle, (at, Phase::Inspected), state.inspect(at))
            }
            Op::Orphan(at) => {
                let at = self.which(at);
                (at, Phase::Inspected, (at, Phase::Orphaned), state.orphan(at).is_ok())
            }
            Op::Restore(at) => {
                let at = self.which(at);
                (at, Phase::Inspected, (at, Phase::Idle), state.restore(at))
            }
            _ => unreachable!("{op:?} is the owner's"),
        };
        let expected = (self.incarnation, self.phase) == (at, from);
        assert_eq!(done, expected, "{op:?} at {} {:?}", self.incarnation, self.phase);
        if done {
            (self.incarnation, self.phase) = to;
        }
    }
}

pub fn run(ops: &[Op]) {
    let state = State::new();
    let mut model = Model { incarnation: 0, phase: Phase::Vacant };
    for op in ops {
        match *op {
            Op::Touch => assert!(model.is(state.touch())),
            Op::Rest(at) => {
                let at = model.which(at);
                state.rest(at);
                (model.incarnation, model.phase) = (at, Phase::Idle);
            }
            Op::OccupyLeased(at) => {
                let at = model.which(at);
                state.occupy_leased(at);
                (model.incarnation, model.phase) = (at, Phase::Leased);
            }
            Op::Vacate => {
                state.vacate(model.incarnation);
                (model.incarnation, model.phase) = (model.incarnation + 1, Phase::Vacant);
            }
            _ => model.attempt(&state, op),
        }
        check(&state, model.incarnation, model.phase);
    }
}

fn check(state: &State, incarnation: u64, phase: Phase) {
    let word = state.load();
    assert_eq!((word.incarnation(), word.phase(), state.own()), (incarnation, phase, incarnation));
    let there = matches!(phase, Phase::Idle | Phase::Inspected);
    assert_eq!(word.honours(incarnation), there);
    assert!(!word.honours(incarnation + 1) && !word.honours(incarnation.wrapping_sub(1)));
}
