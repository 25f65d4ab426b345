//! Misses that those leave behind which were found dead.

use slabpool::{Ago, Miss};

use super::*;

/// A get misses, and is counted so.
fn assert_miss(pool: &Pool<u8, Line>, miss: Miss, ghost: Option<(CloseReason, Ago)>) {
    let before = pool.stats();
    assert!(pool.get(&1).is_none());
    let after = pool.stats();
    for kind in Miss::ALL {
        let more = after.misses[kind] - before.misses[kind];
        assert_eq!(more, u64::from(kind == miss), "{kind}, where {miss} is right");
    }
    for (rule, ago, count) in after.ghosts.iter() {
        let more = count - before.ghosts[(rule, ago)];
        assert_eq!(more, u64::from(ghost == Some((rule, ago))), "{rule} {ago}, not {ghost:?}");
    }
}

#[test]
fn who_was_found_dead_leaves_a_ghost_however_it_was_found() {
    let fates = [
        (Liveness::Closed, CloseReason::Dead),
        (Liveness::UnexpectedData, CloseReason::UnexpectedData),
    ];
    for (fate, reason) in fates {
        let mut bench = Bench::new();
        let pool = bench.builder().probe_interval(5 * SECOND).build().unwrap();
        let at_once = Some((reason, Ago::Second));
        assert_miss(&pool, Miss::Cold, None);
        // By the bell; the miss comes seconds later.
        let line = bench.put(&pool, 1);
        line.suffer(fate);
        pool.maintain();
        bench.pass(&pool, 5 * SECOND);
        assert_miss(&pool, Miss::Dead, Some((reason, Ago::TenSeconds)));
        assert_miss(&pool, Miss::Cold, None);
        // By the get that misses.
        let line = bench.put(&pool, 1);
        line.suffer_unheard(fate);
        assert_miss(&pool, Miss::Dead, at_once);
        assert_miss(&pool, Miss::Cold, None);
        // By the reaper that asks.
        let line = bench.put_line(&pool, 1, |line| line.clone().unwatchable());
        line.suffer_unheard(fate);
        bench.pass(&pool, 5 * SECOND + pool.tick());
        assert_eq!(pool.status().idle, 0);
        assert_miss(&pool, Miss::Dead, at_once);
        // On release, with another one in use.
        let (line, other) = (bench.line(), bench.line());
        let lease = pool.insert(&1, line.clone()).unwrap();
        let other = pool.insert(&1, other).unwrap();
        line.suffer(fate);
        lease.release();
        assert_miss(&pool, Miss::Dead, at_once);
        assert_miss(&pool, Miss::AllLeased, None);
        drop(other);
        assert_eq!(pool.stats().closes[reason], 4);
        assert_eq!(pool.stats().ghosts.of(reason), 4);
        assert_accounted(&pool);
    }
}

/// Whichever is on top, a get that meets one that has expired and one that has died.
#[test]
fn what_expired_says_more_than_what_died() {
    for expired_on_top in [true, false] {
        let mut bench = Bench::new();
        let pool = bench.builder().build().unwrap();
        let lines = [bench.line(), bench.line()];
        let expires = usize::from(expired_on_top);
        for (at, line) in lines.iter().enumerate() {
            let idle_timeout = (at == expires).then_some(SECOND);
            pool.put_with(&1, line.clone(), PutOptions::new().idle_timeout(idle_timeout)).unwrap();
        }
        lines[1 - expires].suffer_unheard(Liveness::Closed);
        bench.clock.advance(2 * SECOND);
        // Both leave a ghost. The miss takes that of the one which was closed last.
        assert_miss(&pool, Miss::Expired, Some((CloseReason::Dead, Ago::Second)));
        assert_eq!(bench.closes().len(), 2);
        // The other's time was up a second ago.
        assert_miss(&pool, Miss::Expired, Some((CloseReason::Idle, Ago::Second)));
        assert_miss(&pool, Miss::Cold, None);
    }
}

#[test]
fn a_conditional_get_that_finds_none_alive_misses_for_that() {
    let mut bench = Bench::new();
    let pool = bench.builder().build().unwrap();
    let lines = [(); 3].map(|()| bench.put(&pool, 1));
    lines.iter().for_each(|line| line.suffer_unheard(Liveness::Closed));
    let mut shown = 0;
    let lease = pool.get_if(&1, |_| {
        shown += 1;
        true
    });
    assert!(lease.is_none());
    assert_eq!(shown, 3, "each is wanted, none is alive");
    assert_eq!(pool.stats().misses[Miss::Dead], 1);
    assert_eq!(pool.stats().closes[CloseReason::Dead], 3);
    assert_accounted(&pool);
}

#[test]
fn a_check_that_fails_is_a_death() {
    let mut bench = Bench::new();
    let pool = bench.builder().build().unwrap();
    (0..3).for_each(|_| drop(bench.put(&pool, 1)));
    bench.clock.advance(SECOND);
    let mut cx = Context::from_waker(Waker::noop());
    let mut get = Box::pin(pool.get_checked(&1, SECOND, async |_| false));
    let Poll::Ready(lease) = get.as_mut().poll(&mut cx) else { panic!("it waits for nothing") };
    assert!(lease.is_none());
    drop(get);
    let stats = pool.stats();
    assert_eq!((stats.closes[CloseReason::Dead], stats.hits), (3, 3));
    assert_eq!(stats.misses[Miss::Dead], 1, "the get that found no more");
    assert_miss(&pool, Miss::Dead, Some((CloseReason::Dead, Ago::Second)));
    assert_accounted(&pool);
}

/// Each of them is closed on the way, under the search.
#[test]
fn a_conditional_get_reaches_the_one_alive_below_many_dead() {
    for dead in [1, 2, 31, 32, 33, 100, 1_000] {
        let mut bench = Bench::new();
        let pool = bench.builder().capacity(2_000).build().unwrap();
        let alive = bench.put(&pool, 1);
        for _ in 0..dead {
            bench.put(&pool, 1).suffer_unheard(Liveness::Closed);
        }
        let lease = pool.get_if(&1, |_| true);
        let left = pool.status().idle;
        let lease = lease.unwrap_or_else(|| panic!("{dead} were dead, {left} are left"));
        assert_eq!(lease.id, alive.id);
        assert_eq!(pool.stats().closes[CloseReason::Dead], dead);
        assert_eq!(pool.stats().misses.total(), 0);
    }
}
