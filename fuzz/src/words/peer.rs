//! The words of a peer in the managed pool: what it has, what it may have, whose turn it is.

use arbitrary::{Arbitrary, Unstructured};

use crate::managed::limits::Limits;
use crate::managed::turn::{BYPASS_MAX, NUDGED_MAX, Turn};
use crate::managed::word::{Bounds, CONNECTING_MAX, CONNECTIONS_MAX, WAITERS_MAX, Word};

/// Limits as the builder lets them through: small ones, or near the largest.
#[derive(Clone, Copy, Debug)]
pub struct Bound(Bounds);

impl Arbitrary<'_> for Bound {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let mut within = |min: u32, max: u32| {
            let small = u.int_in_range(min..=12)?;
            Ok(if u.ratio(1, 6)? { max + min - small } else { small })
        };
        Ok(Self(Bounds {
            connections: within(1, CONNECTIONS_MAX)?,
            connecting: within(1, CONNECTING_MAX)?,
            waiters: within(0, WAITERS_MAX)?,
            single_flight: u.arbitrary()?,
        }))
    }
}

#[derive(Arbitrary, Debug)]
pub enum Op {
    Enter(u8),
    Leave,
    Reserve(Bound),
    Opened,
    Free { connecting: bool },
    SetWaiting(bool),
}

pub fn run(ops: &[Op]) {
    let word = Word::default();
    let (mut connections, mut connecting, mut visitors, mut waiting) = (0_u32, 0_u32, 0_u32, false);
    for op in ops {
        match *op {
            Op::Enter(count) => {
                (0..count).for_each(|_| word.enter());
                visitors += u32::from(count);
            }
            Op::Leave if visitors > 0 => {
                visitors -= 1;
                assert_eq!(word.leave().visitors(), visitors);
            }
            Op::Reserve(Bound(bounds)) => {
                let first = connections == connecting && bounds.single_flight;
                let limit = if first { 1 } else { bounds.connecting };
                let free = connections < bounds.connections && connecting < limit;
                let state = word.load();
                assert_eq!(state.allows(bounds), free);
                for demand in [0, connecting, connecting + 1, u32::MAX] {
                    let may = free && demand > connecting;
                    assert_eq!(state.may_connect(demand as usize, bounds), may);
                }
                assert_eq!(word.reserve(bounds), free);
                connections += u32::from(free);
                connecting += u32::from(free);
            }
            Op::Opened if connecting > 0 => {
                word.opened();
                connecting -= 1;
            }
            Op::Free { connecting: true } if connecting > 0 => {
                (connections, connecting) = (connections - 1, connecting - 1);
                assert_eq!(word.free(true).connections(), connections);
            }
            Op::Free { connecting: false } if connections > connecting => {
                connections -= 1;
                assert_eq!(word.free(false).connections(), connections);
            }
            Op::SetWaiting(is) => {
                word.set_waiting(is);
                waiting = is;
            }
            _ => {}
        }
        let state = word.load();
        assert_eq!((state.connections(), state.connecting()), (connections, connecting));
        assert_eq!((state.visitors(), state.is_waiting()), (visitors, waiting));
        assert_eq!(state.is_empty(), connections == 0 && visitors == 0 && !waiting);
        for max in [0, 1, connections.saturating_sub(1), connections, CONNECTIONS_MAX] {
            assert_eq!(state.is_wanted(max), waiting || connections > max, "{word:?} of {max}");
        }
    }
}

pub fn run_limits(bounds: &[Bound]) {
    let Some((Bound(first), rest)) = bounds.split_first() else { return };
    let limits = Limits::new(*first);
    assert_eq!((limits.load(), limits.connections()), (*first, first.connections));
    for &Bound(bounds) in rest {
        limits.store(bounds);
        assert_eq!((limits.load(), limits.connections()), (bounds, bounds.connections));
    }
}

#[derive(Arbitrary, Debug)]
pub enum TurnOp {
    Pass(u8),
    SetNudged(u32),
    Begin,
}

pub fn run_turn(ops: &[TurnOp]) {
    let turn = Turn::default();
    let (mut bypasses, mut nudged) = (0, 0_u32);
    for op in ops {
        match *op {
            TurnOp::Pass(count) => (0..count).for_each(|_| {
                let roomy = bypasses < BYPASS_MAX;
                assert_eq!(turn.pass(), roomy);
                bypasses += u32::from(roomy);
            }),
            TurnOp::SetNudged(now) => {
                turn.set_nudged(now as usize);
                nudged = now;
            }
            TurnOp::Begin => {
                turn.begin();
                bypasses = 0;
            }
        }
        assert_eq!(turn.is_spent(), bypasses == BYPASS_MAX);
        for connections in [0, 1, 7, NUDGED_MAX, u32::MAX] {
            let enough = connections.clamp(1, NUDGED_MAX);
            assert_eq!(turn.is_nudged(connections), nudged >= enough);
        }
    }
}
