//! The soak with real sockets: a pool that watches its connections, and servers that break
//! them.

mod server;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use slabpool::{Connection, Liveness, Pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::dice::Dice;
use crate::ledger::{Key, Ledger};
use crate::machine::{self, Limits};
use crate::{Plan, report};

const PEERS: u64 = 16;
const CAPACITY: usize = 64;
/// How long an answer may take; servers that stall take longer.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the system may take to forget a socket.
const FORGETTING: Duration = Duration::from_secs(20);

/// A socket, with an entry in the books.
struct Socket {
    stream: TcpStream,
    entry: crate::ledger::Connection,
    /// Answers that were read.
    answers: u64,
}

impl Connection for Socket {
    fn liveness(&mut self) -> Liveness {
        self.stream.liveness()
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.stream.poll_liveness(cx)
    }
}

type Sockets = Pool<u64, Socket>;

/// What the clients have in common.
struct World {
    pool: Sockets,
    peers: Vec<SocketAddr>,
    ledger: Arc<Ledger>,
    done: AtomicU64,
    /// Requests that got no answer, on a new connection and on one that was idle.
    failed_new: AtomicU64,
    failed_reused: AtomicU64,
}

pub(super) fn soak(plan: Plan) -> ExitCode {
    let ledger = Ledger::new(plan.threads);
    ledger.ceiling.store(CAPACITY as i64, Relaxed);
    let (done, stop) = (AtomicU64::new(plan.from), AtomicBool::new(false));
    // Each request may be under way, on either side, when somebody looks.
    let sockets = 2 * (CAPACITY + plan.threads) as u64 + 2 * PEERS + 64;
    let limits = Limits { descriptors_slack: sockets, ..plan.limits };
    let total = plan.ops.map(|ops| ops + plan.from);
    let seen = thread::scope(|scope| {
        let watching = scope.spawn(|| machine::watch(&ledger, limits, total, &done, &stop));
        let before = machine::descriptors();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("there is a runtime");
        let ended = runtime.block_on(work(plan, &ledger, &done));
        drop(runtime);
        stop.store(true, Relaxed);
        watching.thread().unpark();
        let seen = watching.join().expect("it only looks");
        ledger.check(ended.is_ok(), || format!("{ended:?}"));
        let after = machine::descriptors();
        // What all runtimes share stays open: a signal pipe, and the like.
        ledger.check(after <= before + 4, || format!("{after} descriptors, {before} before"));
        seen
    });
    println!("{} requests, {} connections", done.load(Relaxed) - plan.from, ledger.born());
    println!("{}", seen.line());
    report(&ledger, plan.seed, done.into_inner())
}

/// Servers, a pool, and clients at it until there is enough.
async fn work(plan: Plan, ledger: &Arc<Ledger>, done: &AtomicU64) -> io::Result<()> {
    let mut peers = Vec::new();
    let mut servers = tokio::task::JoinSet::new();
    for peer in 0..PEERS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        peers.push(listener.local_addr()?);
        servers.spawn(server::serve(listener, Dice::new(plan.seed, plan.from, peer | 1 << 32)));
    }
    let books = Arc::clone(ledger);
    let pool = Sockets::builder()
        .capacity(CAPACITY)
        .idle_timeout(Duration::from_secs(3))
        .learn_idle_timeout(true)
        .watch()
        .on_close(move |_, socket, _| {
            books.left();
            drop(socket);
        })
        .build()
        .expect("the settings are possible");
    let world = Arc::new(World {
        pool,
        peers,
        ledger: Arc::clone(ledger),
        done: AtomicU64::new(plan.from),
        failed_new: AtomicU64::new(0),
        failed_reused: AtomicU64::new(0),
    });
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..plan.threads as u64 {
        let dice = Dice::new(plan.seed, plan.from, client);
        clients.spawn(be_a_client(Arc::clone(&world), dice, client));
    }
    let start = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = world.done.load(Relaxed);
        done.store(now, Relaxed);
        let enough = plan.ops.is_some_and(|ops| now >= plan.from + ops)
            || plan.time.is_some_and(|time| start.elapsed() >= time);
        if enough || ledger.has_failed() {
            break;
        }
    }
    clients.shutdown().await;
    let stats = world.pool.stats();
    let drained = world.pool.drain(Duration::from_secs(5)).await;
    ledger.check(drained.is_complete(), || drained.to_string());
    ledger.check(ledger.live() == 0, || format!("{} connections are left", ledger.live()));
    let (new, reused) = (world.failed_new.load(Relaxed), world.failed_reused.load(Relaxed));
    println!("closes {:?}; without an answer: {new} new, {reused} reused", stats.closes);
    no_close_wait(&world.peers, ledger).await;
    servers.shutdown().await;
    Ok(())
}

