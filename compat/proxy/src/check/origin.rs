//! Servers that answer with what they were asked, and count.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http1::{Head, grow_body};

/// What a server has seen.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections, ever.
    pub opened: AtomicUsize,
    /// Connections that are open.
    pub open: AtomicUsize,
    /// The most of them at a time.
    pub open_max: AtomicUsize,
    /// Requests that were answered.
    pub served: AtomicUsize,
    /// A connection is closed after it has served so many requests; 0 is never.
    pub uses_max: AtomicUsize,
}

impl Counts {
    pub fn opened(&self) -> usize {
        self.opened.load(Relaxed)
    }

    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub fn served(&self) -> usize {
        self.served.load(Relaxed)
    }
}

/// A connection that is counted while it is open.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.opened.fetch_add(1, Relaxed);
        let open = counts.open.fetch_add(1, Relaxed) + 1;
        counts.open_max.fetch_max(open, Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A server, for as long as the runtime lives.
#[derive(Debug)]
pub struct Origin {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
}

impl Origin {
    /// One that speaks HTTP/1.1, or HTTP/2 without TLS.
    pub async fn start(http2: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::<Counts>::default();
        let seen = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let open = Open::new(&seen);
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    let _ended = if http2 {
                        serve_h2(stream, &open.0).await
                    } else {
                        serve_h1(stream, &open.0).await
                    };
                    drop(open);
                });
            }
        });
        Ok(Self { address, counts })
    }
}

async fn serve_h1(mut stream: TcpStream, counts: &Counts) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4_096);
    let mut uses = 0;
    loop {
        let head = loop {
            if let Some(head) = Head::parse(&buffer)? {
                break head;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        while buffer.len() < head.len + head.body {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let body = answer(&head.path, &buffer[head.len..head.len + head.body]);
        buffer.drain(..head.len + head.body);
        let mut response =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        response.extend_from_slice(&body);
        counts.served.fetch_add(1, Relaxed);
        stream.write_all(&response).await?;
        uses += 1;
        if uses == counts.uses_max.load(Relaxed) {
            return Ok(());
        }
    }
}

async fn serve_h2(stream: TcpStream, counts: &Counts) -> io::Result<()> {
    let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.map_err(io::Error::other)?;
        counts.served.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let mut received = Vec::new();
            let mut body = request.into_body();
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
                received.extend_from_slice(&chunk);
            }
            let body = Bytes::from(answer(&path, &received));
            let response = http::Response::builder().header("content-length", body.len()).body(());
            let response = response.expect("a response");
            if let Ok(mut sender) = respond.send_response(response, false) {
                let _ = sender.send_data(body, true);
            }
        });
    }
    Ok(())
}

/// What is answered to a request: its path, the length of its body, and more of it for one
/// in a hundred.
pub fn answer(path: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("{path} {}\n", body.len()).into_bytes();
    if path.ends_with("00") {
        grow_body(&mut answer, 20_000);
    }
    answer
}
