//! Which idle connection goes when the pool is full: the one released longest
//! ago, over all groups; of several released at the same time, the one inserted
//! first.
//!
//! Release order is nowhere kept as a list: that would be a shared word on the hot
//! path. Instead one *sweep* over the seats collects a batch of the oldest, in
//! order, and evictions consume it. The batch stays right while it lasts, since a
//! release can only make a connection younger than all of them: a candidate that
//! was used meanwhile has another incarnation and is passed over (S1).
//!
//! A batch holds half of what is idle, so that an eviction costs two seats read in
//! sequence, on average; up to [`EXACT`] idle connections none is kept,
//! and each eviction sweeps. Candidates are hints, never owners: when a thread
//! sweeps, others that find the batch empty sweep for themselves.
//!
//! The order is exact but for one case: a connection released at the very time of
//! the sweep, by the coarse clock, may be younger by insertion than a candidate
//! of the same time, and go after it.

use crate::core::arena::Arena;
use crate::core::batch::{Batch, LENGTH_MAX};
use crate::core::seat::{Mark, Seat};
use crate::core::state::Phase;
use crate::core::ticket::Claim;
use crate::sync::{AtomicBool, Ordering};

/// Up to so many idle connections, every eviction looks at all of them.
const EXACT: usize = 128;
/// The largest batch.
const BATCH_MAX: usize = 4096;
const _: () = assert!(BATCH_MAX <= LENGTH_MAX);
/// A batch is this part of what is idle.
const BATCH_PART: usize = 2;
/// How often an eviction sweeps again because its choice was taken.
const SWEEPS: usize = 4;

/// An idle connection in the order of eviction: the greatest goes last.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Its stamp, the low half of its serial, which is enough to tell who was first, and its
    /// seat: one number, so that it takes no branch to compare two.
    order: u128,
    incarnation: u64,
}

impl Candidate {
    fn claim(&self) -> Claim {
        Claim { seat: self.order as u32, incarnation: self.incarnation }
    }
}

/// Chooses victims.
#[derive(Debug)]
pub struct Lru {
    /// Filled by one sweep at a time.
    batch: Batch,
    sweeping: AtomicBool,
}

impl Lru {
    pub fn new() -> Self {
        Self { batch: Batch::new(), sweeping: AtomicBool::new(false) }
    }

    /// Seizes the least recently released idle connection: the caller owns it,
    /// and must remove it. `None` when nothing was idle.
    ///
    /// Starts over only when other threads took what it had chosen, and at most
    /// a few times.
    pub fn seize(&self, seats: &Arena<Seat>) -> Option<Claim> {
        self.seize_within(seats, SWEEPS)
    }

    /// As [`Lru::seize`], for one who is about to sleep until there is something: starts
    /// over as often as others take what it had chosen. So `None` says that a sweep has
    /// found nothing idle.
    #[cfg(any(feature = "tokio", slabpool_loom))]
    pub fn seize_any(&self, seats: &Arena<Seat>) -> Option<Claim> {
        self.seize_within(seats, usize::MAX)
    }

    #[inline]
    fn seize_within(&self, seats: &Arena<Seat>, sweeps: usize) -> Option<Claim> {
        let take =
            |claim: Claim| seats.get(claim.seat).state.seize(claim.incarnation).then_some(claim);
        while let Some(candidate) = self.batch.pop() {
            let claim = take(candidate);
            if claim.is_some() {
                return claim;
            }
        }
        for _ in 0..sweeps {
            // Acquire: pairs with the Release below, for who fills the batch next. Others
            // look for one victim.
            let alone = !self.sweeping.swap(true, Ordering::Acquire);
            // By the seats, and not by the capacity, which may change: a pool that
            // shrinks needs its largest batches then.
            let batch_max = (seats.high_water() as usize / BATCH_PART).clamp(1, BATCH_MAX);
            let oldest = sweep(seats, if alone { batch_max } else { 1 });
            let nothing = oldest.is_empty();
            let mut rest = oldest.iter().map(Candidate::claim);
            let found = rest.by_ref().find_map(take);
            if alone {
                // If another one has filled it meanwhile, the rest is not needed.
                self.batch.fill(rest);
                self.sweeping.store(false, Ordering::Release);
            }
            if found.is_some() || nothing {
                return found;
            }
        }
        None
    }
}

