//! The server, which knows what it has sent, and for whom.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arbitrary::Arbitrary;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

#[derive(Arbitrary, Clone, Debug)]
pub enum Act {
    /// Waits for a request.
    Await,
    /// An answer as it should be, to the next request, or to the one that has come.
    Answer(Well),
    /// Any bytes.
    Raw(Vec<u8>),
    /// Of HTTP/2: a frame of any kind.
    Frame { kind: u8, flags: u8, stream: u8, payload: Vec<u8> },
    /// Milliseconds.
    Pause(u16),
    /// Sends no more.
    Eof,
    /// Nothing more, and the client is told so.
    Rst,
}

#[derive(Arbitrary, Clone, Debug)]
pub struct Well {
    length: u8,
    chunked: bool,
    /// Of the connection: HTTP/1.0, and nothing about keeping it; or `connection: close`.
    old: bool,
    close: bool,
    keep_alive: Option<u8>,
    /// What comes behind it, in the same write.
    extra: Vec<u8>,
}

/// More does not fit into one read for certain.
const WRITE_MAX: usize = 2_048;
const PREFACE: usize = 24;
/// Milliseconds. All pauses of a connection are over when the client is at rest.
const PAUSE_MAX: u64 = 4_096;

/// What was sent for a request.
#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Nothing,
    Well { length: u8 },
    Anything,
}

/// One request, as it has come to one connection.
#[derive(Debug)]
struct Asked {
    connection: usize,
    ask: u32,
    sent: Sent,
}

#[derive(Debug, Default)]
struct Pages {
    asked: Vec<Asked>,
    /// Of each connection: whether anything was sent that may be taken for the next answer.
    tainted: Vec<bool>,
    open: usize,
    usable: usize,
    faults: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    /// Connections whose client has not closed them.
    pub fn open(&self) -> usize {
        self.pages().open
    }

    /// Of those, the ones that the server has not ended.
    pub fn usable(&self) -> usize {
        self.pages().usable
    }

    pub fn check(&self) {
        let faults = &self.pages().faults;
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Whether this may be the answer to that request.
    pub fn explains(&self, ask: u32, whose: Option<u32>, body: &[u8]) -> bool {
        let pages = self.pages();
        pages.asked.iter().filter(|it| it.ask == ask).any(|it| {
            pages.tainted[it.connection]
                || match it.sent {
                    Sent::Nothing => false,
                    Sent::Well { length } => whose == Some(ask) && *body == text(ask, length),
                    Sent::Anything => true,
                }
        })
    }
}

/// The body of an answer.
fn text(ask: u32, length: u8) -> Vec<u8> {
    vec![b'a' + (ask % 26) as u8; length.into()]
}

pub async fn serve(listener: TcpListener, scripts: Vec<Vec<Act>>, http2: bool, book: Arc<Book>) {
    for number in 0_usize.. {
        let Ok((socket, _)) = listener.accept().await else { return };
        let acts = number.checked_rem(scripts.len()).map_or(Vec::new(), |at| scripts[at].clone());
        let mut pages = book.pages();
        pages.tainted.push(false);
        pages.open += 1;
        pages.usable += 1;
        drop(pages);
        let _ = rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        let connection = Connection {
            number,
            socket,
            http2,
            book: Arc::clone(&book),
            came: Vec::new(),
            current: None,
            greeted: false,
            spoilt: false,
            usable: true,
        };
        tokio::spawn(connection.play(acts));
    }
}

/// The request that has come last, and how often something was written since.
struct Current {
    /// In the book.
    at: usize,
    ask: u32,
    writes: usize,
    stream: u32,
}

struct Connection {
    number: usize,
    socket: TcpStream,
    http2: bool,
    book: Arc<Book>,
    /// What has come and was not looked at.
    came: Vec<u8>,
    current: Option<Current>,
    /// Of HTTP/2: whether settings were sent.
    greeted: bool,
    /// It must not be used again.
    spoilt: bool,
    usable: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
        self.book.pages().open -= 1;
    }
}

