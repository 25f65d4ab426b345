//! The head of a stack: an index, and a tag that says how often it was changed.

use arbitrary::Arbitrary;

use crate::core::tagged::{Head, NIL, Tagged};

#[derive(Arbitrary, Debug)]
pub enum Op {
    Load,
    /// By what was seen at that time.
    Publish {
        seen: u8,
        index: u32,
    },
    Unlink {
        seen: u8,
        below: u32,
    },
    Seal {
        seen: u8,
    },
    Bump,
    Detach,
}

pub fn run(ops: &[Op]) {
    let head = Head::new();
    // What the head should hold; and what was seen of it, after how many changes.
    let (mut index, mut changes) = (NIL, 0_u64);
    let mut seen: Vec<(Tagged, u32, u64)> = vec![(head.load(), NIL, 0)];
    for op in ops {
        let pick = |at: u8| seen[usize::from(at) % seen.len()];
        let mut change = |to: u32, done: bool, at: u64| {
            assert_eq!(done, at == changes, "who is too late changes nothing");
            if done {
                (index, changes) = (to, changes + 1);
            }
        };
        match *op {
            Op::Load => {}
            Op::Publish { seen, index } => {
                let ((word, _, at), index) = (pick(seen), index & NIL);
                change(index, head.publish(word, index), at);
            }
            Op::Unlink { seen, below } => {
                let ((word, _, at), below) = (pick(seen), below & NIL);
                change(below, head.unlink(word, below), at);
            }
            Op::Seal { seen } => {
                let (word, top, at) = pick(seen);
                let sealed = head.seal(word);
                change(top, sealed.is_some(), at);
                assert!(sealed.is_none_or(|sealed| sealed == head.load()));
            }
            Op::Bump => {
                head.bump();
                changes += 1;
            }
            Op::Detach => {
                assert_eq!(head.detach(), index);
                (index, changes) = (NIL, changes + 1);
            }
        }
        let now = head.load();
        assert_eq!((now.index(), now.is_empty()), (index, index == NIL));
        let same = |word: Tagged| (word == now, word.bits() == now.bits());
        assert!(seen.iter().all(|&(word, _, at)| same(word) == (at == changes, at == changes)));
        if seen.len() < 64 {
            seen.push((now, index, changes));
        }
    }
}
