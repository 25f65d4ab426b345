//! A hierarchical timer wheel: plain data, one owner, no clock.
//!
//! After G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP
//! 1987). Six levels of 64 slots; a slot of level `n` spans `64^n` ticks. Setting
//! and clearing a timer is O(1), and turning the wheel costs O(1) for each timer
//! that is due, plus at most five moves in its whole life. Empty slots cost
//! nothing: a bitmap for each level says which hold something.
//!
//! Timers are named by small numbers, at most one timer each, and live in an array
//! that these index, linked through each other: the wheel does not allocate but
//! when it meets a larger number than ever before. The array grows piece by piece, so
//! that it has no more places than it needs, but for a part of one piece.

const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
const LEVELS: usize = 6;
/// Timers further away are parked here and looked at again.
const HORIZON: u64 = (1 << (LEVEL_BITS * LEVELS as u32)) - 1;
const NONE: u32 = u32::MAX;

/// Timers in a piece of the array.
const PIECE: usize = 256;
/// A timer: there is one for each idle connection, hence so packed.
///
/// ```text
///  63                            9 8       0
/// +-------------------------------+---------+
/// |       tick, modulo 2^55       |  place  |
/// +-------------------------------+---------+
/// ```
///
/// The place is where it is linked, `level * SLOTS + slot`; [`NOWHERE`] when it is not set.
#[derive(Clone, Copy, Debug)]
struct Timer {
    word: u64,
    next: u32,
    previous: u32,
}

const PLACE_BITS: u32 = 9;
const NOWHERE: usize = (1 << PLACE_BITS) - 1;
const TICK_MASK: u64 = u64::MAX >> PLACE_BITS;
const UNSET: Timer = Timer { word: NOWHERE as u64, next: NONE, previous: NONE };

const _: () = assert!(size_of::<Timer>() == 16);
const _: () = assert!(SLOTS * LEVELS <= NOWHERE && HORIZON < TICK_MASK);

impl Timer {
    /// The tick to which it is set. It is no more than [`TICK_MASK`] after that at which
    /// the wheel stands, and not before it.
    fn tick(self, now: u64) -> u64 {
        now + ((self.word >> PLACE_BITS).wrapping_sub(now) & TICK_MASK)
    }

    fn place(self) -> usize {
        self.word as usize & NOWHERE
    }

    fn set_tick(&mut self, tick: u64) {
        self.word = tick << PLACE_BITS | self.place() as u64;
    }

    fn set_place(&mut self, place: usize) {
        self.word = self.word & !(NOWHERE as u64) | place as u64;
    }
}

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    /// The tick up to which, inclusive, everything was handed out.
    now: u64,
    pieces: Vec<Box<[Timer; PIECE]>>,
    slots: Box<[u32; SLOTS * LEVELS]>,
    occupied: [u64; LEVELS],
}

impl Wheel {
    /// A wheel that stands at tick `now`.
    pub fn new(now: u64) -> Self {
        Self {
            now,
            pieces: Vec::new(),
            slots: Box::new([NONE; SLOTS * LEVELS]),
            occupied: [0; LEVELS],
        }
    }

    /// Sets the timer `id` to `tick`, in place of what it was set to. A tick that
    /// has passed counts as the next one, one that is 2^55 or more away as a nearer one.
    pub fn set(&mut self, id: u32, tick: u64) {
        while self.pieces.len() <= id as usize / PIECE {
            self.pieces.push(Box::new([UNSET; PIECE]));
        }
        self.clear(id);
        let tick = tick.clamp(self.now + 1, self.now + TICK_MASK);
        self.timer(id).set_tick(tick);
        self.link(id);
    }

    fn timer(&mut self, id: u32) -> &mut Timer {
        &mut self.pieces[id as usize / PIECE][id as usize % PIECE]
    }

    /// The timer `id`, if it is set.
    fn find(&self, id: u32) -> Option<&Timer> {
        let timer = &self.pieces.get(id as usize / PIECE)?[id as usize % PIECE];
        (timer.place() != NOWHERE).then_some(timer)
    }

    /// Clears the timer `id`, if it is set.
    pub fn clear(&mut self, id: u32) {
        if self.find(id).is_some() {
            self.unlink(id);
        }
    }

    /// The tick to which the timer `id` is set.
    pub fn tick_of(&self, id: u32) -> Option<u64> {
        Some(self.find(id)?.tick(self.now))
    }

    /// Turns the wheel to `tick` and appends to `due` what was set to it or
    /// before. Does nothing if the wheel is there already.
    pub fn turn(&mut self, tick: u64, due: &mut Vec<u32>) {
        while self.now < tick {
            let Some((level, start)) = self.next_slot().filter(|&(_, start)| start <= tick) else {
                self.now = tick;
                return;
            };
            // Ticks before this slot hold nothing. Timers of the slot that are not
            // due now move down by a level or more.
            self.now = start.max(self.now + 1) - 1;
            let slot = slot_of(level, start);
            let mut id = std::mem::replace(&mut self.slots[level * SLOTS + slot], NONE);
            self.occupied[level] &= !(1 << slot);
            if level == 0 {
                self.now = start;
            }
            while id != NONE {
                let now = self.now;
                let timer = self.timer(id);
                let next = timer.next;
                timer.set_place(NOWHERE);
                if timer.tick(now) <= now {
                    due.push(id);
                } else {
                    self.link(id);
                }
                id = next;
            }
        }
    }

