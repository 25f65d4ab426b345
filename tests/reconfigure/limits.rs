//! Changes that are refused, and limits that hold from where it is said.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use slabpool::{
    CloseReason, ConfigError, GroupSettings, Pool, RejectReason, RetirementBudget, Settings,
};

use crate::Bench;
use crate::common::{Connection, NANOSECOND, SECOND, Tally};

#[test]
fn settings_are_those_of_the_builder_until_they_change() {
    let bench = Bench::new(|b| b.capacity(7).idle_timeout(SECOND).max_uses(3));
    let before = bench.pool.settings();
    assert_eq!(before.capacity, 7);
    assert_eq!((before.idle_timeout, before.max_uses), (Some(SECOND), 3));
    assert_eq!((before.lifetime_jitter, before.max_lifetime), (0.0, None));
    bench.set(|settings| settings.capacity += 1);
    let mut expected = before.clone();
    expected.capacity = 8;
    assert_eq!(bench.pool.settings(), expected);
    assert_eq!(bench.pool.clone().settings(), expected, "of the pool, not of the handle");
}

#[test]
fn a_change_that_cannot_work_changes_nothing() {
    let bench = Bench::new(|b| b.capacity(4));
    bench.fill(1, 0..4);
    let before = bench.pool.settings();
    let refused = |change: &dyn Fn(&mut Settings)| {
        let error = bench.pool.reconfigure(|settings| {
            settings.capacity = 1;
            settings.idle_timeout = Some(Duration::ZERO);
            change(settings);
        });
        assert_eq!(bench.pool.settings(), before);
        error.unwrap_err()
    };
    let too_large = refused(&|settings| settings.capacity = usize::MAX);
    assert!(
        matches!(too_large, ConfigError::CapacityTooLarge { capacity: usize::MAX, .. }),
        "{too_large}"
    );
    assert!(too_large.to_string().contains("8388608"), "{too_large}");
    let budget = |per_second, group_share| {
        RetirementBudget::new().per_second(per_second).group_share(group_share)
    };
    for (change, expected) in [
        (&(|s: &mut Settings| s.max_uses = 0) as &dyn Fn(&mut Settings), ConfigError::MaxUsesZero),
        (
            &|s| (s.min_idle_per_group, s.max_idle_per_group) = (3, 2),
            ConfigError::MinIdleAboveMaxIdle { min_idle: 3, max_idle: 2 },
        ),
        (&|s| s.probe_interval = Some(Duration::ZERO), ConfigError::ProbeIntervalZero),
        (&|s| s.trim_window = Some(Duration::ZERO), ConfigError::TrimWindowZero),
        (&|s| s.retirement = budget(0, 1.0), ConfigError::RetirementRateZero),
        (
            &|s| s.retirement = budget(1, 0.0),
            ConfigError::RetirementShareOutOfRange { share: 0.0, share_above: 0.0, share_max: 1.0 },
        ),
    ] {
        assert_eq!(refused(change), expected);
    }
    let not_a_number = refused(&|settings| settings.lifetime_jitter = f64::NAN);
    assert!(matches!(not_a_number, ConfigError::JitterOutOfRange { .. }), "{not_a_number}");
    // A panic neither, and it does not keep others from changing them.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        bench.pool.reconfigure(|settings| {
            settings.capacity = 1;
            std::panic::resume_unwind(Box::new("no"));
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(bench.pool.settings(), before);
    assert_eq!((bench.pool.status().idle, bench.pool.status().capacity), (4, 4));
    assert_eq!(bench.closed(), []);
    bench.set(|settings| settings.capacity = 1);
    assert_eq!(bench.pool.status().idle, 1);
}

