//! Thousands of idle connections in one process, what becomes of them, and how to read
//! that from the statistics of the pool.
//!
//! ```text
//! cargo run --release --example idle
//! ```
//!
//! Of two thousand peers some hang up and some send what nobody asked for while their
//! connections are idle. Each gets a request now and then, first with a pool whose idle
//! timeout is too short, then with a capacity that is too small, then with limits that fit.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use slabpool::{CloseReason, Pool, Stats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PEERS: usize = 2_000;
/// Between two requests to a peer.
const PAUSE: Duration = Duration::from_millis(800);

type Connections = Pool<usize, TcpStream>;

/// What a peer does with a connection that was idle for [`PATIENCE`]. It is told so by the
/// request.
const STEADY: u8 = 0;
const CLOSING: u8 = 1;
const CHATTY: u8 = 2;
const PATIENCE: Duration = Duration::from_millis(250);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // By default a pool takes a fifth of the descriptors that this process may have.
    let peers = PEERS.min(Connections::new().status().capacity * 5 / 3);
    for (name, idle_timeout, capacity) in [
        ("an idle timeout that is too short", Duration::from_millis(500), peers),
        ("a capacity that is too small", Duration::from_secs(30), peers / 2),
        ("limits that fit", Duration::from_secs(30), peers),
    ] {
        println!("{name}: idle_timeout {idle_timeout:?}, capacity {capacity}");
        report(&act(peers, PAUSE, idle_timeout, capacity).await?);
    }
    Ok(())
}

/// Three rounds of requests to all peers. What the pool has counted when it is over.
pub async fn act(
    peers: usize,
    pause: Duration,
    idle_timeout: Duration,
    capacity: usize,
) -> Result<Stats, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server = listener.local_addr()?;
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let pool =
        Connections::builder().idle_timeout(idle_timeout).capacity(capacity).watch().build()?;
    for round in 0..3 {
        if round > 0 {
            sleep(pause).await;
        }
        for peer in 0..peers {
            request(&pool, server, peer).await?;
        }
    }
    println!("  {}", pool.drain(Duration::from_secs(5)).await);
    accepting.abort();
    Ok(pool.stats())
}

/// A request to a peer: on an idle connection if there is one, else on a new one.
async fn request(pool: &Connections, server: SocketAddr, peer: usize) -> io::Result<()> {
    if let Some(mut connection) = pool.get(&peer) {
        if ask(&mut connection, peer).await.is_ok() {
            connection.release();
            return Ok(());
        }
        // The peer has hung up while the request was on its way.
        connection.close_dead();
    }
    match pool.insert(&peer, TcpStream::connect(server).await?) {
        Ok(mut connection) => {
            ask(&mut connection, peer).await?;
            connection.release();
        }
        Err(rejected) => ask(&mut rejected.into_inner(), peer).await?,
    }
    Ok(())
}

async fn ask(connection: &mut TcpStream, peer: usize) -> io::Result<()> {
    let habit = match peer % 10 {
        0 | 5 => CLOSING,
        1 => CHATTY,
        _ => STEADY,
    };
    connection.write_u8(habit).await?;
    let answer = connection.read_u8().await?;
    if answer == habit { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// One connection of a peer.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut habit = STEADY;
    loop {
        match (timeout(PATIENCE, stream.read_u8()).await, habit) {
            (Ok(request), _) => {
                habit = request?;
                stream.write_u8(habit).await?;
            }
            (Err(_), CLOSING) => return Ok(()),
            (Err(_), CHATTY) => stream.write_all(b"By the way").await?,
            (Err(_), _) => {}
        }
    }
}

/// What an operator looks at: how often a connection was reused, why it was not, and which
/// rule is to blame.
fn report(stats: &Stats) {
    println!("  reused   {:.0} % of {} gets", stats.reuse_ratio() * 100.0, stats.gets());
    println!("  misses   {}", list(stats.misses.iter()));
    println!("  closes   {}", list(stats.closes.iter()));
    println!("  ghosts   {}", stats.ghosts);
    let worst = stats.closes.iter().map(|(rule, _)| rule).max_by_key(|&rule| stats.ghosts.of(rule));
    let advice = match worst.filter(|&rule| stats.ghosts.of(rule) > 0) {
        Some(CloseReason::Idle) => "raise idle_timeout, if the peers keep connections longer",
        Some(CloseReason::Evicted) => "raise capacity",
        Some(CloseReason::Dead) => "peers hang up sooner than the pool: no limit to raise",
        Some(CloseReason::UnexpectedData) => "peers send what nobody asked for: no limit to raise",
        _ => "nothing",
    };
    println!("  to do    {advice}\n");
}

fn list(counts: impl Iterator<Item = (impl Display, u64)>) -> String {
    let some = counts.filter(|&(_, count)| count > 0);
    some.map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}
