//! Time that jumps, as it does when a machine wakes up: what is due is closed, in small
//! steps, and nothing else.

mod common;

use std::time::Duration;

use slabpool::{Clock, CloseReason, GroupSettings, ManualClock, Pool, PutOptions};

use common::{Connection, Journal, NANOSECOND, SECOND, Tally};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
const JUMPS: [Duration; 5] = [
    Duration::from_secs(3_600),
    YEAR,
    YEAR.saturating_mul(20),
    YEAR.saturating_mul(200),
    Duration::MAX,
];

fn pool(clock: &ManualClock, journal: &Journal<u8>) -> Pool<u8, Connection> {
    Pool::builder().capacity(2_000).clock(clock).on_close(journal.hook()).build().unwrap()
}

#[test]
fn a_jump_closes_what_is_due_and_nothing_else() {
    for jump in JUMPS {
        let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
        let pool = pool(&clock, &journal);
        let endless = pool.group(&2);
        endless.configure(GroupSettings::new().idle_timeout(None)).unwrap();
        for id in 0..600 {
            pool.put(&1, tally.connect(id)).unwrap();
            clock.advance(NANOSECOND);
        }
        (600..700).for_each(|id| assert!(pool.put(&2, tally.connect(id)).is_ok()));
        let lease = pool.insert(&1, tally.connect(700)).unwrap();
        pool.maintain();
        clock.advance(jump);
        assert_eq!(pool.maintain(), 600);
        assert!(journal.reasons().into_iter().eq((0..600).map(|id| (id, CloseReason::Idle))));
        assert_eq!(endless.status().idle, 100);
        drop(lease);
        assert_eq!(journal.reasons(), [(700, CloseReason::Dropped)]);
    }
}

#[test]
fn after_a_jump_everything_has_its_time() {
    // Not the last one: then time has come to its end.
    for jump in &JUMPS[..4] {
        let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
        let pool = pool(&clock, &journal);
        let long = pool.group(&3);
        long.configure(GroupSettings::new().idle_timeout(*jump + 60 * SECOND)).unwrap();
        (0..100).for_each(|id| assert!(pool.put(&3, tally.connect(id)).is_ok()));
        let lease = pool.insert(&1, tally.connect(100)).unwrap();
        pool.maintain();
        clock.advance(*jump);
        assert_eq!((pool.maintain(), journal.reasons()), (0, Vec::new()));
        lease.release();
        let brief = PutOptions::new().idle_timeout(10 * SECOND);
        pool.put_with(&1, tally.connect(101), brief).unwrap();
        clock.advance(10 * SECOND - NANOSECOND);
        assert_eq!(pool.maintain(), 0);
        clock.advance(pool.tick());
        assert_eq!((pool.maintain(), journal.reasons()), (1, vec![(101, CloseReason::Idle)]));
        clock.advance(20 * SECOND - pool.tick());
        assert_eq!(pool.maintain(), 0);
        clock.advance(pool.tick());
        assert_eq!((pool.maintain(), journal.reasons()), (1, vec![(100, CloseReason::Idle)]));
        assert_eq!(long.status().idle, 100);
        clock.advance(30 * SECOND);
        assert_eq!((pool.maintain(), tally.alive()), (100, 0));
    }
}

#[cfg(feature = "tokio")]
#[test]
fn the_reaper_closes_no_more_than_some_at_a_time() {
    use tokio::task::yield_now;
    use tokio::time::{advance, sleep};

    let runtime = common::paused_runtime();
    for jump in JUMPS {
        let (clock, journal, tally) = (Clock::manual(), Journal::new(), Tally::default());
        let pool = pool(&clock, &journal);
        runtime.block_on(async {
            // Some expire, and the others are too many as soon as they are released.
            (0..600).for_each(|id| assert!(pool.put(&1, tally.connect(id)).is_ok()));
            let leases: Vec<_> =
                (600..1_400).map(|id| pool.insert(&2, tally.connect(id)).unwrap()).collect();
            sleep(2 * pool.tick()).await;
            pool.group(&2).configure(GroupSettings::new().idle_timeout(None)).unwrap();
            pool.reconfigure(|settings| settings.capacity = 850).unwrap();
            let mut before = tally.alive();
            assert_eq!(before, 850, "the oldest that are idle went at once");
            pool.reconfigure(|settings| settings.capacity = 100).unwrap();
            assert_eq!(tally.alive(), 800);
            leases.into_iter().for_each(|lease| lease.release());
            before = before.min(tally.alive());
            clock.advance(jump);
            advance(2 * pool.tick()).await;
            while before > 100 {
                yield_now().await;
                assert!(before - tally.alive() <= 256, "others have their turn");
                before = tally.alive();
            }
            assert_eq!((before, pool.status().idle), (100, 100));
        });
    }
}
