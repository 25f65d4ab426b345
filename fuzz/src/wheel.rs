//! The timer wheel against a map: what is due is due then, not before and not twice.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};

use crate::core::wheel::Wheel;

/// A number of ticks. Mostly near the limits of levels, where mistakes are.
#[derive(Clone, Copy, Debug)]
pub struct Ticks(u64);

impl Arbitrary<'_> for Ticks {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let level = u.int_in_range(0..=7_u32)?;
        let slots = u64::from(u.arbitrary::<u8>()?);
        let off = u.int_in_range(-3..=3_i64)?;
        Ok(Self((slots << (6 * level)).saturating_add_signed(off)))
    }
}

#[derive(Arbitrary, Debug)]
pub enum Op {
    /// So many ticks from now.
    Set(u8, Ticks),
    /// At a tick which may have passed.
    SetAt(u8, Ticks),
    Clear(u8),
    Turn(Ticks),
}

/// The wheel moves a timer that is very far away from time to time, so that all the ticks
/// that there are would take long. These are enough to do so often.
const LATEST: u64 = 1 << 44;
/// Timers.
const IDS: u32 = 40;

pub type Input = (Ticks, Vec<Op>);

pub fn run((Ticks(start), ops): Input) {
    let mut now = start.min(LATEST);
    let mut wheel = Wheel::new(now);
    let mut map = BTreeMap::<u32, u64>::new();
    for op in ops {
        match op {
            Op::Set(id, Ticks(by)) => set(&mut wheel, &mut map, now, id, now.saturating_add(by)),
            Op::SetAt(id, Ticks(tick)) => set(&mut wheel, &mut map, now, id, tick),
            Op::Clear(id) => {
                let id = u32::from(id) % IDS;
                wheel.clear(id);
                map.remove(&id);
            }
            Op::Turn(Ticks(by)) => {
                now = now.saturating_add(by).min(LATEST);
                turn(&mut wheel, &mut map, now);
            }
        }
        for id in 0..IDS {
            assert_eq!(wheel.tick_of(id), map.get(&id).copied(), "timer {id}");
        }
    }
    turn(&mut wheel, &mut map, LATEST);
    assert!(map.values().all(|&tick| tick > LATEST));
}

fn set(wheel: &mut Wheel, map: &mut BTreeMap<u32, u64>, now: u64, id: u8, tick: u64) {
    let id = u32::from(id) % IDS;
    wheel.set(id, tick);
    map.insert(id, tick.max(now + 1));
}

fn turn(wheel: &mut Wheel, map: &mut BTreeMap<u32, u64>, now: u64) {
    let mut due = Vec::new();
    wheel.turn(now, &mut due);
    due.sort_unstable();
    let expected: Vec<u32> =
        map.iter().filter(|&(_, &tick)| tick <= now).map(|(&id, _)| id).collect();
    assert_eq!(due, expected, "due at {now}");
    map.retain(|_, tick| *tick > now);
}