#[test]
fn a_change_inside_a_change_is_refused_and_a_group_may_be_configured() {
    let bench = Bench::new(|b| b);
    let group = bench.pool.group(&1);
    let inner = AtomicBool::new(false);
    let outer = catch_unwind(AssertUnwindSafe(|| {
        bench.pool.reconfigure(|settings| {
            settings.capacity = 1;
            group.configure(GroupSettings::new().max_idle(0)).unwrap();
            assert_eq!(bench.pool.settings().idle_timeout, Some(30 * SECOND));
            inner.store(true, Ordering::Relaxed);
            // Without a word: the hook for panics would say some.
            let _ = bench.pool.reconfigure(|_| unreachable!("it would wait for itself"));
        })
    }));
    let message = *outer.unwrap_err().downcast::<&str>().unwrap();
    assert!(message.contains("inside the closure"), "{message}");
    assert!(inner.into_inner());
    assert_ne!(bench.pool.settings().capacity, 1);
    assert_eq!(bench.put(1, 0), Err(RejectReason::GroupFull { max_idle: 0 }));
    bench.set(|settings| settings.capacity = 2);
    assert_eq!(bench.pool.settings().capacity, 2);
}

#[test]
fn each_limit_holds_from_where_it_is_said_to() {
    let bench = Bench::new(|b| b.idle_timeout(60 * SECOND));
    let group = bench.pool.group(&1);
    bench.fill(1, 0..1);
    let lease = bench.pool.insert(&1, bench.tally.connect(1)).unwrap();
    bench.pool.maintain();
    // The idle timeout: from the next release on.
    bench.set(|settings| settings.idle_timeout = Some(5 * SECOND));
    lease.release();
    bench.clock.advance(5 * SECOND - NANOSECOND);
    assert_eq!(bench.pool.maintain(), 0);
    bench.clock.advance(bench.pool.tick());
    assert_eq!(bench.pool.maintain(), 1);
    assert_eq!(bench.closed(), [(1, CloseReason::Idle)]);
    let lease = group.get().expect("released before that");
    bench.set(|settings| settings.idle_timeout = Some(Duration::ZERO));
    lease.release();
    assert_eq!(bench.closed(), [(0, CloseReason::Idle)]);
    assert_eq!(bench.put(1, 2), Err(RejectReason::NeverIdle));
    bench.set(|settings| settings.idle_timeout = None);
    // The lifetime: of connections inserted from now on.
    bench.fill(1, 3..4);
    bench.set(|settings| settings.max_lifetime = Some(SECOND));
    bench.fill(2, 4..5);
    bench.clock.advance(SECOND);
    assert!(bench.pool.get(&2).is_none());
    assert_eq!(bench.closed(), [(4, CloseReason::Lifetime)]);
    // Uses: at once.
    bench.set(|settings| settings.max_lifetime = None);
    group.get().unwrap().release();
    bench.set(|settings| settings.max_uses = 1);
    assert!(group.get().is_none());
    assert_eq!(bench.closed(), [(3, CloseReason::Uses)]);
    bench.set(|settings| settings.max_uses = u64::MAX);
    // The cap: for releases and insertions from now on.
    bench.fill(1, 5..8);
    bench.set(|settings| settings.max_idle_per_group = 2);
    assert_eq!(bench.pool.status().idle, 3);
    assert_eq!(bench.put(1, 8), Err(RejectReason::GroupFull { max_idle: 2 }));
    let leases = [group.get().unwrap(), group.get().unwrap()];
    leases.into_iter().for_each(|lease| lease.release());
    assert_eq!(bench.closed(), [(6, CloseReason::GroupFull)]);
    bench.set(|settings| settings.max_idle_per_group = usize::MAX);
    bench.put(1, 9).unwrap();
}

#[test]
fn a_cap_that_comes_and_goes_holds_over_all_lanes() {
    let bench = Bench::new(|b| b.lanes(4));
    let pool = &bench.pool;
    let put_all = |ids: std::ops::Range<u32>| {
        for id in ids {
            thread::scope(|scope| {
                scope
                    .spawn(|| {
                        let _ = bench.put(1, id);
                    })
                    .join()
                    .unwrap()
            });
        }
    };
    put_all(0..8);
    bench.set(|settings| settings.max_idle_per_group = 5);
    assert_eq!(pool.group_status(&1).idle, 8, "what is idle stays");
    put_all(8..9);
    assert_eq!(pool.stats().rejects, 1);
    let leases: Vec<_> = (0..8).map(|_| pool.get(&1).expect("none is hidden")).collect();
    leases.into_iter().for_each(|lease| lease.release());
    assert_eq!(pool.group_status(&1).idle, 5);
    bench.set(|settings| settings.max_idle_per_group = usize::MAX);
    put_all(9..12);
    assert_eq!(pool.group_status(&1).idle, 8);
    assert_eq!((0..9).map_while(|_| pool.get(&1)).count(), 8);
}

