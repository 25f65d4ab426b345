//! Clients that ask, and look at every answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http1::Head;
use crate::origin::answer;

/// How clients talk to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downstream {
    /// A connection for each client.
    Kept,
    /// A connection for each request.
    Each,
    /// HTTP/2 without TLS, a connection for 16 clients.
    H2,
}

/// What is asked, and by whom.
#[derive(Clone, Debug)]
pub struct Plan {
    pub proxy: SocketAddr,
    pub downstream: Downstream,
    pub clients: usize,
    pub requests: usize,
    /// The beginnings of the paths, which say where a request goes; by turns.
    pub routes: Vec<String>,
    /// Whether one request in ten has a body.
    pub bodies: bool,
}

/// What has come of it. May be looked at meanwhile.
#[derive(Debug, Default)]
pub struct Tally {
    next: AtomicUsize,
    pub right: AtomicUsize,
    /// Connections of the clients to the proxy.
    pub connections: AtomicUsize,
    stop: AtomicBool,
    faults: Mutex<Vec<String>>,
}

impl Tally {
    pub fn right(&self) -> usize {
        self.right.load(Relaxed)
    }

    /// What went wrong; the first of it.
    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// No more requests than those that are under way.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    fn fault(&self, fault: String) {
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < 20 {
            faults.push(fault);
        }
    }

    /// The number of the next request.
    fn next(&self, plan: &Plan) -> Option<usize> {
        if self.stop.load(Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        (number < plan.requests).then_some(number)
    }
}

/// A request: its path, and its body.
fn request(plan: &Plan, number: usize) -> (String, Vec<u8>) {
    let route = &plan.routes[number % plan.routes.len()];
    let body =
        if plan.bodies && number % 10 == 3 { vec![b'x'; 1 + number % 3_000] } else { Vec::new() };
    (format!("{route}/{number}"), body)
}

/// Asks all that is planned. Each client goes on after a fault.
pub async fn run(plan: &Plan, tally: &Arc<Tally>) {
    let mut clients = tokio::task::JoinSet::new();
    if plan.downstream == Downstream::H2 {
        for _ in 0..plan.clients.div_ceil(16) {
            clients.spawn(connection_h2(plan.clone(), Arc::clone(tally)));
        }
    } else {
        for _ in 0..plan.clients {
            clients.spawn(client_h1(plan.clone(), Arc::clone(tally)));
        }
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            tally.fault(format!("a client failed: {error}"));
        }
    }
}

async fn client_h1(plan: Plan, tally: Arc<Tally>) {
    let mut kept = None;
    while let Some(number) = tally.next(&plan) {
        let (path, body) = request(&plan, number);
        let expected = answer(&path, &body);
        match exchange(&plan, &tally, &mut kept, &path, &body).await {
            Ok(received) if received == expected => {
                tally.right.fetch_add(1, Relaxed);
            }
            Ok(received) => {
                let received = String::from_utf8_lossy(&received[..received.len().min(100)]);
                tally.fault(format!("{path}: {received}"));
                kept = None;
            }
            Err(error) => {
                tally.fault(format!("{path}: {error}"));
                kept = None;
            }
        }
    }
}

/// One request and its answer. The connection is kept if it may be.
async fn exchange(
    plan: &Plan,
    tally: &Tally,
    kept: &mut Option<TcpStream>,
    path: &str,
    body: &[u8],
) -> std::io::Result<Vec<u8>> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            tally.connections.fetch_add(1, Relaxed);
            let stream = TcpStream::connect(plan.proxy).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let close = if plan.downstream == Downstream::Each { "Connection: close\r\n" } else { "" };
    let head = if body.is_empty() {
        format!("GET {path} HTTP/1.1\r\nHost: loopback\r\n{close}\r\n")
    } else {
        let len = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: loopback\r\n{close}Content-Length: {len}\r\n\r\n")
    };
    let mut message = head.into_bytes();
    message.extend_from_slice(body);
    stream.write_all(&message).await?;
    let mut buffer = Vec::with_capacity(1_024);
    let head = loop {
        if let Some(head) = Head::parse(&buffer)? {
            break head;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    while buffer.len() < head.len + head.body {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    if head.path != "200" {
        return Err(std::io::Error::other(format!("status {}", head.path)));
    }
    if plan.downstream == Downstream::Kept && !head.close {
        *kept = Some(stream);
    }
    buffer.drain(..head.len);
    Ok(buffer)
}

/// A connection, and 16 clients on it.
async fn connection_h2(plan: Plan, tally: Arc<Tally>) {
    tally.connections.fetch_add(1, Relaxed);
    let connected = async {
        let stream = TcpStream::connect(plan.proxy).await?;
        stream.set_nodelay(true)?;
        h2::client::handshake(stream).await.map_err(std::io::Error::other)
    };
    let (sender, connection) = match connected.await {
        Ok(parts) => parts,
        Err(error) => return tally.fault(format!("no connection: {error}")),
    };
    let connection = tokio::spawn(connection);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (plan, tally, sender) = (plan.clone(), Arc::clone(&tally), sender.clone());
        clients.spawn(async move {
            while let Some(number) = tally.next(&plan) {
                let (path, body) = request(&plan, number);
                match exchange_h2(&sender, &path, &body).await {
                    Ok(received) if received == answer(&path, &body) => {
                        tally.right.fetch_add(1, Relaxed);
                    }
                    Ok(_) => tally.fault(format!("{path}: another answer")),
                    Err(error) => tally.fault(format!("{path}: {error}")),
                }
            }
        });
    }
    drop(sender);
    while clients.join_next().await.is_some() {}
    connection.abort();
}

async fn exchange_h2(
    sender: &h2::client::SendRequest<Bytes>,
    path: &str,
    body: &[u8],
) -> Result<Vec<u8>, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = http::Request::builder().method(method).uri(format!("http://loopback{path}"));
    let request = request.header("content-length", body.len()).body(()).expect("a request");
    let (response, mut upload) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        upload.send_data(Bytes::copy_from_slice(body), true)?;
    }
    let mut body = response.await?.into_body();
    let mut received = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
    }
    Ok(received)
}
