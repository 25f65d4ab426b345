//! The bound of the pool, its word and its permits, against plain numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arbitrary::{Arbitrary, Unstructured};

use crate::sources::capacity::{Capacity, Excess, Heir, Permit};
use crate::store::CONNECTIONS_MAX;

/// A capacity: a small one, or one near the largest.
#[derive(Clone, Copy, Debug)]
pub struct Max(usize);

impl Arbitrary<'_> for Max {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let small = usize::from(u.int_in_range(0..=40_u8)?);
        Ok(Self(if u.ratio(1, 8)? { CONNECTIONS_MAX - small } else { small }))
    }
}

#[derive(Arbitrary, Debug)]
pub enum Op {
    SetMax(Max),
    /// Takes a permit, and holds it, or leaves it with a connection.
    Reserve {
        leave: bool,
    },
    DropPermit(u8),
    /// A connection goes.
    Reclaim,
    /// A connection goes, and another one may come in its place.
    PassOn {
        leave: bool,
    },
    ClaimExcess,
    /// Gives up the right to close one.
    DropExcess(u8),
    /// A connection goes that is one too many.
    Shed(u8),
    Close,
}

/// Counts what it is told.
#[derive(Debug, Default)]
struct Ears(AtomicUsize);

impl Heir for Ears {
    fn freed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the capacity should be.
#[derive(Debug, Default)]
struct Model {
    max: usize,
    /// Permits that are with connections.
    left: usize,
    closed: bool,
    freed: usize,
}

struct Run<'a> {
    capacity: &'a Capacity,
    permits: Vec<Permit<'a>>,
    excesses: Vec<Excess<'a>>,
    model: Model,
}

impl<'a> Run<'a> {
    fn used(&self) -> usize {
        self.model.left + self.permits.len()
    }

    fn excess(&self) -> usize {
        self.used().saturating_sub(self.model.max)
    }

    /// What somebody got, who leaves it with a connection or not.
    fn keep(&mut self, permit: Permit<'a>, leave: bool) {
        if leave {
            permit.leave();
            self.model.left += 1;
        } else {
            self.permits.push(permit);
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::SetMax(Max(max)) => {
                self.capacity.set_max(max);
                self.model.max = max;
            }
            Op::Reserve { leave } => {
                let free = !self.model.closed && self.used() < self.model.max;
                let permit = self.capacity.reserve();
                assert_eq!(permit.is_some(), free);
                if let Some(permit) = permit {
                    self.keep(permit, leave);
                }
            }
            Op::DropPermit(at) => {
                if let Some(at) = usize::from(at).checked_rem(self.permits.len()) {
                    drop(self.permits.swap_remove(at));
                    self.model.freed += 1;
                }
            }
            Op::Reclaim if self.model.left > 0 => {
                drop(self.capacity.reclaim());
                self.model.left -= 1;
                self.model.freed += 1;
            }
            Op::PassOn { leave } if self.model.left > 0 => {
                let must_go = self.model.closed || self.excess() > 0;
                let passed = self.capacity.reclaim().pass_on();
                assert_eq!(passed.is_none(), must_go);
                self.model.left -= 1;
                match passed {
                    Some(permit) => self.keep(permit, leave),
                    None => self.model.freed += 1,
                }
            }
            Op::Reclaim | Op::PassOn { .. } => {}
            Op::ClaimExcess => {
                let there = self.excess() > self.excesses.len();
                let excess = self.capacity.claim_excess();
                assert_eq!(excess.is_some(), there);
                self.excesses.extend(excess);
            }
            Op::DropExcess(at) => {
                if let Some(at) = usize::from(at).checked_rem(self.excesses.len()) {
                    drop(self.excesses.swap_remove(at));
                }
            }
            Op::Shed(at) => {
                let excess = usize::from(at).checked_rem(self.excesses.len());
                if let Some(at) = excess.filter(|_| self.model.left > 0) {
                    self.excesses.swap_remove(at).shed(self.capacity.reclaim());
                    self.model.left -= 1;
                    self.model.freed += 1;
                }
            }
            Op::Close => {
                self.capacity.close();
                self.model.closed = true;
            }
        }
    }

    fn compare(&self, ears: &Ears) {
        let used = self.used();
        assert_eq!((self.capacity.used(), self.capacity.max()), (used, self.model.max));
        assert_eq!(self.capacity.is_closed(), self.model.closed);
        let shut = self.model.closed || self.model.max == 0 && used == 0;
        assert_eq!(self.capacity.is_shut(), shut);
        assert_eq!(ears.0.load(Ordering::Relaxed), self.model.freed, "who waits is told of each");
    }
}

/// What `store` says of the pool is so.
pub fn the_limit_is_the_pools() {
    use slabpool::{ConfigError, Pool};
    let (over, max) = (CONNECTIONS_MAX + 1, CONNECTIONS_MAX);
    let error = Pool::<u8, u8>::builder().capacity(over).build().unwrap_err();
    assert_eq!(error, ConfigError::CapacityTooLarge { capacity: over, capacity_max: max });
}

pub type Input = (Max, Vec<Op>);

pub fn run((Max(max), ops): Input) {
    let (capacity, ears) = (Capacity::new(max), Arc::new(Ears::default()));
    capacity.bequeath(Arc::clone(&ears) as Arc<dyn Heir>);
    let model = Model { max, ..Model::default() };
    let mut run = Run { capacity: &capacity, permits: Vec::new(), excesses: Vec::new(), model };
    for op in &ops {
        run.step(op);
        run.compare(&ears);
    }
    run.excesses.clear();
    let left = run.model.left;
    run.permits.clear();
    (0..left).for_each(|_| drop(capacity.reclaim()));
    assert_eq!(capacity.used(), 0);
    assert!(capacity.claim_excess().is_none());
}
