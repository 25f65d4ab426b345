//! What may happen to a pool, as bytes have it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use arbitrary::{Arbitrary, Result, Unstructured};
use slabpool::CloseReason;

use crate::op::{KEYS, Op, Setup};
use crate::oracle::{Limits, NEVER, Rule};
use crate::run::Run;
use crate::wire::Probing;

#[derive(Debug)]
pub struct Script {
    pub setup: Setup,
    pub acts: Vec<Act>,
}

#[derive(Debug)]
pub enum Act {
    Op(Op),
    /// A closure of the user's panics, at the connection with this number of those that it
    /// is shown.
    Panicking {
        key: u8,
        after: usize,
    },
}

/// So many acts are enough; each of them is followed by a look at the whole pool.
const ACTS_MAX: usize = 200;
/// Milliseconds. All acts together end before the reaper's ticks do, in 13 years.
const ADVANCE_MAX: u64 = 1 << 31;

impl Arbitrary<'_> for Script {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let setup = setup(u)?;
        let mut acts = Vec::new();
        while acts.len() < ACTS_MAX && !u.is_empty() {
            acts.push(act(u)?);
        }
        Ok(Self { setup, acts })
    }
}

/// Milliseconds: none, some, never, or any number at all.
fn time(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=5_u8)? {
        0 => 0,
        1 => NEVER,
        2 => u64::from(u.arbitrary::<u8>()?),
        3 | 4 => u64::from(u.arbitrary::<u16>()?),
        _ => u.arbitrary()?,
    })
}

fn limits(u: &mut Unstructured<'_>) -> Result<Limits> {
    let max_idle: Option<usize> = if u.ratio(1, 3)? { Some(u.int_in_range(0..=6)?) } else { None };
    let min_idle = if u.ratio(1, 2)? { u.int_in_range(0..=6)? } else { 0 };
    Ok(Limits {
        idle_timeout: time(u)?,
        max_lifetime: if u.arbitrary()? { time(u)? } else { NEVER },
        max_idle,
        min_idle: max_idle.map_or(min_idle, |max_idle| min_idle.min(max_idle)),
        max_uses: if u.ratio(1, 3)? { time(u)?.max(1) } else { u64::MAX },
    })
}

fn capacity(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(if u.arbitrary()? { u.int_in_range(0..=7)? } else { u.arbitrary::<u8>()?.into() })
}

fn setup(u: &mut Unstructured<'_>) -> Result<Setup> {
    let probing = match u.int_in_range(0..=3_u8)? {
        0 => Probing::Off,
        1 => Probing::Ask(time(u)?.max(1)),
        _ => Probing::Watch,
    };
    let (capacity, lanes) = (capacity(u)?, if u.ratio(1, 3)? { 3 } else { 1 });
    Ok(Setup { capacity, lanes, defaults: limits(u)?, probing })
}

fn rule(u: &mut Unstructured<'_>) -> Result<Rule> {
    Ok(match u.int_in_range(0..=3_u8)? {
        0 => Rule::Any,
        1 => Rule::IdleUnder(time(u)?.min(u64::MAX / 2)),
        2 => Rule::UsesUpTo(u.arbitrary::<u8>()?.into()),
        _ => Rule::YoungerThan(time(u)?.min(u64::MAX / 2)),
    })
}

fn act(u: &mut Unstructured<'_>) -> Result<Act> {
    Ok(match u.int_in_range(0..=35_u8)? {
        0..=24 => Act::Op(one(u)?),
        25..=34 => Act::Op(many(u)?),
        _ => Act::Panicking { key: key(u)?, after: u.int_in_range(0..=3)? },
    })
}

fn key(u: &mut Unstructured<'_>) -> Result<u8> {
    u.int_in_range(0..=KEYS - 1)
}

fn at(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(u.arbitrary::<u8>()?.into())
}

/// Mostly one; many, for what happens now and then.
fn count(u: &mut Unstructured<'_>) -> Result<usize> {
    if u.ratio(1, 8)? { u.int_in_range(1..=80) } else { Ok(1) }
}

