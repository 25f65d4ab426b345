//! What the pool is to the process: no thread, no descriptor that it keeps, nothing
//! that a fork breaks.
//!
//! One test, since threads and descriptors are counted for the whole process.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use slabpool::{Clock, Pool, PutOptions};

const SECOND: Duration = Duration::from_secs(1);

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_pool_is_a_guest_in_its_process() {
    a_pool_starts_no_thread();
    descriptors_are_closed_at_once();
    tcp_peers_see_the_end_at_once();
    a_pool_lives_on_in_a_fork();
}

fn a_pool_starts_no_thread() {
    let before = entries("/proc/self/task");
    let pool = Pool::<u8, u8>::new();
    for key in 0..100 {
        pool.put(&key, key).unwrap();
        pool.get(&key).unwrap().release();
    }
    pool.maintain();
    assert_eq!(entries("/proc/self/task"), before);
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

fn descriptors_are_closed_at_once() {
    let before = entries("/proc/self/fd");
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
    assert_eq!(entries("/proc/self/fd"), before + 16);
    // In the middle, so that what is left of it lies there for a while.
    assert!(pool.evict(tokens[4]));
    assert!(has_ended(&mut peers[4]) && !has_ended(&mut peers[2]) && !has_ended(&mut peers[6]));
    assert_eq!(entries("/proc/self/fd"), before + 15);
    drop(pool.take(tokens[3]));
    pool.put(&2, connect(&mut peers)).unwrap();
    pool.put(&2, connect(&mut peers)).unwrap();
    assert!(!has_ended(&mut peers[0]), "there was room for two");
    pool.put(&2, connect(&mut peers)).unwrap();
    assert!(has_ended(&mut peers[0]), "the oldest made room");
    let options = PutOptions { idle_timeout: Some(SECOND) };
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
    assert_eq!(entries("/proc/self/fd"), before);
}

fn tcp_peers_see_the_end_at_once() {
    let before = entries("/proc/self/fd");
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
    assert_eq!(entries("/proc/self/fd"), before);
}

fn a_pool_lives_on_in_a_fork() {
    let pool = Pool::<u8, u8>::builder().capacity(2).build().unwrap();
    pool.put(&1, 1).unwrap();
    // SAFETY: the child uses the pool, and ends without unwinding or returning.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let works = || {
            pool.get(&1)?.release();
            pool.put(&2, 2).ok()?;
            pool.put(&3, 3).ok()?;
            pool.maintain();
            pool.clear();
            (pool.status().idle == 0).then_some(())
        };
        let code = i32::from(works().is_none());
        // SAFETY: ends the child, and runs nothing else.
        unsafe { libc::_exit(code) };
    }
    let mut status = -1;
    // SAFETY: our child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 0));
    assert_eq!(*pool.get(&1).unwrap(), 1, "the parent's pool is its own");
}
