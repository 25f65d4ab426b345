//! The reaper loses sight of no connection.

use std::hint;
use std::thread;
use std::time::Duration;

use slabpool::{Clock, Pool};

use crate::common::SECOND;
use crate::support::{Gate, rounds};

/// A seat's alarm rings, set by a former connection, at the very time at which the
/// next one takes the seat.
#[test]
fn a_connection_that_takes_a_seat_under_the_reapers_eyes_expires() {
    let clock = Clock::manual();
    let pool = Pool::<u8, usize>::builder().idle_timeout(SECOND).clock(&clock).build().unwrap();
    let (rounds, gate) = (rounds(50_000), Gate::new(2));
    let mut forgotten = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                gate.pass();
                pool.put(&1, round).unwrap();
                gate.pass();
            }
        });
        for round in 0..rounds {
            let former = pool.put(&1, round).unwrap();
            pool.maintain();
            assert!(pool.take(former).is_some());
            clock.advance(SECOND);
            gate.pass();
            (0..round % 128).for_each(|_| hint::spin_loop());
            pool.maintain();
            gate.pass();
            clock.advance(SECOND + Duration::from_millis(100));
            pool.maintain();
            // Not asserted here: the other thread would wait for ever.
            forgotten += pool.status().idle;
            pool.clear();
        }
    });
    assert_eq!(forgotten, 0, "of {rounds}");
}