/// The oldest idle connections in order: at least one if there is one, and no more
/// than `batch_max` or half of them.
fn sweep(seats: &Arena<Seat>, batch_max: usize) -> Vec<Candidate> {
    let order = |candidate: &Candidate| candidate.order;
    let idle = seats.iter().filter_map(|(index, seat)| candidate(index, seat));
    if batch_max == 1 {
        return idle.min_by_key(order).into_iter().collect();
    }
    let mut oldest = Vec::with_capacity(BATCH_PART * batch_max);
    let mut idle_count = 0;
    let mut youngest = u128::MAX;
    for candidate in idle {
        idle_count += 1;
        if candidate.order > youngest {
            continue;
        }
        if oldest.len() == BATCH_PART * batch_max {
            // Half of them can go. Amortised, a constant for each candidate.
            youngest = oldest.select_nth_unstable_by_key(batch_max - 1, order).1.order;
            oldest.truncate(batch_max);
        }
        oldest.push(candidate);
    }
    // Stable, as that is fast where parts are in order: a connection that comes in takes the
    // seat of the one that went for it.
    oldest.sort_by_key(order);
    oldest.truncate(if idle_count <= EXACT { 1 } else { batch_max.min(idle_count / BATCH_PART) });
    oldest
}

fn candidate(index: u32, seat: &Seat) -> Option<Candidate> {
    let word = seat.state.load();
    // S3: if the seat is still in this incarnation when it is seized, the fields
    // read here were those of this idle spell.
    (word.phase() == Phase::Idle).then(|| Candidate {
        order: u128::from(seat.stamp.get()) << 64
            | u128::from(Mark::serial(seat.mark.get())) << 32
            | u128::from(index),
        incarnation: word.incarnation(),
    })
}

#[cfg(all(test, not(slabpool_loom)))]
mod tests {
    use super::*;

    fn idle_seats(stamps: impl IntoIterator<Item = u64>) -> Arena<Seat> {
        let seats = Arena::<Seat>::new();
        for (serial, stamp) in stamps.into_iter().enumerate() {
            let seat = seats.get(seats.take().unwrap());
            seat.stamp.set(stamp);
            seat.mark.set(serial as u64, 0);
            seat.state.rest(1);
        }
        seats
    }

    fn order(lru: &Lru, seats: &Arena<Seat>) -> Vec<u32> {
        std::iter::from_fn(|| lru.seize(seats)).map(|claim| claim.seat).collect()
    }

    #[test]
    fn the_oldest_goes_first_and_ties_go_by_insertion() {
        let seats = idle_seats([5, 3, 3, 9, 1]);
        assert_eq!(order(&Lru::new(), &seats), [4, 1, 2, 0, 3]);
    }

    #[test]
    fn a_batch_keeps_the_order_of_thousands() {
        let stamps: Vec<u64> = (0..5_000).map(|n| n * 7919 % 5_003).collect();
        let seats = idle_seats(stamps.clone());
        let seen = order(&Lru::new(), &seats);
        let mut expected: Vec<u32> = (0..5_000).collect();
        expected.sort_by_key(|&seat| stamps[seat as usize]);
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_pool_that_grows_gets_batches_of_its_size() {
        let lru = Lru::new();
        let few = idle_seats(0..1);
        assert_eq!((lru.seize(&few).unwrap().seat, lru.batch.left()), (0, 0));
        for count in [1_000, 40_000] {
            let seats = idle_seats(0..count);
            assert_eq!(lru.seize(&seats).unwrap().seat, 0);
            let batch = (count as usize / BATCH_PART).min(BATCH_MAX);
            assert_eq!(lru.batch.left(), batch - 1);
            while lru.batch.pop().is_some() {}
        }
    }

    #[test]
    fn a_candidate_that_was_used_is_passed_over() {
        let seats = idle_seats(0..1_000);
        let lru = Lru::new();
        assert_eq!(lru.seize(&seats).unwrap().seat, 0);
        let used = seats.get(1);
        used.state.claim(1).unwrap();
        used.stamp.set(5_000);
        used.state.rest(2);
        let rest = order(&lru, &seats);
        assert_eq!(rest.first(), Some(&2));
        assert_eq!(rest.last(), Some(&1));
        assert_eq!(rest.len(), 999);
    }
}
