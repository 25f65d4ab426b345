//! An arena gives each record to one owner at a time.

mod common;

use std::sync::Arc;

use common::{check, check_all};
use loom::cell::UnsafeCell;
use loom::thread;
use slabpool::model::{Core, NIL};

/// Two threads make the first chunk; one of them throws its own away.
#[test]
fn a_chunk_is_made_once() {
    check_all(|| {
        let core = Arc::new(Core::new());
        let take = |core: &Core| {
            let index = core.take_seat().unwrap();
            core.seats.get(index).stamp.set(u64::from(index));
            core.card(index).born.set(u64::from(index));
            index
        };
        let other = thread::spawn({
            let core = Arc::clone(&core);
            move || take(&core)
        });
        let own = take(&core);
        let others = other.join().unwrap();
        assert_ne!(own, others);
        for index in [own, others] {
            assert_eq!(core.seats.get(index).stamp.get(), u64::from(index));
            assert_eq!(core.card(index).born.get(), u64::from(index));
        }
    });
}

/// Records pass from hand to hand through the free list, with all that was written.
#[test]
fn a_record_has_one_owner() {
    check(3, || {
        let core = Arc::new(Core::new());
        let cells: Arc<[UnsafeCell<()>; 4]> = Arc::default();
        let (one, two) = (core.seats.take().unwrap(), core.seats.take().unwrap());
        core.seats.give(one);
        core.seats.give(two);
        let round = |core: &Core, cells: &[UnsafeCell<()>; 4]| {
            let first = core.seats.take().unwrap();
            cells[first as usize].with_mut(|_| {});
            let second = core.seats.take().unwrap();
            cells[second as usize].with_mut(|_| {});
            core.seats.give(first);
            core.seats.give(second);
        };
        let other = thread::spawn({
            let (core, cells) = (Arc::clone(&core), Arc::clone(&cells));
            move || round(&core, &cells)
        });
        round(&core, &cells);
        other.join().unwrap();
        let mut all: Vec<u32> =
            (0..core.seats.high_water()).map(|_| core.seats.take().unwrap()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), core.seats.high_water() as usize);
        assert!(!all.contains(&NIL));
    });
}