impl Connection {
    async fn play(mut self, acts: Vec<Act>) {
        for act in acts {
            let goes_on = match act {
                Act::Await => self.request().await,
                Act::Answer(well) => self.answer(well).await,
                Act::Raw(bytes) => self.write(bytes, Sent::Anything).await,
                Act::Frame { kind, flags, stream, payload } => {
                    let stream = u32::from(stream).saturating_mul(2).saturating_sub(1);
                    self.write(frame(kind, flags, stream, &payload), Sent::Anything).await
                }
                Act::Pause(time) => {
                    sleep(Duration::from_millis(u64::from(time) % PAUSE_MAX)).await;
                    true
                }
                Act::Eof => {
                    self.end();
                    self.socket.shutdown().await.is_ok()
                }
                Act::Rst => false,
            };
            if !goes_on {
                return;
            }
        }
        while self.read().await {}
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.usable) {
            self.book.pages().usable -= 1;
        }
    }

    fn taint(&self) {
        self.book.pages().tainted[self.number] = true;
    }

    async fn read(&mut self) -> bool {
        let goes_on = matches!(self.socket.read_buf(&mut self.came).await, Ok(count) if count > 0);
        while let Some((ask, stream)) = self.next_request() {
            self.asked(ask, stream);
        }
        goes_on
    }

    /// Waits until a request has not been answered. False if none will come.
    async fn request(&mut self) -> bool {
        while self.current.as_ref().is_none_or(|current| current.writes > 0) {
            if !self.read().await {
                return false;
            }
        }
        true
    }

    /// Takes a request out of what has come: its number, and its stream.
    fn next_request(&mut self) -> Option<(u32, u32)> {
        let number = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let (_, rest) = text.split_once("x-ask: ")?;
            rest.split("\r\n").next()?.parse().ok()
        };
        if !self.http2 {
            let end = self.came.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
            let head: Vec<u8> = self.came.drain(..end).collect();
            return Some((number(&head)?, 0));
        }
        if !self.greeted && self.came.len() >= PREFACE && self.came.starts_with(b"PRI") {
            self.came.drain(..PREFACE);
        }
        loop {
            let &[high, middle, low, kind, _, a, b, c, d] = self.came.first_chunk::<9>()?;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if self.came.len() < 9 + length {
                return None;
            }
            self.came.drain(..9 + length);
            if kind == 1 {
                // Requests have different numbers of streams, which is as good: see `asked`.
                return Some((u32::MAX, u32::from_be_bytes([a & 0x7f, b, c, d])));
            }
        }
    }

    fn asked(&mut self, ask: u32, stream: u32) {
        let mut pages = self.book.pages();
        let unanswered = self.current.as_ref().is_some_and(|current| current.writes == 0);
        if !self.http2 && !pages.tainted[self.number] && (self.spoilt || unanswered) {
            let fault = format!("request {ask} on connection {}: {unanswered}", self.number);
            pages.faults.push(fault);
        }
        pages.asked.push(Asked { connection: self.number, ask, sent: Sent::Nothing });
        let at = pages.asked.len() - 1;
        self.current = Some(Current { at, ask, writes: 0, stream });
    }

    async fn write(&mut self, mut bytes: Vec<u8>, sent: Sent) -> bool {
        bytes.truncate(WRITE_MAX);
        if bytes.is_empty() {
            return true;
        }
        match &mut self.current {
            Some(current) if current.writes == 0 && !self.http2 => {
                self.book.pages().asked[current.at].sent = sent;
                current.writes = 1;
            }
            // Of HTTP/2 nobody looks what it means.
            _ => self.taint(),
        }
        self.socket.write_all(&bytes).await.is_ok()
    }

    async fn answer(&mut self, well: Well) -> bool {
        if !self.request().await {
            return false;
        }
        let Some(Current { ask, stream, .. }) = self.current else { return false };
        let Well { length, extra, .. } = well.clone();
        if self.http2 {
            let mut bytes = Vec::new();
            if !std::mem::replace(&mut self.greeted, true) {
                bytes.extend(frame(4, 0, 0, &[]));
                bytes.extend(frame(4, 1, 0, &[]));
            }
            // `:status: 200`, and the end of the head.
            bytes.extend(frame(1, 4, stream, &[0x88]));
            bytes.extend(frame(0, 1, stream, &text(ask, length)));
            bytes.extend(extra);
            self.taint();
            self.current.iter_mut().for_each(|current| current.writes += 1);
            return self.socket.write_all(&bytes).await.is_ok();
        }
        let mut bytes = well.head(ask).into_bytes();
        if well.is_chunked() && length > 0 {
            bytes.extend(format!("{length:x}\r\n").into_bytes());
        }
        bytes.extend(text(ask, length));
        if well.is_chunked() {
            bytes.extend(if length > 0 { &b"\r\n0\r\n\r\n"[..] } else { b"0\r\n\r\n" });
        }
        bytes.extend(&extra[..extra.len().min(WRITE_MAX - bytes.len())]);
        self.spoilt |= !extra.is_empty() || well.old || well.close;
        self.write(bytes, Sent::Well { length }).await
    }
}

impl Well {
    fn is_chunked(&self) -> bool {
        self.chunked && !self.old
    }

    fn head(&self, ask: u32) -> String {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} 200 OK\r\nx-for: {ask}\r\n");
        if self.is_chunked() {
            head += "transfer-encoding: chunked\r\n";
        } else {
            head += &format!("content-length: {}\r\n", self.length);
        }
        if self.close {
            head += "connection: close\r\n";
        }
        if let Some(seconds) = self.keep_alive {
            head += &format!("keep-alive: timeout={seconds}\r\n");
        }
        head + "\r\n"
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(WRITE_MAX - 9)];
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
