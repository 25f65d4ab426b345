//! A contender's process: it fills its pool, and then does what it is told, while its
//! runtime runs on.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::yield_now;

use crate::contenders::{Contender, Pingora, Slab, Use};
use crate::far::Far;
use crate::heap;
use crate::probes::{self, CLOSES};
use crate::wires::{Blow, Lines, Peer};

/// Says to this program that it is a contender.
pub const ARGUMENT: &str = "--contender";

/// The contenders, by name.
pub const SLABPOOL: &str = "slabpool";
pub const UNWATCHED: &str = "slabpool, not watched";
pub const PINGORA: &str = "pingora-pool";

/// The kinds of connection, by name.
pub const TCP: &str = "TCP";
pub const MEMORY: &str = "in memory";

/// The most cycles between two yields. A runtime polls no more than 61 tasks between
/// two looks at its driver: so all that a cycle has left to do is done at the next
/// yield.
const CYCLES_PER_YIELD: usize = 32;

/// Room in a pool beyond what it is filled with, so that nothing is evicted.
const SPARE: usize = 1_000;

/// `--contender NAME KIND CONNECTIONS KEYS`
pub fn main(arguments: &[String]) {
    probes::raise_descriptors();
    CLOSES.guard();
    let [name, kind, connections, keys] = arguments else { panic!("four arguments") };
    let connections = connections.parse().expect("a number");
    let keys = keys.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(async {
        match kind.as_str() {
            TCP => choose(name, Far::new(connections), connections, keys).await,
            MEMORY => choose(name, Lines::default(), connections, keys).await,
            kind => panic!("there are no connections that are {kind}"),
        }
    });
}

async fn choose<P: Peer>(name: &str, peer: P, connections: usize, keys: usize) {
    let capacity = connections + SPARE;
    let make = || Slab::new(capacity, name == SLABPOOL);
    match name {
        SLABPOOL | UNWATCHED => contest(make, peer, connections, keys).await,
        PINGORA => contest(|| Pingora::new(capacity), peer, connections, keys).await,
        name => panic!("there is no contender {name}"),
    }
}

/// Commands are lines of the standard input, each of which is answered by one.
async fn contest<P: Peer, C: Contender<P::Wire>>(
    make: impl FnOnce() -> C,
    mut peer: P,
    connections: usize,
    keys: usize,
) {
    // First of all, so that this process ends when it should.
    let mut commands = commands();
    let mut wires = Vec::with_capacity(connections);
    wires.extend((0..connections).map(|number| peer.open(number)));
    heap::start();
    let cpu = probes::cpu();
    let pool = make();
    for (number, wire) in wires.into_iter().enumerate() {
        pool.put(key(number, keys), wire);
        if number % CYCLES_PER_YIELD == 0 {
            yield_now().await;
        }
    }
    settle().await;
    // What held the connections before has gone: what is left is beyond them.
    println!("{} {}", heap::stop(), probes::cpu() - cpu);

    let mut contest = Contest { pool, peer, connections, keys, turn: 0 };
    while let Some(line) = commands.recv().await {
        let (word, number) = line.split_once(' ').expect("two words");
        let number: u64 = number.parse().expect("a number");
        let answer = match word {
            "cycle" => contest.cycles(Duration::from_nanos(number), Use::Nothing).await,
            "read" => contest.cycles(Duration::from_nanos(number), Use::Read).await,
            "close" => contest.blows(number as usize, Blow::Close).await,
            "send" => contest.blows(number as usize, Blow::Send).await,
            "idle" => idle(Duration::from_nanos(number)).await,
            "all" => contest.close_all().await,
            word => panic!("{word} is no command"),
        };
        let answer: Vec<String> = answer.iter().map(f64::to_string).collect();
        println!("{}", answer.join(" "));
    }
}

/// The lines of the standard input. The end of it is the end of this process.
fn commands() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        // The contender may be busy, or wait for something that does not come.
        std::process::exit(0);
    });
    receiver
}

/// Lets the runtime do what there is to do after a few puts.
async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

/// The key of a connection, spread like the hashes that pingora-pool is given.
fn key(number: usize, keys: usize) -> u64 {
    ((number % keys) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Processor time used while nothing happens, as a part of the time.
async fn idle(span: Duration) -> Vec<f64> {
    let (start, cpu) = (probes::now(), probes::cpu());
    tokio::time::sleep(span).await;
    vec![(probes::cpu() - cpu) as f64 / (probes::now() - start) as f64]
}

struct Contest<P, C> {
    pool: C,
    peer: P,
    connections: usize,
    keys: usize,
    /// Goes on from one turn to the next, so that all connections have theirs.
    turn: usize,
}

impl<P: Peer, C: Contender<P::Wire>> Contest<P, C> {
    /// Processor time and wall time of a cycle, without that of the yields.
    async fn cycles(&mut self, span: Duration, usage: Use) -> Vec<f64> {
        let count = CYCLES_PER_YIELD.min(self.keys);
        let span = span.as_nanos() as u64;
        let (start, cpu) = (probes::now(), probes::cpu());
        let mut yields = 0;
        loop {
            for _ in 0..count {
                let key = self.next_key();
                self.pool.cycle(key, usage).await;
            }
            yield_now().await;
            yields += 1;
            if probes::now() - start >= span {
                break;
            }
        }
        let (wall, cpu) = (probes::now() - start, probes::cpu() - cpu);

        let (start, idle_cpu) = (probes::now(), probes::cpu());
        for _ in 0..yields {
            yield_now().await;
            let _ = std::hint::black_box(probes::now());
        }
        let (idle_wall, idle_cpu) = (probes::now() - start, probes::cpu() - idle_cpu);
        let cycles = (yields * count) as f64;
        let net = |all: u64, idle: u64| (all as f64 - idle as f64) / cycles;
        vec![net(cpu, idle_cpu), net(wall, idle_wall)]
    }

    /// One key after the other, in another order than that in which they were put.
    fn next_key(&mut self) -> u64 {
        /// A prime that divides no number of keys in use.
        const STRIDE: usize = 389;
        self.turn = (self.turn + STRIDE) % self.keys;
        key(self.turn, self.keys)
    }

    /// How long each of some connections took to be closed after its peer did
    /// something. Each is opened again.
    async fn blows(&mut self, count: usize, blow: Blow) -> Vec<f64> {
        /// As above.
        const STRIDE: usize = 7_919;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            self.turn = (self.turn + STRIDE) % self.connections;
            let number = self.turn;
            CLOSES.expect(1);
            self.peer.strike(number, blow);
            let closed_at = CLOSES.reached().await;
            let struck_at = self.peer.struck_at();
            times.push(closed_at.saturating_sub(struck_at) as f64);
            self.pool.put(key(number, self.keys), self.peer.open(number));
            settle().await;
        }
        times
    }

    /// Wall time, and processor time of this process, until all connections were
    /// closed, after the peer began to close them.
    async fn close_all(&mut self) -> Vec<f64> {
        let cpu = probes::cpu();
        CLOSES.expect(self.connections);
        self.peer.close_all();
        let closed_at = CLOSES.reached().await;
        let cpu = probes::cpu() - cpu;
        let wall = closed_at.saturating_sub(self.peer.struck_at());
        assert!((0..self.keys).all(|n| self.pool.is_empty(key(n, self.keys))), "all are gone");
        vec![wall as f64, cpu as f64]
    }
}