/// Operations on one connection, and on time.
fn one(u: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match u.int_in_range(0..=16_u8)? {
        0 | 1 => Op::Get { key: key(u)?, owned: u.arbitrary()? },
        2 => Op::GetIf { key: key(u)?, rule: rule(u)? },
        3 => Op::Insert { key: key(u)? },
        4 => Op::Put { key: key(u)?, patience: NEVER, count: count(u)? },
        5 => Op::Put { key: key(u)?, patience: time(u)?, count: count(u)? },
        6 | 7 => Op::Release { at: at(u)? },
        8 => {
            let patience = if u.arbitrary()? { Some(time(u)?) } else { None };
            let uses = if u.arbitrary()? { Some(time(u)?) } else { None };
            Op::ReleaseWith { at: at(u)?, patience, uses }
        }
        9 => Op::CloseDead { at: at(u)? },
        10 => {
            let data = u.arbitrary()?;
            let reason = if data { CloseReason::UnexpectedData } else { CloseReason::Dead };
            Op::Suffer { at: at(u)?, reason }
        }
        11 => Op::CloseLease { at: at(u)? },
        12 => Op::DropLease { at: at(u)? },
        13 => Op::Detach { at: at(u)? },
        14 => Op::Take { at: at(u)?, alive: u.arbitrary()? },
        15 => Op::Evict { at: at(u)?, alive: u.arbitrary()?, count: count(u)? },
        _ => Op::Advance { ms: time(u)?.min(ADVANCE_MAX) },
    })
}

/// Operations on many connections.
fn many(u: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match u.int_in_range(0..=14_u8)? {
        0 => Op::Clear,
        1 => Op::ClearGroup { key: key(u)? },
        2 => Op::Retain { rule: rule(u)?, odd: u.arbitrary()? },
        3 => Op::Invalidate,
        4 => Op::InvalidateGroup { key: key(u)? },
        5 => {
            let own = if u.arbitrary()? { Some(limits(u)?) } else { None };
            Op::Configure { key: key(u)?, own }
        }
        6 => Op::Drain { key: key(u)? },
        7 => Op::Resume { key: key(u)? },
        8 => {
            let capacity = if u.arbitrary()? { Some(capacity(u)?) } else { None };
            let defaults = if u.arbitrary()? { Some(limits(u)?) } else { None };
            Op::Reconfigure { capacity, defaults }
        }
        9 => Op::Handle { key: key(u)? },
        10 => Op::DropHandle { at: at(u)? },
        11 | 12 => Op::Maintain,
        13 => Op::Advance { ms: time(u)?.min(ADVANCE_MAX) },
        // Nothing much happens after it.
        _ if u.ratio(1, 4)? => Op::Close,
        _ => Op::Maintain,
    })
}

/// What a closure of the user's panics with.
struct Thrown;

/// Closures that panic: nothing is leased, closed or lost by that.
pub fn panicking(run: &mut Run, key: u8, after: usize) {
    let left = Cell::new(after);
    let ask = || match left.get().checked_sub(1) {
        Some(rest) => left.set(rest),
        // Not `panic!`, whose hook ends the process under a fuzzer.
        None => resume_unwind(Box::new(Thrown)),
    };
    let asked = catch_unwind(AssertUnwindSafe(|| {
        let lease = run.pool.get_if(&key, |_| {
            ask();
            false
        });
        assert!(lease.is_none());
    }));
    if asked.is_ok() {
        // One that nothing suits.
        assert_eq!(run.oracle.get_if(key, Rule::UsesUpTo(0)), None);
    }
    run.compare();

    left.set(after);
    let retained = catch_unwind(AssertUnwindSafe(|| {
        run.pool.retain(|_, _, _| {
            ask();
            true
        });
    }));
    // In no particular order, so that it is not known who was looked at before the panic.
    for (_, id, reason) in run.journal.written() {
        let unfit = run.oracle.connections[&id].invalid && reason == CloseReason::Invalidated;
        let found = run.oracle.fault(id) == Some(reason);
        assert!(unfit || found, "{id} was closed: {reason}");
        run.oracle.close_one(id, reason);
    }
    if retained.is_ok() {
        run.oracle.close_watched();
        run.oracle.close_unfit();
    }
}
