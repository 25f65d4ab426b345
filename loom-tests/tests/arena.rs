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

/// In models a chunk has 4 records, and the first table 1 chunk.
const SECOND_CHUNK: u32 = 4;
const THIRD_CHUNK: u32 = 8;

/// Makes sure of a seat, writes to it, and says where it is.
fn settle(core: &Core, index: u32) -> usize {
    core.seats.cover(index);
    let seat = core.seats.get(index);
    seat.stamp.set(u64::from(index) + 1);
    &raw const *seat as usize
}

/// Each seat is where it was, and still has what was written to it.
fn find_again(core: &Core, seats: &[(u32, usize)]) {
    for &(index, place) in seats {
        let seat = core.seats.get(index);
        assert_eq!(&raw const *seat as usize, place, "seat {index} has moved");
        assert_eq!(seat.stamp.get(), u64::from(index) + 1);
        assert!(core.seats.find(index).is_some());
    }
}

/// One thread makes a chunk of a table, or finds that it is too late, while another one
/// replaces the table.
#[test]
fn a_chunk_is_not_lost_with_its_table() {
    check_all(|| {
        let core = Arc::new(Core::new());
        let other = thread::spawn({
            let core = Arc::clone(&core);
            move || settle(&core, SECOND_CHUNK)
        });
        let own = settle(&core, 0);
        find_again(&core, &[(0, own)]);
        let others = other.join().unwrap();
        find_again(&core, &[(0, own), (SECOND_CHUNK, others)]);
    });
}

/// Two threads replace the same table; one of them then replaces the next one as well.
#[test]
fn a_table_is_replaced_once() {
    check(3, || {
        let core = Arc::new(Core::new());
        let other = thread::spawn({
            let core = Arc::clone(&core);
            move || settle(&core, THIRD_CHUNK)
        });
        let own = settle(&core, SECOND_CHUNK);
        find_again(&core, &[(SECOND_CHUNK, own)]);
        let others = other.join().unwrap();
        find_again(&core, &[(SECOND_CHUNK, own), (THIRD_CHUNK, others)]);
    });
}

/// A thread that looks for seats meets tables and chunks that others are about to make.
#[test]
fn what_is_found_is_whole() {
    check_all(|| {
        let core = Arc::new(Core::new());
        let other = thread::spawn({
            let core = Arc::clone(&core);
            move || {
                settle(&core, 0);
                settle(&core, SECOND_CHUNK);
            }
        });
        for index in [0, SECOND_CHUNK] {
            let stamp = core.seats.find(index).map_or(0, |seat| seat.stamp.get());
            assert!([0, u64::from(index) + 1].contains(&stamp));
        }
        other.join().unwrap();
    });
}
