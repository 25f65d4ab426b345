//! A balancer, hosts that do as they are told, and what the balancer is asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::balancer::{Balancer, End, Host, Settings, serve};

/// Longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const GET: &str = "GET /it HTTP/1.1\r\nhost: any\r\n\r\n";
pub const POST: &str = "POST /it HTTP/1.1\r\nhost: any\r\ncontent-length: 4\r\n\r\nbody";
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A balancer that serves.
pub struct Setup {
    pub balancer: Arc<Balancer>,
    pub address: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub serving: JoinHandle<End>,
}

/// Nothing is over because the machine is busy, nobody is checked, and no host goes down.
pub fn patient() -> Settings {
    Settings {
        connect_timeout: PATIENCE,
        acquire_timeout: PATIENCE,
        down_after: 0,
        check_interval: 1_000 * PATIENCE,
        check_timeout: PATIENCE,
        ..Settings::default()
    }
}

impl Setup {
    pub async fn start(hosts: &[SocketAddr], settings: Settings) -> Self {
        let balancer = Balancer::new(hosts, settings).unwrap_or_else(|error| panic!("{error}"));
        let balancer = Arc::new(balancer);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { _ = stopped.await };
        let serving = tokio::spawn(serve(Arc::clone(&balancer), listener, stopped, PATIENCE));
        Self { balancer, address, stop, serving }
    }

    pub fn host(&self, index: usize) -> &Host {
        &self.balancer.hosts()[index]
    }

    /// Idle and leased connections to a host, and requests that wait for one.
    pub fn group(&self, index: usize) -> (usize, usize, usize) {
        let status = self.balancer.pool().group_status(&self.host(index).address);
        (status.idle, status.leased, status.waiting)
    }

    /// Requests that each host has to do with.
    pub fn loads(&self) -> Vec<usize> {
        self.balancer.hosts().iter().map(|host| host.load()).collect()
    }

    /// A count of all hosts together.
    pub fn sum(&self, of: fn(&Host) -> u64) -> u64 {
        self.balancer.hosts().iter().map(|host| of(host)).sum()
    }

    /// A request whose answer is not waited for yet.
    pub async fn send(&self, request: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    /// A request and its answer, on a connection of its own.
    pub async fn ask(&self, request: &str) -> String {
        read_message(&mut self.send(request).await).await
    }

    /// Ends the balancer; nobody is cut off, and nothing is left.
    pub async fn end(self) {
        drop(self.stop);
        let end = timeout(2 * PATIENCE, self.serving).await.expect("it does not end").unwrap();
        assert_eq!(end.cut_off, 0);
        assert!(end.drained.is_complete(), "{}", end.drained);
        let status = self.balancer.pool().status();
        let left = (status.idle, status.leased, status.connecting, status.waiting);
        assert_eq!(left, (0, 0, 0, 0), "{status:?}");
        assert!(self.balancer.hosts().iter().all(|host| host.load() == 0));
    }
}

/// A host that answers one request for each permit.
pub struct Gate {
    pub address: SocketAddr,
    pub permits: Arc<Semaphore>,
    received: Arc<AtomicUsize>,
}

impl Gate {
    pub async fn start() -> Self {
        let (listener, address) = listen().await;
        let (permits, received) = (Arc::new(Semaphore::new(0)), Arc::default());
        let gate = Self { address, permits, received };
        let (permits, received) = (Arc::clone(&gate.permits), Arc::clone(&gate.received));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (permits, received) = (Arc::clone(&permits), Arc::clone(&received));
                tokio::spawn(async move {
                    while try_read_message(&mut stream).await.is_some() {
                        received.fetch_add(1, Ordering::Relaxed);
                        permits.acquire().await.unwrap().forget();
                        if stream.write_all(OK.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        gate
    }

    /// Requests that have come.
    pub fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }
}

pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A head and its body, whose length it tells. Panics if it breaks off.
pub async fn read_message(stream: &mut TcpStream) -> String {
    let read = timeout(PATIENCE, try_read_message(stream)).await.expect("nothing comes");
    read.expect("it broke off")
}

/// As [`read_message`]; `None` if the connection ends before.
pub async fn try_read_message(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lengths = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
            if body.len() == lengths.map(|length| length.parse::<usize>().unwrap()).sum::<usize>() {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
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
