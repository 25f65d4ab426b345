//! The first program with `slabpool::managed`: many clients, few connections.
//!
//! ```text
//! cargo run --release --example tcp_echo
//! ```
//!
//! An echo server, and clients that each send it some lines. All of them share one pool: it
//! opens connections when they are needed, no more than it may, and who finds none waits for
//! the next one that somebody releases.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use slabpool::managed::{Pool, Stats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stats = run(64, 100, 8).await?;
    let (connections, requests) = (stats.connects.opened, stats.gets());
    println!("{connections} connections served {requests} requests");
    println!("{} found one idle, {} had to wait", stats.hits, stats.served);
    Ok(())
}

/// So many clients send so many lines each, on no more than so many connections.
pub async fn run(
    clients: usize,
    lines: usize,
    connections: usize,
) -> Result<Stats, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server = listener.local_addr()?;
    let serving = tokio::spawn(serve(listener));

    // A pool is told how to connect. It watches what is idle: a connection that the server
    // closes is closed here at once.
    let pool = Pool::builder(|&address: &SocketAddr| TcpStream::connect(address))
        .max_connections_per_group(connections)
        .settings(|pool| pool.watch())
        .build()?;

    let mut running = JoinSet::new();
    for client in 0..clients {
        let pool = pool.clone();
        running.spawn(async move {
            for line in 0..lines {
                let mut connection = pool.acquire(&server).await.map_err(io::Error::other)?;
                // An error ends the lease here, and that closes the connection.
                exchange(&mut connection, &format!("client {client}, line {line}\n")).await?;
                // All was read: the next one may have it.
                connection.release();
            }
            io::Result::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let drained = pool.drain(Duration::from_secs(5)).await;
    assert!(drained.is_complete(), "{drained}");
    serving.abort();
    Ok(pool.stats())
}

/// Sends a line, and reads it back.
async fn exchange(connection: &mut TcpStream, line: &str) -> io::Result<()> {
    connection.write_all(line.as_bytes()).await?;
    let mut answer = vec![0; line.len()];
    connection.read_exact(&mut answer).await?;
    if answer == line.as_bytes() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Sends back what comes, on each connection until it ends.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await
        });
    }
}
