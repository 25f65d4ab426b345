//! The era of a group: how often it was invalidated or drained, and whether it drains.

use arbitrary::Arbitrary;

use crate::core::era::Era;
use crate::core::seat::GENERATION_ONE;

#[derive(Arbitrary, Debug)]
pub enum Op {
    Invalidate,
    /// The pool.
    InvalidateAll,
    Drain,
    Resume,
    /// A connection comes in, if one may.
    Come,
}

pub fn run(ops: &[Op]) {
    let era = Era::new();
    let (mut own, mut pool, mut draining) = (0_u32, 0_u32, false);
    // The generation of each connection, and whether a drain came after it.
    let mut marks: Vec<(u32, bool)> = Vec::new();
    for op in ops {
        match op {
            Op::Invalidate => {
                era.invalidate();
                own += GENERATION_ONE;
            }
            Op::InvalidateAll => pool += GENERATION_ONE,
            Op::Drain => {
                assert_eq!(era.drain(pool), !draining);
                if !draining {
                    own += GENERATION_ONE;
                    marks.iter_mut().for_each(|(_, drained)| *drained = true);
                }
                draining = true;
            }
            Op::Resume => {
                assert_eq!(era.resume(), draining);
                draining = false;
            }
            Op::Come => {
                let generation = era.open_generation();
                assert_eq!(generation, (!draining).then_some(own));
                marks.extend(generation.map(|generation| (pool + generation, false)));
            }
        }
        assert_eq!((era.generation() & !1, era.is_draining()), (own, draining));
        for &(mark, drained) in &marks {
            assert_eq!(era.has_drained(mark.into()), draining || drained, "{mark} of {own}");
        }
    }
}
