//! On each path by which the pool gives a connection up it is told how it is closed, once,
//! in the mode of the settings.

use slabpool::GroupSettings;

use super::*;

/// A way in which a connection is given up, and the reason that it is given up for.
type Path = (CloseReason, fn(&mut Bench, &Pool<u8, Line>) -> Line);

const PATHS: [Path; 29] = [
    // Its idle timeout, found out by the reaper, by a get, by a release.
    (CloseReason::Idle, |bench, pool| {
        let line = bench.put(pool, 1);
        bench.pass(pool, 31 * SECOND);
        line
    }),
    (CloseReason::Idle, |bench, pool| {
        let line = bench.put(pool, 1);
        bench.clock.advance(30 * SECOND);
        assert!(pool.get(&1).is_none());
        line
    }),
    (CloseReason::Idle, |bench, pool| {
        let line = bench.line();
        let options = PutOptions::new().idle_timeout(Duration::ZERO);
        pool.insert(&1, line.clone()).unwrap().release_with(options);
        line
    }),
    // Its lifetime, likewise.
    (CloseReason::Lifetime, |bench, pool| {
        short_lived(pool);
        let line = bench.put(pool, 1);
        bench.pass(pool, 6 * SECOND);
        line
    }),
    (CloseReason::Lifetime, |bench, pool| {
        short_lived(pool);
        let line = bench.put(pool, 1);
        bench.clock.advance(5 * SECOND);
        assert!(pool.get(&1).is_none());
        line
    }),
    (CloseReason::Lifetime, |bench, pool| {
        short_lived(pool);
        let line = bench.line();
        let lease = pool.insert(&1, line.clone()).unwrap();
        bench.clock.advance(5 * SECOND);
        lease.release();
        line
    }),
    (CloseReason::Uses, |bench, pool| {
        let line = bench.line();
        pool.insert(&1, line.clone()).unwrap().release_with(PutOptions::new().max_uses(1));
        pool.get(&1).unwrap().release();
        line
    }),
    // For room: by an insertion, by a lower capacity, by the cap of its group.
    (CloseReason::Evicted, |bench, pool| {
        pool.reconfigure(|settings| settings.capacity = 1).unwrap();
        let line = bench.put(pool, 1);
        assert!(pool.insert(&2, bench.line()).unwrap().detach().told().is_empty());
        line
    }),
    (CloseReason::Evicted, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.reconfigure(|settings| settings.capacity = 0).unwrap();
        line
    }),
    (CloseReason::Evicted, |bench, pool| {
        let line = bench.line();
        let lease = pool.insert(&1, line.clone()).unwrap();
        pool.reconfigure(|settings| settings.capacity = 0).unwrap();
        lease.release();
        pool.maintain();
        line
    }),
    (CloseReason::GroupFull, |bench, pool| {
        let line = bench.line();
        let lease = pool.insert(&1, line.clone()).unwrap();
        pool.group(&1).configure(GroupSettings::new().max_idle(0)).unwrap();
        lease.release();
        line
    }),
    // By the user.
    (CloseReason::Cleared, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.clear();
        line
    }),
    (CloseReason::Cleared, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.clear_group(&1);
        line
    }),
    (CloseReason::Cleared, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.retain(|_, _, _| false);
        line
    }),
    (CloseReason::Drained, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.drain_group(&1);
        line
    }),
    (CloseReason::Drained, |bench, pool| {
        let line = bench.line();
        let lease = pool.insert(&1, line.clone()).unwrap();
        pool.drain_group(&1);
        lease.release();
        line
    }),
    (CloseReason::Invalidated, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.invalidate();
        pool.maintain();
        line
    }),
    (CloseReason::Removed, |bench, pool| {
        let line = bench.line();
        let token = pool.put(&1, line.clone()).unwrap();
        assert!(pool.evict(token));
        line
    }),
    (CloseReason::Removed, |bench, pool| {
        let line = bench.line();
        let lease = pool.insert(&1, line.clone()).unwrap();
        assert!(pool.evict(lease.token()));
        lease.release();
        line
    }),
    (CloseReason::Trimmed, |bench, pool| {
        pool.reconfigure(|settings| settings.trim_window = Some(5 * SECOND)).unwrap();
        let line = bench.put(pool, 1);
        bench.pass(pool, 12 * SECOND);
        line
    }),
    // It has died: found by the bell, by a get, on release, when it is put.
    (CloseReason::Dead, |bench, pool| {
        let line = bench.put(pool, 1);
        line.suffer(Liveness::Closed);
        assert_eq!(pool.maintain(), 1);
        line
    }),
    (CloseReason::UnexpectedData, |bench, pool| {
        let line = bench.put(pool, 1);
        line.suffer_unheard(Liveness::UnexpectedData);
        assert!(pool.get(&1).is_none());
        line
    }),
    (CloseReason::Dead, |bench, pool| {
        let line = bench.line();
        let lease = pool.insert(&1, line.clone()).unwrap();
        line.suffer(Liveness::Closed);
        lease.release();
        line
    }),
    (CloseReason::Dead, |bench, pool| {
        let line = bench.line();
        line.suffer(Liveness::Closed);
        pool.put(&1, line.clone()).unwrap();
        line
    }),
    // The end of a lease.
    (CloseReason::Dead, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.get(&1).unwrap().close_dead();
        line
    }),
    (CloseReason::Dropped, |bench, pool| {
        let line = bench.put(pool, 1);
        drop(pool.get(&1).unwrap());
        line
    }),
    (CloseReason::Unhealthy, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.get(&1).unwrap().close();
        line
    }),
    // The end of the pool.
    (CloseReason::Closed, |bench, pool| {
        let line = bench.put(pool, 1);
        pool.close();
        line
    }),
    (CloseReason::Closed, |bench, pool| {
        let line = bench.line();
        let lease = pool.insert(&1, line.clone()).unwrap();
        pool.close();
        lease.release();
        line
    }),
];

