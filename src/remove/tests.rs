use crate::{CloseReason, Pool, Token};

/// How many insertions there are until the half of a number that a seat knows comes again.
const WRAP: u64 = 1 << 32;

/// A pool whose next connection gets this number.
fn counting_from(serial: u64) -> Pool<u8, u32> {
    let pool = Pool::builder().capacity(1).build().unwrap();
    pool.engine().serials.store(serial, std::sync::atomic::Ordering::Relaxed);
    pool
}

/// After as many insertions as a seat's mark can tell apart, and however often the slab has
/// used the place: the token of the first connection is not that of the last one.
#[test]
fn a_token_finds_nothing_after_a_whole_round_of_numbers() {
    for first in [7, WRAP - 1, 3 * WRAP, (1 << 48) + 1] {
        let pool = counting_from(first);
        let old = pool.put(&1, 1).unwrap();
        assert_eq!(pool.take(old), Some(1));
        pool.engine().serials.store(first + WRAP, std::sync::atomic::Ordering::Relaxed);
        let new = pool.put(&1, 2).unwrap();
        assert_eq!((old.serial as u32, old.serial + WRAP), (new.serial as u32, new.serial));
        // The slab counts the uses of a place as well, and comes round much sooner.
        let stale = Token { key: new.key, ..old };
        for token in [old, stale] {
            assert_ne!(token, new);
            assert!(pool.take(token).is_none() && !pool.evict(token));
        }
        // Nor is it doomed while it is in use.
        let lease = pool.get(&1).unwrap();
        assert_eq!(lease.token(), new);
        assert!(!pool.evict(stale) && pool.take(stale).is_none());
        lease.release();
        assert_eq!(pool.get(&1).map(|lease| *lease), Some(2));
        assert_eq!(pool.engine().counters.closes()[CloseReason::Removed], 0);
    }
}

/// Each number is used once on the way round, also where its lower half is zero.
#[test]
fn tokens_are_good_while_the_lower_half_of_their_numbers_turns_over() {
    let pool = counting_from(WRAP - 3);
    let mut before: Vec<Token> = Vec::new();
    for id in 0..6 {
        let token = pool.put(&1, id).unwrap();
        assert!(before.iter().all(|&old| old != token && !pool.evict(old)));
        let lease = pool.get(&1).unwrap();
        // Doomed while it is leased, and it alone.
        assert!(id % 2 == 0 || pool.evict(token));
        lease.release();
        assert_eq!(pool.status().idle, usize::from(id % 2 == 0));
        assert_eq!(pool.evict(token), id % 2 == 0);
        before.push(token);
    }
    assert_eq!(pool.engine().counters.closes()[CloseReason::Removed], 6);
}
