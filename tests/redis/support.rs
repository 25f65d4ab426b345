//! A proxy, and what it is asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use redis_protocol::resp2::types::OwnedFrame;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::proxy::{End, Proxy, Settings, serve};
use crate::redis::Server;

/// Longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy that serves.
pub struct Setup {
    pub proxy: Arc<Proxy>,
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<End>,
}

/// A real server, and a proxy for it.
pub async fn real(max_connections: usize) -> (Server, Setup) {
    let server = Server::start().await.unwrap_or_else(|error| panic!("{error}"));
    let settings = Settings { max_connections, ..patient(server.address) };
    let setup = Setup::start(settings).await;
    (server, setup)
}

/// Nothing is over because the machine is busy.
pub fn patient(redis: SocketAddr) -> Settings {
    Settings {
        connect_timeout: PATIENCE,
        acquire_timeout: PATIENCE,
        answer_timeout: PATIENCE,
        hold_timeout: PATIENCE,
        ping_timeout: PATIENCE,
        ..Settings::new(redis)
    }
}

impl Setup {
    pub async fn start(settings: Settings) -> Self {
        let proxy = Arc::new(Proxy::new(settings).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { _ = stopped.await };
        let serving = tokio::spawn(serve(Arc::clone(&proxy), listener, stopped, PATIENCE));
        Self { proxy, address, stop, serving }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    /// Ends the proxy; nobody is cut off, and nothing is left in the pool.
    pub async fn end(self) {
        let end = self.begin_to_end().await.unwrap();
        assert_eq!(end.0.cut_off, 0);
        assert!(end.0.drained.is_complete(), "{}", end.0.drained);
        // A connect that nobody waited for any more comes to its own end.
        eventually(|| end.1.pool().status().connecting == 0).await;
        let status = end.1.pool().status();
        let left = (status.idle, status.leased, status.connecting, status.waiting, status.groups);
        assert_eq!(left, (0, 0, 0, 0, 0), "{status:?}");
    }

    /// Tells the proxy to end, and does not wait for it.
    pub fn begin_to_end(self) -> JoinHandle<(End, Arc<Proxy>)> {
        drop(self.stop);
        tokio::spawn(async move {
            let end = timeout(2 * PATIENCE, self.serving).await.expect("it does not end");
            (end.unwrap(), self.proxy)
        })
    }

    pub fn connects(&self) -> u64 {
        self.proxy.tally().connects.get()
    }

    /// Idle and leased connections, those being opened, and clients that wait.
    pub fn group(&self) -> (usize, usize, usize, usize) {
        let status = self.proxy.pool().status();
        (status.idle, status.leased, status.connecting, status.waiting)
    }
}

pub async fn eventually(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it never came true");
}

/// The text of an error of the proxy; else panics.
#[track_caller]
pub fn refusal(answer: &OwnedFrame) -> &str {
    match answer {
        OwnedFrame::Error(text) if text.starts_with("PROXY ") => text,
        other => panic!("{other:?} is no error of the proxy"),
    }
}

/// A number from the server's `INFO`.
pub async fn info(server: &mut Client, section: &str, name: &str) -> u64 {
    let OwnedFrame::BulkString(text) = server.ask(&["INFO", section]).await.unwrap() else {
        panic!("no text");
    };
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// Waits until the server says so.
pub async fn until_info(server: &mut Client, section: &str, name: &str, value: u64) {
    let waiting = async {
        while info(server, section, name).await != value {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{name} never was {value}"));
}
