//! What user code panics with is dropped, and its destructor may panic as well.

mod common;

use std::panic::resume_unwind;

use slabpool::{CloseReason, Pool};

use common::Tally;

#[test]
fn the_payload_of_a_panic_is_dropped() {
    let payloads = Tally::default();
    let thrown = payloads.clone();
    let pool = Pool::<u8, u32>::builder()
        .on_close(move |_, id, _| resume_unwind(Box::new(thrown.connect(id))))
        .build()
        .unwrap();
    for id in 0..100 {
        pool.put(&1, id).unwrap();
    }
    pool.clear();
    assert_eq!((payloads.made(), payloads.dropped()), (100, 100));
    assert_eq!((pool.stats().panics, pool.stats().closes[CloseReason::Cleared]), (100, 100));
}

/// Panics when it is dropped, with what is left of it.
struct Grudge(u32, Tally);

impl Drop for Grudge {
    fn drop(&mut self) {
        drop(self.1.connect(self.0));
        resume_unwind(Box::new(self.1.connect(self.0)));
    }
}

#[test]
fn a_payload_that_panics_as_well_goes_no_further() {
    let payloads = Tally::default();
    let thrown = payloads.clone();
    let pool = Pool::<u8, u32>::builder()
        .on_close(move |_, id, _| resume_unwind(Box::new(Grudge(id, thrown.clone()))))
        .build()
        .unwrap();
    pool.put(&1, 1).unwrap();
    pool.put(&2, 2).unwrap();
    pool.clear();
    // What the second one panics with is not dropped: there is no end to it.
    assert_eq!((payloads.made(), payloads.dropped()), (4, 2));
    assert_eq!((pool.status().idle, pool.stats().panics), (0, 2));
    pool.put(&1, 3).unwrap();
    assert_eq!(*pool.get(&1).unwrap(), 3);
}