/// One request after the other.
async fn be_a_client(world: Arc<World>, mut dice: Dice, number: u64) {
    for request in 0_u64.. {
        let peer = dice.zipf() % PEERS;
        // An idle one first, then a new one.
        let idle = world.pool.get_owned(&peer);
        let mut lease = match idle {
            Some(lease) => lease,
            None => match world.open(peer).await {
                Some(lease) => lease,
                None => continue,
            },
        };
        lease.entry.begin(Key(peer));
        let reused = lease.meta().reused;
        let asked = number << 40 | request << 8 | dice.below(256);
        let answer = timeout(PATIENCE, ask(&mut lease, asked)).await;
        lease.entry.end();
        world.done.fetch_add(1, Relaxed);
        match answer {
            Ok(Ok(answer)) => {
                world.ledger.check(answer == asked, || {
                    format!("{answer:#x} is the answer to {asked:#x}, after {}", lease.answers)
                });
                lease.answers += 1;
                lease.release();
            }
            // It stalls: nobody knows what is still to come.
            Err(_) => drop(lease),
            Ok(Err(_)) => {
                let failed = if reused { &world.failed_reused } else { &world.failed_new };
                failed.fetch_add(1, Relaxed);
                lease.close_dead();
            }
        }
        if dice.once_in(16) {
            tokio::time::sleep(Duration::from_millis(dice.below(8))).await;
        }
    }
}

impl World {
    async fn open(&self, peer: u64) -> Option<slabpool::PooledOwned<u64, Socket>> {
        let stream = TcpStream::connect(self.peers[peer as usize]).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let entry = self.ledger.connect(Key(peer), 0);
        let lease = self.pool.insert_owned(&peer, Socket { stream, entry, answers: 0 }).ok()?;
        self.ledger.entered();
        Some(lease)
    }
}

/// The answer is the request. What the server has sent for no request, when this one was
/// under way already, is none.
async fn ask(socket: &mut Socket, request: u64) -> io::Result<u64> {
    socket.stream.write_u64(request).await?;
    let answer = socket.stream.read_u64().await?;
    if answer.to_be_bytes() == server::GARBAGE[..8] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

/// No connection to these is left that the peer has closed, and we have not.
async fn no_close_wait(peers: &[SocketAddr], ledger: &Ledger) {
    let ports: HashSet<u16> = peers.iter().map(SocketAddr::port).collect();
    let start = Instant::now();
    let mut left = half_closed(&ports);
    // Servers have their turn to close what they still have.
    while left > 0 && start.elapsed() < FORGETTING {
        tokio::time::sleep(Duration::from_millis(50)).await;
        left = half_closed(&ports);
    }
    ledger.check(left == 0, || format!("{left} sockets are in CLOSE_WAIT"));
}

/// Sockets of our side in `CLOSE_WAIT` whose peer has one of these ports.
fn half_closed(ports: &HashSet<u16>) -> usize {
    const CLOSE_WAIT: &str = "08";
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let is_left = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = fields.get(2).and_then(|peer| peer.split_once(':'));
        let port = port.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        fields.get(3) == Some(&CLOSE_WAIT) && port.is_some_and(|port| ports.contains(&port))
    };
    table.lines().filter(is_left).count()
}
