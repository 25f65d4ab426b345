//! The other ends of TCP connections, in a process of their own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::probes;
use crate::wires::{Blow, Peer, Socket};

/// Says to this program that it is the far end.
pub const ARGUMENT: &str = "--far";

/// Addresses to connect to, so that the local ports of one suffice.
const LISTENERS: usize = 8;

/// Connections that are opened before the far end must have accepted them: no more than
/// can wait for it.
const AHEAD: usize = 64;

/// Sockets by their number, and how many were ever accepted.
#[derive(Default)]
struct Accepted {
    count: usize,
    streams: Vec<Option<TcpStream>>,
}

impl Accepted {
    fn stream(&mut self, number: usize) -> TcpStream {
        self.streams[number].take().expect("it is open")
    }
}

#[derive(Default)]
struct Door {
    accepted: Mutex<Accepted>,
    changed: Condvar,
}

/// Accepts connections, and does to them what the standard input says. Each line of it
/// has its answer: a time, or a number.
pub fn main() {
    probes::raise_descriptors();
    let door = Arc::new(Door::default());
    let ports: Vec<String> = (0..LISTENERS).map(|_| listen(&door).to_string()).collect();
    println!("{}", ports.join(" "));
    for line in io::stdin().lines() {
        let line = line.expect("the input is readable");
        let (word, number) = line.split_once(' ').expect("two words");
        let number: usize = number.parse().expect("a number");
        let answer = match word {
            "count" => {
                let accepted = door.accepted.lock().expect("no panic");
                let waiting = |accepted: &mut Accepted| accepted.count < number;
                drop(door.changed.wait_while(accepted, waiting).expect("no panic"));
                number as u64
            }
            "close" => {
                let stream = door.accepted.lock().expect("no panic").stream(number);
                let now = probes::now();
                drop(stream);
                now
            }
            "send" => {
                let mut stream = door.accepted.lock().expect("no panic").stream(number);
                let now = probes::now();
                stream.write_all(&[0]).expect("the connection is open");
                door.accepted.lock().expect("no panic").streams[number] = Some(stream);
                now
            }
            "all" => {
                let streams = std::mem::take(&mut door.accepted.lock().expect("no panic").streams);
                let now = probes::now();
                drop(streams);
                now
            }
            word => panic!("{word} is no command"),
        };
        println!("{answer}");
    }
}

/// Accepts connections on a port, each of which begins with its number.
fn listen(door: &Arc<Door>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    let door = Arc::clone(door);
    thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().expect("there are descriptors");
            let mut number = [0; 4];
            stream.read_exact(&mut number).expect("its number comes first");
            let number = u32::from_le_bytes(number) as usize;
            let mut accepted = door.accepted.lock().expect("no panic");
            if accepted.streams.len() <= number {
                accepted.streams.resize_with(number + 1, || None);
            }
            accepted.streams[number] = Some(stream);
            accepted.count += 1;
            door.changed.notify_one();
        }
    });
    port
}

/// The process that has the other ends.
pub struct Far {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    ports: Vec<u16>,
    opened: usize,
    /// How many connections are opened at first, all at once.
    bulk: usize,
}

impl Far {
    pub fn new(bulk: usize) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("processes can be started");
        let commands = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut far = Self { child, commands, answers, ports: Vec::new(), opened: 0, bulk };
        let ports = far.answer();
        far.ports = ports.split(' ').map(|port| port.parse().expect("a port")).collect();
        far
    }

    fn tell(&mut self, word: &str, number: usize) {
        // In one piece, and so by one system call.
        let line = format!("{word} {number}\n");
        self.commands.write_all(line.as_bytes()).expect("the far end runs");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the far end runs");
        line.trim_end().to_owned()
    }
}

impl Peer for Far {
    type Wire = Socket;

    fn open(&mut self, number: usize) -> Socket {
        let port = self.ports[number % self.ports.len()];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect(address).expect("there are ports and descriptors");
        stream.write_all(&(number as u32).to_le_bytes()).expect("it is open");
        stream.set_nonblocking(true).expect("it is a socket");
        self.opened += 1;
        if self.opened >= self.bulk || self.opened.is_multiple_of(AHEAD) {
            self.tell("count", self.opened);
            self.answer();
        }
        let stream = tokio::net::TcpStream::from_std(stream).expect("there is a runtime");
        Socket::new(number, stream)
    }

    fn strike(&mut self, number: usize, blow: Blow) {
        let word = match blow {
            Blow::Close => "close",
            Blow::Send => "send",
        };
        self.tell(word, number);
    }

    fn struck_at(&mut self) -> u64 {
        self.answer().parse().expect("a time")
    }

    fn close_all(&mut self) {
        self.tell("all", 0);
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