    /// The number of timers that are set.
    #[cfg(all(test, not(slabpool_loom)))]
    fn len(&self) -> usize {
        self.pieces
            .iter()
            .flat_map(|piece| piece.iter())
            .filter(|timer| timer.place() != NOWHERE)
            .count()
    }

    /// The occupied slot that comes first, by the tick at which it begins.
    ///
    /// Of slots that begin at the same tick, the one of the highest level, since
    /// its timers may belong into the others.
    fn next_slot(&self) -> Option<(usize, u64)> {
        let first = |level: usize| {
            let occupied = self.occupied[level];
            if occupied == 0 {
                return None;
            }
            let span = LEVEL_BITS * level as u32;
            // The slot of the next tick is the first one that can hold anything.
            let from = (self.now + 1) >> span;
            let ahead = occupied.rotate_right((from % SLOTS as u64) as u32).trailing_zeros();
            Some((level, (from + u64::from(ahead)) << span))
        };
        (0..LEVELS)
            .filter_map(first)
            .min_by_key(|&(level, start)| (start.max(self.now + 1), std::cmp::Reverse(level)))
    }

    /// Links a timer into the slot of its tick. It is not linked, and not due.
    fn link(&mut self, id: u32) {
        let now = self.now;
        let tick = self.timer(id).tick(now);
        debug_assert!(tick > now, "timer {id} is due at {tick}, now is {now}");
        // Level by the highest bit in which the tick differs from where the wheel
        // will stand next: so a slot is never one that was passed.
        let tick = tick.min((self.now + 1) | HORIZON);
        let apart = tick ^ (self.now + 1);
        let level = (apart.checked_ilog2().unwrap_or(0) / LEVEL_BITS) as usize;
        let slot = slot_of(level, tick);
        let place = level * SLOTS + slot;
        let head = std::mem::replace(&mut self.slots[place], id);
        self.occupied[level] |= 1 << slot;
        if head != NONE {
            self.timer(head).previous = id;
        }
        let timer = self.timer(id);
        timer.next = head;
        timer.previous = NONE;
        timer.set_place(place);
    }

    fn unlink(&mut self, id: u32) {
        let timer = *self.timer(id);
        let (Timer { next, previous, .. }, place) = (timer, timer.place());
        if next != NONE {
            self.timer(next).previous = previous;
        }
        if previous != NONE {
            self.timer(previous).next = next;
        } else {
            self.slots[place] = next;
            if next == NONE {
                self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
            }
        }
        self.timer(id).set_place(NOWHERE);
    }
}

/// The slot of a tick in a level.
fn slot_of(level: usize, tick: u64) -> usize {
    ((tick >> (LEVEL_BITS * level as u32)) % SLOTS as u64) as usize
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn due(wheel: &mut Wheel, tick: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.turn(tick, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn a_timer_is_due_at_its_tick_and_not_before() {
        for start in [0, 1, 62, 63, 64, 4_095, 4_096, 1 << 40] {
            for distance in [1, 2, 63, 64, 65, 4_095, 4_096, 4_097, 300_000, HORIZON + 9] {
                let mut wheel = Wheel::new(start);
                wheel.set(3, start + distance);
                assert_eq!(due(&mut wheel, start + distance - 1), [], "{start} {distance}");
                assert_eq!(due(&mut wheel, start + distance), [3], "{start} {distance}");
                assert_eq!(wheel.len(), 0);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Turn(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let distance = prop_oneof![0..5_u64, 0..200_u64, 0..10_000_u64, 0..1_u64 << 40];
        prop_oneof![
            4 => (0..40_u32, distance.clone()).prop_map(|(id, by)| Step::Set(id, by)),
            1 => (0..40_u32).prop_map(Step::Clear),
            3 => distance.prop_map(Step::Turn),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map(start in 0..1_000_000_u64, steps in prop::collection::vec(step(), 1..120)) {
            let mut wheel = Wheel::new(start);
            let mut map = BTreeMap::<u32, u64>::new();
            let mut now = start;
            for step in steps {
                match step {
                    Step::Set(id, by) => {
                        let tick = now.saturating_add(by);
                        wheel.set(id, tick);
                        map.insert(id, tick.max(now + 1));
                    }
                    Step::Clear(id) => {
                        wheel.clear(id);
                        map.remove(&id);
                    }
                    Step::Turn(by) => {
                        now = now.saturating_add(by).min(u64::MAX / 2);
                        let expected: Vec<u32> =
                            map.iter().filter(|&(_, &tick)| tick <= now).map(|(&id, _)| id).collect();
                        map.retain(|_, tick| *tick > now);
                        prop_assert_eq!(due(&mut wheel, now), expected);
                    }
                }
                prop_assert_eq!(wheel.len(), map.len());
            }
        }
    }
}
