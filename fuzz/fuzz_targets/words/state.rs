//! The state of a seat: a phase, and an incarnation.

use arbitrary::Arbitrary;

use crate::core::state::{Phase, State};

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

pub fn run(ops: &[Op]) {
    let state = State::new();
    let (mut incarnation, mut phase) = (0_u64, Phase::Vacant);
    for op in ops {
        let which = |which| match which {
            Which::Current => incarnation,
            Which::Former(by) => incarnation.saturating_sub(by.into()),
            Which::Any(any) => any % INCARNATIONS,
        };
        let is = |which: u64, from: Phase| (incarnation, phase) == (which, from);
        // Where it is tried to go from, to, and whether that was done.
        let (from, to, done, at) = match *op {
            Op::Claim(at) => {
                let at = which(at);
                let claimed = state.claim(at);
                if let Err(word) = claimed {
                    assert_eq!((word.incarnation(), word.phase()), (incarnation, phase));
                }
                (Phase::Idle, (at + 1, Phase::Leased), claimed.is_ok(), at)
            }
            Op::Seize(at) => {
                let at = which(at);
                (Phase::Idle, (at, Phase::Claimed), state.seize(at), at)
            }
            Op::Inspect(at) => {
                let at = which(at);
                (Phase::Idle, (at, Phase::Inspected), state.inspect(at), at)
            }
            Op::Orphan(at) => {
                let at = which(at);
                (Phase::Inspected, (at, Phase::Orphaned), state.orphan(at).is_ok(), at)
            }
            Op::Restore(at) => {
                let at = which(at);
                (Phase::Inspected, (at, Phase::Idle), state.restore(at), at)
            }
            Op::Touch => {
                let word = state.touch();
                assert_eq!((word.incarnation(), word.phase()), (incarnation, phase));
                continue;
            }
            Op::Rest(at) => {
                let at = which(at);
                state.rest(at);
                (incarnation, phase) = (at, Phase::Idle);
                check(&state, incarnation, phase);
                continue;
            }
            Op::OccupyLeased(at) => {
                let at = which(at);
                state.occupy_leased(at);
                (incarnation, phase) = (at, Phase::Leased);
                check(&state, incarnation, phase);
                continue;
            }
            Op::Vacate => {
                state.vacate(incarnation);
                (incarnation, phase) = (incarnation + 1, Phase::Vacant);
                check(&state, incarnation, phase);
                continue;
            }
        };
        assert_eq!(done, is(at, from), "{op:?} at {incarnation} {phase:?}");
        if done {
            (incarnation, phase) = to;
        }
        check(&state, incarnation, phase);
    }
}

fn check(state: &State, incarnation: u64, phase: Phase) {
    let word = state.load();
    assert_eq!((word.incarnation(), word.phase(), state.own()), (incarnation, phase, incarnation));
    let there = matches!(phase, Phase::Idle | Phase::Inspected);
    assert_eq!(word.honours(incarnation), there);
    assert!(!word.honours(incarnation + 1) && !word.honours(incarnation.wrapping_sub(1)));
}
