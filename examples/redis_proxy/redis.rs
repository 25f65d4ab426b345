//! A `redis-server` of our own, on loopback, which leaves nothing behind.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis_protocol::resp2::types::OwnedFrame;
use tokio::net::TcpSocket;
use tokio::time::sleep;

use crate::client::Client;

/// How often a port is tried: somebody else may take it first.
const STARTS_MAX: usize = 10;

/// How often a server that has started is asked whether it answers.
const LOOKS_MAX: usize = 1_000;

const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A server that keeps its data in memory. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    child: Option<Child>,
    /// Bound, and never listening: nobody else gets the port while the server is down.
    _port: TcpSocket,
    /// Where its log is.
    directory: PathBuf,
}

impl Server {
    /// Starts one on a free port, and waits until it answers.
    ///
    /// # Errors
    ///
    /// If there is no `redis-server`, says how to get it; if it does not start, what is in
    /// its log.
    pub async fn start() -> Result<Self, Box<dyn Error>> {
        let port = reserve()?;
        let address = port.local_addr()?;
        let name = format!("slabpool-redis-{}-{}", std::process::id(), address.port());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        let mut server = Self { address, child: None, _port: port, directory };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts it where it was, with nothing in it.
    ///
    /// # Errors
    ///
    /// As [`start`](Server::start).
    pub async fn start_again(&mut self) -> Result<(), Box<dyn Error>> {
        self.stop();
        for _ in 0..STARTS_MAX {
            self.child = Some(self.spawn()?);
            if self.has_come_up().await? {
                return Ok(());
            }
            // Another process may have asked for this port.
            sleep(10 * LOOK_PAUSE).await;
        }
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        Err(format!("redis-server did not start on {}:\n{log}", self.address).into())
    }

    fn spawn(&self) -> Result<Child, Box<dyn Error>> {
        let spawned = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", "log"])
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no redis-server here; on Debian: apt-get install redis-server".into()
            }
            _ => error.into(),
        })
    }

    /// Waits until it answers, or has ended.
    async fn has_come_up(&mut self) -> io::Result<bool> {
        for _ in 0..LOOKS_MAX {
            if let Some(child) = &mut self.child
                && child.try_wait()?.is_some()
            {
                self.child = None;
                return Ok(false);
            }
            if self.answers().await.unwrap_or(false) {
                return Ok(true);
            }
            sleep(LOOK_PAUSE).await;
        }
        Ok(false)
    }

    /// Whether it is this one that answers, and nobody else's who had the port first.
    async fn answers(&self) -> io::Result<bool> {
        let answer = Client::connect(self.address).await?.ask(&["INFO", "server"]).await?;
        let id = self.child.as_ref().map(|child| format!("process_id:{}\r\n", child.id()));
        let OwnedFrame::BulkString(text) = answer else { return Ok(false) };
        Ok(id.is_some_and(|id| String::from_utf8_lossy(&text).contains(&id)))
    }

    /// Kills it, without a word to anybody.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it has ended.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// A port of loopback that nobody gets by chance, and where nobody listens, for as long as
/// the socket is there. Who asks for it by its number may listen.
pub fn reserve() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        _ = fs::remove_dir_all(&self.directory);
    }
}
