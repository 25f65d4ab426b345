//! Sockets are closed at once by whatever removes a connection, and none stays open.
//!
//! One test, since descriptors are counted for the whole process.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use slabpool::{Clock, Pool, PutOptions};

use common::SECOND;

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn descriptors_are_closed_at_once() {
    removed_evicted_expired_and_closed_ones();
    tcp_peers_see_the_end();
}

/// Whether the other end was closed.
fn has_ended(peer: &mut impl Read) -> bool {
    match peer.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

fn removed_evicted_expired_and_closed_ones() {
    let before = open_descriptors();
    let clock = Clock::manual();
    let pool = Pool::<u8, UnixStream>::builder().capacity(8).clock(&clock).build().unwrap();
    let mut peers = Vec::new();
    let connect = |peers: &mut Vec<UnixStream>| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        peers.push(theirs);
        ours
    };
    let tokens: Vec<_> = (0..8).map(|n| pool.put(&(n % 2), connect(&mut peers)).unwrap()).collect();
    assert_eq!(open_descriptors(), before + 16);
    // In the middle, so that what is left of it lies there for a while.
    assert!(pool.evict(tokens[4]));
    assert!(has_ended(&mut peers[4]) && !has_ended(&mut peers[2]) && !has_ended(&mut peers[6]));
    assert_eq!(open_descriptors(), before + 15);
    drop(pool.take(tokens[3]));
    pool.put(&2, connect(&mut peers)).unwrap();
    pool.put(&2, connect(&mut peers)).unwrap();
    assert!(!has_ended(&mut peers[0]), "there was room for two");
    pool.put(&2, connect(&mut peers)).unwrap();
    assert!(has_ended(&mut peers[0]), "the oldest made room");
    let options = PutOptions::new().idle_timeout(SECOND);
    pool.put_with(&3, connect(&mut peers), options).unwrap();
    assert!(has_ended(&mut peers[1]));
    clock.advance(SECOND);
    pool.maintain();
    assert!(has_ended(&mut peers[11]) && !has_ended(&mut peers[10]));
    pool.get(&2).unwrap().close();
    assert!(has_ended(&mut peers[10]));
    drop(pool);
    assert!(peers.iter_mut().all(has_ended));
    drop(peers);
    assert_eq!(open_descriptors(), before);
}

fn tcp_peers_see_the_end() {
    let before = open_descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = Pool::<u8, TcpStream>::new();
    let mut peers = Vec::new();
    for key in 0..4 {
        pool.put(&key, TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
        peers.push(listener.accept().unwrap().0);
    }
    let token = pool.get(&2).map(|lease| (lease.token(), lease.release())).unwrap().0;
    assert!(pool.evict(token));
    // Blocks for as long as the socket is open.
    assert_eq!(peers[2].read(&mut [0]).unwrap(), 0);
    peers[1].set_nonblocking(true).unwrap();
    assert!(!has_ended(&mut peers[1]));
    drop((pool, peers, listener));
    assert_eq!(open_descriptors(), before);
}