fn short_lived(pool: &Pool<u8, Line>) {
    pool.group(&1).configure(GroupSettings::new().max_lifetime(5 * SECOND)).unwrap();
}

#[test]
fn whoever_is_given_up_is_told_once_how() {
    let mut reasons = Vec::new();
    for (number, (reason, path)) in PATHS.into_iter().enumerate() {
        for mode in [CloseMode::Abort, CloseMode::Graceful] {
            let mut bench = Bench::new();
            let pool = bench.builder().close_mode(mode).build().unwrap();
            let line = path(&mut bench, &pool);
            assert_eq!(line.told(), [mode], "path {number}");
            assert_eq!(bench.closes(), [(line.id, reason)], "path {number}");
            assert_accounted(&pool);
        }
        reasons.push(reason);
    }
    for reason in CloseReason::ALL {
        assert!(reasons.contains(&reason), "there is no path for {reason}");
    }
}

#[test]
fn what_the_last_handle_leaves_is_told_as_well() {
    let mut bench = Bench::new();
    let pool = bench.builder().close_mode(CloseMode::Abort).build().unwrap();
    let lines = [(); 3].map(|()| bench.put(&pool, 1));
    drop(pool);
    assert_eq!(lines.map(|line| line.told()), [(); 3].map(|()| vec![CloseMode::Abort]));
    assert_eq!(bench.closes().len(), 3);
}

#[test]
fn who_leaves_alive_or_never_came_in_is_told_nothing() {
    let mut bench = Bench::new();
    let builder = bench.builder().close_mode(CloseMode::Abort).capacity(2);
    let pool = builder.build().unwrap();
    let taken = bench.line();
    let token = pool.put(&1, taken.clone()).unwrap();
    drop(pool.take(token).unwrap());
    let detached = bench.line();
    drop(pool.insert(&1, detached.clone()).unwrap().detach());
    // The pool is full of leases, the group drains, the pool is closed.
    let leases = [(); 2].map(|()| pool.insert(&1, bench.line()).unwrap());
    let [full, draining, closed] = [(); 3].map(|()| bench.line());
    assert!(pool.put(&1, full.clone()).is_err());
    drop(leases);
    pool.drain_group(&1);
    assert!(pool.put(&1, draining.clone()).is_err());
    pool.close();
    assert!(pool.put(&2, closed.clone()).is_err());
    for line in [taken, detached, full, draining, closed] {
        assert_eq!(line.told(), [], "{}", line.id);
    }
}
