//! Real sockets: closed at once, all of them, and no other.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::thread;

use slabpool::Pool;

use crate::support::{Dice, rounds};

/// Whether the other end was closed; the socket must not block.
fn is_closed(peer: &mut UnixStream) -> bool {
    match peer.read(&mut [0]) {
        Ok(0) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        other => panic!("{other:?}"),
    }
}

#[test]
#[cfg_attr(miri, ignore = "real sockets")]
fn a_removed_connection_is_closed_at_once_and_no_other() {
    let pool = Pool::<u8, UnixStream>::new();
    let mut peers: Vec<(_, UnixStream)> = (0..50)
        .map(|_| {
            let (near, far) = UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            (pool.put(&1, near).unwrap(), far)
        })
        .collect();
    for at in (0..50).step_by(3) {
        assert!(pool.evict(peers[at].0));
        for (other, (_, peer)) in peers.iter_mut().enumerate() {
            assert_eq!(is_closed(peer), other % 3 == 0 && other <= at, "{other} after {at}");
        }
    }
    drop(pool);
    assert!(peers.iter_mut().all(|(_, peer)| is_closed(peer)));
}

#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(miri, ignore = "real sockets")]
fn no_descriptor_stays_open() {
    // Other tests of this binary open none but in this file, by a bounded number.
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let pool = Pool::<usize, UnixStream>::builder().capacity(64).build().unwrap();
    thread::scope(|scope| {
        for seed in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for _ in 0..rounds(20_000) {
                    let key = dice.roll(8);
                    let lease = pool.get(&key).or_else(|| {
                        // The far end is closed at once: nobody here writes.
                        pool.insert(&key, UnixStream::pair().unwrap().0).ok()
                    });
                    match lease {
                        Some(lease) if dice.roll(4) > 0 => lease.release(),
                        Some(lease) if dice.roll(2) > 0 => drop(lease.detach()),
                        rest => drop(rest),
                    }
                }
            });
        }
    });
    assert!(open() <= before + 64 + 128);
    pool.close();
    assert!(open() <= before + 128, "{} open, {before} before", open());
}
