//! What may happen to a pool.

use proptest::prelude::*;
use slabpool::CloseReason;

use crate::op::{KEYS, Op, Setup};
use crate::oracle::{Limits, NEVER, Rule};
use crate::wire::Probing;

fn timeout() -> impl Strategy<Value = u64> {
    prop_oneof![Just(NEVER), Just(0), 1..50_u64, 50..500_u64, 1_000..10_000_u64]
}

fn limits() -> impl Strategy<Value = Limits> {
    let max_idle = prop_oneof![3 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    let min_idle = prop_oneof![2 => Just(0), 1 => 1..4_usize];
    let max_uses = prop_oneof![3 => Just(u64::MAX), 1 => 1..5_u64];
    let max_lifetime = prop_oneof![2 => Just(NEVER), 1 => timeout()];
    (timeout(), max_lifetime, max_idle, min_idle, max_uses).prop_map(
        |(idle_timeout, max_lifetime, max_idle, min_idle, max_uses)| Limits {
            idle_timeout,
            max_lifetime,
            max_idle,
            min_idle: min_idle.min(max_idle.unwrap_or(usize::MAX)),
            max_uses,
        },
    )
}

fn capacity() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..7_usize, 1 => Just(0), 2 => Just(100)]
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let limits = prop_oneof![1 => limits(), 1 => Just(Limits {
        idle_timeout: 30_000,
        max_lifetime: NEVER,
        max_idle: None,
        min_idle: 0,
        max_uses: u64::MAX,
    })];
    let probing = prop_oneof![
        2 => Just(Probing::Off),
        1 => Just(Probing::Ask(NEVER)),
        2 => timeout().prop_map(|interval| Probing::Ask(interval.max(1))),
        3 => Just(Probing::Watch),
    ];
    (capacity(), prop_oneof![2 => Just(1), 1 => Just(3)], limits, probing).prop_map(
        |(capacity, lanes, defaults, probing)| Setup { capacity, lanes, defaults, probing },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        (0..5_000_u64).prop_map(Rule::IdleUnder),
        (0..4_u64).prop_map(Rule::UsesUpTo),
        (0..5_000_u64).prop_map(Rule::YoungerThan),
        Just(Rule::Any),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    let at = || 0..1_000_usize;
    let count = || prop_oneof![8 => Just(1_usize), 1 => 20..60_usize];
    let patience = prop_oneof![3 => Just(NEVER), 1 => timeout()];
    let own = prop_oneof![limits().prop_map(Some), Just(None)];
    let advance = prop_oneof![Just(0), 1..20_u64, 20..2_000_u64, 2_000..40_000_u64];
    let one = prop_oneof![
        6 => (key(), any::<bool>()).prop_map(|(key, owned)| Op::Get { key, owned }),
        2 => (key(), rule()).prop_map(|(key, rule)| Op::GetIf { key, rule }),
        3 => key().prop_map(|key| Op::Insert { key }),
        5 => (key(), patience, count())
            .prop_map(|(key, patience, count)| Op::Put { key, patience, count }),
        5 => at().prop_map(|at| Op::Release { at }),
        3 => (at(), prop::option::of(timeout()), prop::option::of(0..4_u64))
            .prop_map(|(at, patience, uses)| Op::ReleaseWith { at, patience, uses }),
        1 => at().prop_map(|at| Op::CloseDead { at }),
        4 => (at(), any::<bool>()).prop_map(|(at, data)| Op::Suffer {
            at,
            reason: if data { CloseReason::UnexpectedData } else { CloseReason::Dead },
        }),
        1 => at().prop_map(|at| Op::CloseLease { at }),
        1 => at().prop_map(|at| Op::DropLease { at }),
        1 => at().prop_map(|at| Op::Detach { at }),
        1 => (at(), any::<bool>()).prop_map(|(at, alive)| Op::Take { at, alive }),
        2 => (at(), any::<bool>(), count())
            .prop_map(|(at, alive, count)| Op::Evict { at, alive, count }),
    ];
    let many = prop_oneof![
        2 => Just(Op::Clear),
        3 => key().prop_map(|key| Op::ClearGroup { key }),
        4 => (rule(), any::<bool>()).prop_map(|(rule, odd)| Op::Retain { rule, odd }),
        2 => Just(Op::Invalidate),
        3 => key().prop_map(|key| Op::InvalidateGroup { key }),
        4 => (key(), own).prop_map(|(key, own)| Op::Configure { key, own }),
        4 => (prop::option::of(capacity()), prop::option::of(limits()))
            .prop_map(|(capacity, defaults)| Op::Reconfigure { capacity, defaults }),
        3 => key().prop_map(|key| Op::Handle { key }),
        2 => key().prop_map(|key| Op::Drain { key }),
        4 => key().prop_map(|key| Op::Resume { key }),
        4 => at().prop_map(|at| Op::DropHandle { at }),
        20 => advance.prop_map(|ms| Op::Advance { ms }),
        10 => Just(Op::Maintain),
        1 => Just(Op::Close),
    ];
    prop_oneof![2 => one, 1 => many]
}

pub fn script() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..150)
}
