//! Leases and connections pass from thread to thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use slabpool::{CloseReason, Pool, Token};

use crate::support::rounds;

/// Leases alone: those who hold one know for certain that it is in the pool.
#[test]
fn no_more_leases_are_out_than_the_capacity() {
    for capacity in [1, 3] {
        let (pool, out) =
            (Pool::<u8, u8>::builder().capacity(capacity).build().unwrap(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (pool, out) = (&pool, &out);
                scope.spawn(move || {
                    for round in 0..rounds(200_000) {
                        let lease = match pool.get(&(thread % 2)) {
                            Some(lease) => lease,
                            None => match pool.insert(&(thread % 2), 0) {
                                Ok(lease) => lease,
                                Err(_) => continue,
                            },
                        };
                        let now = out.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= capacity, "{now} leases for a capacity of {capacity}");
                        out.fetch_sub(1, Ordering::SeqCst);
                        if round % 7 == 0 { lease.close() } else { lease.release() }
                    }
                });
            }
        });
        assert_eq!(pool.status().leased, 0);
    }
}

/// Some insert, others remove: what one thread's part of the slab gave is freed by
/// another thread.
#[test]
fn connections_end_on_other_threads_than_they_began() {
    const TAKEN: u64 = 0;
    const EVICTED: u64 = 1;
    let pool = Pool::<u64, u64>::builder().capacity(256).build().unwrap();
    let (sender, receiver) = mpsc::sync_channel::<(u64, Token)>(128);
    let receiver = Mutex::new(receiver);
    let count = rounds(200_000);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (pool, receiver) = (&pool, &receiver);
            scope.spawn(move || {
                let next = || receiver.lock().unwrap().recv();
                while let Ok((key, token)) = next() {
                    match key {
                        TAKEN => assert_eq!(pool.take(token), Some(key)),
                        EVICTED => assert!(pool.evict(token)),
                        _ => pool.get(&key).expect("one for each message").close(),
                    }
                }
            });
        }
        for half in 0..2 {
            let (pool, sender) = (&pool, sender.clone());
            scope.spawn(move || {
                for n in 0..count as u64 / 2 {
                    let key = (n + half) % 4;
                    let token = pool.put(&key, key).unwrap();
                    sender.send((key, token)).unwrap();
                }
            });
        }
        drop(sender);
    });
    assert_eq!(pool.stats().inserts, count as u64);
    assert_eq!((pool.status().idle, pool.status().groups), (0, 0));
    assert_eq!(pool.stats().closes[CloseReason::Evicted], 0);
}
