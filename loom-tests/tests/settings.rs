//! Settings that change reach every group, and no change is lost.

mod common;

use common::{Conn, Ledger, builder, check, handle, with_group};
use loom::thread;
use slabpool::{GroupSettings, Pool, RejectReason};

fn reason(result: Result<slabpool::Token, slabpool::Rejected<Conn>>) -> Option<RejectReason> {
    result.err().map(|rejected| rejected.reason)
}

/// The cap is lowered while a group comes into being. It has the new one afterwards.
#[test]
fn reconfigure_against_put_into_a_new_group() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let connection = ledger.connection(0);
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.put(&1, connection).is_ok()
        });
        pool.reconfigure(|settings| settings.max_idle_per_group = 1).unwrap();
        assert!(other.join().unwrap(), "the first one has its place");
        let second = pool.put(&1, ledger.connection(1));
        assert_eq!(reason(second), Some(RejectReason::GroupFull { max_idle: 1 }));
        ledger.settle(pool, 2);
    });
}

/// A group is given settings of its own while those of the pool change: it has both.
#[test]
fn reconfigure_against_configure() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let group = handle(&pool, 1);
        let other = with_group(&group, |group| {
            group.configure(GroupSettings::new().max_uses(1)).unwrap();
        });
        pool.reconfigure(|settings| settings.max_idle_per_group = 1).unwrap();
        other.join().unwrap();
        group.put(ledger.connection(0)).unwrap();
        let second = group.put(ledger.connection(1));
        assert_eq!(reason(second), Some(RejectReason::GroupFull { max_idle: 1 }));
        group.get().expect("it was never used").release();
        assert_eq!(ledger.dropped(0), 1, "one use is all that its group allows");
        group.configure(GroupSettings::new()).unwrap();
        drop(group);
        assert_eq!(pool.status().groups, 0);
        ledger.settle(pool, 2);
    });
}

/// Two threads raise the same setting: both times count, and the groups have the sum.
#[test]
fn two_reconfigurations_are_both_in_force() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().capacity(4).max_idle_per_group(0).build().unwrap();
        let group = handle(&pool, 1);
        let raise = |pool: &Pool<u8, Conn>| {
            pool.reconfigure(|settings| {
                settings.max_idle_per_group += 1;
                settings.capacity -= 1;
            })
            .unwrap();
        };
        let other = thread::spawn({
            let pool = pool.clone();
            move || raise(&pool)
        });
        raise(&pool);
        other.join().unwrap();
        assert_eq!((pool.settings().max_idle_per_group, pool.settings().capacity), (2, 2));
        assert_eq!(pool.status().capacity, 2);
        for number in 0..2 {
            group.put(ledger.connection(number)).unwrap();
        }
        let third = group.put(ledger.connection(2));
        assert_eq!(reason(third), Some(RejectReason::GroupFull { max_idle: 2 }));
        drop(group);
        ledger.settle(pool, 3);
    });
}

/// Two threads give a group settings, one of them none: the last one holds, and the
/// group is kept, or goes, by what it has.
#[test]
fn two_configurations_of_one_group() {
    check(2, || {
        let ledger = Ledger::default();
        let pool = builder().build().unwrap();
        let group = handle(&pool, 1);
        let other = with_group(&group, |group| {
            group.configure(GroupSettings::new().max_idle(0)).unwrap();
        });
        group.configure(GroupSettings::new()).unwrap();
        other.join().unwrap();
        let has_own = reason(group.put(ledger.connection(0))).is_some();
        if let Some(lease) = group.get() {
            lease.close();
        }
        drop(group);
        assert_eq!(pool.status().groups, usize::from(has_own));
        ledger.settle(pool, 1);
    });
}