#[test]
fn a_group_keeps_what_it_has_of_its_own() {
    let hook = |&key: &u8| match key {
        9 => GroupSettings::new().max_idle(1),
        _ => GroupSettings::new(),
    };
    let bench = Bench::new(|b| b.group_settings(hook).idle_timeout(None));
    let own = bench.pool.group(&1);
    own.configure(GroupSettings::new().idle_timeout(10 * SECOND)).unwrap();
    bench.fill(9, 0..1);
    bench.set(|settings| {
        settings.idle_timeout = Some(20 * SECOND);
        settings.max_idle_per_group = 2;
    });
    // What they leave open is the pool's.
    assert_eq!(bench.put(9, 1), Err(RejectReason::GroupFull { max_idle: 1 }));
    bench.fill(1, 2..4);
    assert_eq!(bench.put(1, 4), Err(RejectReason::GroupFull { max_idle: 2 }));
    bench.fill(2, 5..7);
    bench.pool.get(&9).unwrap().release();
    bench.clock.advance(10 * SECOND);
    assert!(bench.pool.get(&1).is_none());
    assert_eq!(bench.pool.group_status(&2).idle, 2);
    assert_eq!(bench.pool.group_status(&9).idle, 1);
    bench.clock.advance(10 * SECOND);
    assert!(bench.pool.get(&2).is_none() && bench.pool.get(&9).is_none());
    // Given up, they are as the pool is by now; one that is made anew is as well.
    own.configure(GroupSettings::new()).unwrap();
    assert_eq!(bench.pool.status().groups, 1, "but for the handle it would be gone");
    bench.put(1, 7).unwrap();
    bench.clock.advance(20 * SECOND - NANOSECOND);
    assert_eq!(bench.pool.get(&1).map(|lease| lease.id), Some(7));
}

#[test]
fn more_at_least_than_at_most_is_refused_where_it_can_be_told() {
    let bench = Bench::new(|b| b);
    let group = bench.pool.group(&1);
    let error = group.configure(GroupSettings::new().min_idle(3).max_idle(2)).unwrap_err();
    assert_eq!(error, ConfigError::MinIdleAboveMaxIdle { min_idle: 3, max_idle: 2 });
    group.configure(GroupSettings::new().min_idle(3).max_idle(3)).unwrap();
    group.configure(GroupSettings::new().max_idle(2)).unwrap();
    // The pool knows of no group: what may be idle is what holds.
    bench.set(|settings| settings.min_idle_per_group = 5);
    bench.fill(1, 0..2);
    assert_eq!(bench.put(1, 2), Err(RejectReason::GroupFull { max_idle: 2 }));
}

/// The hook and the destructor run outside every lock: they may change settings.
#[test]
fn a_hook_may_reconfigure() {
    let tally = Tally::default();
    let itself: Arc<Mutex<Option<Pool<u8, Connection>>>> = Arc::default();
    let hook = Arc::clone(&itself);
    let pool = Pool::builder()
        .capacity(8)
        .on_close(move |_, _, _| {
            let pool = hook.lock().unwrap().clone();
            if let Some(pool) = pool {
                pool.reconfigure(|settings| settings.capacity = settings.capacity.min(2)).unwrap();
                pool.group(&1).configure(GroupSettings::new().max_uses(7)).unwrap();
            }
        })
        .build()
        .unwrap();
    (0..8).for_each(|id| assert!(pool.put(&1, tally.connect(id)).is_ok()));
    *itself.lock().unwrap() = Some(pool.clone());
    pool.reconfigure(|settings| settings.capacity = 5).unwrap();
    *itself.lock().unwrap() = None;
    assert_eq!((pool.status().idle, pool.settings().capacity), (2, 2));
    assert_eq!((tally.alive(), pool.stats().panics), (2, 0));
}
