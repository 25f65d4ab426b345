//! A peer in a process of its own, so that each side has descriptors of its own: this
//! test's executable, started again with one test to run.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const ROLE: &str = "SLABPOOL_TEST_PEER";
const READY: &str = "peer listens at ";

/// Ports that it listens at. With one alone, thousands of connections leave few local ports
/// that are free, and each connect looks for long for one.
const PORTS: usize = 8;
/// Connections that may wait to be accepted at each. If they are too many, the next one
/// tries again after a second.
const BACKLOG: i32 = 4_096;

/// Accepts connections and holds them.
pub struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub addresses: Vec<SocketAddr>,
}

impl Peer {
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer::be_a_peer", "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut addresses = Vec::new();
        while addresses.len() < PORTS {
            let line = read_line(&mut answers);
            // The harness may have begun the line.
            if let Some((_, address)) = line.split_once(READY) {
                addresses.push(address.trim().parse().unwrap());
            }
        }
        Self { child, orders, answers, addresses }
    }

    /// How many connections it holds.
    pub fn count(&mut self) -> usize {
        writeln!(self.orders, "count").unwrap();
        read_line(&mut self.answers).trim().parse().unwrap()
    }

    /// Closes all connections.
    pub fn close_all(&mut self) {
        writeln!(self.orders, "close").unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert_ne!(from.read_line(&mut line).unwrap(), 0, "the peer has gone");
    line
}

/// Raises the limit of descriptors as far as it goes, and returns it.
pub fn raise_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.map_or(usize::MAX, |maximum| maximum as usize)
}

/// Not a test, but what [`Peer::start`] starts.
#[test]
fn be_a_peer() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    raise_limit();
    let held = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..PORTS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, BACKLOG).unwrap();
        println!("{READY}{}", listener.local_addr().unwrap());
        let accepted = Arc::clone(&held);
        thread::spawn(move || {
            for connection in listener.incoming() {
                accepted.lock().unwrap().push(connection.unwrap());
            }
        });
    }
    for order in std::io::stdin().lines() {
        match order.unwrap().as_str() {
            "count" => println!("{}", held.lock().unwrap().len()),
            "close" => drop(std::mem::take(&mut *held.lock().unwrap())),
            other => panic!("no such order: {other}"),
        }
    }
}
