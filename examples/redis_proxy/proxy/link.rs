//! Connections to the server: how they are opened, looked at and used.

use std::fmt;
use std::future::pending;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use slabpool::managed::Manager;
use slabpool::{CloseMode, Connection, Liveness};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frames::{Broken, Scanner};
use super::tally::Tally;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

const READ_BYTES: usize = 16 * 1024;

/// Opens connections to Redis servers, for the pool.
#[derive(Debug)]
pub struct Redis {
    pub tally: Arc<Tally>,
    /// How long a connection that was idle may take to answer a ping.
    pub ping_timeout: Duration,
}

impl Manager<SocketAddr> for Redis {
    type Connection = Link;
    type Error = ConnectError;

    /// With a ping, so that a server that turns us away says so here.
    async fn connect(&self, address: &SocketAddr) -> Result<Link, ConnectError> {
        self.tally.connects.add();
        open(*address).await.inspect(|_| self.tally.connected.add())
    }

    fn probe(&self, link: &mut Link) -> Liveness {
        link.liveness()
    }

    async fn check(&self, link: &mut Link) -> bool {
        self.tally.checks.add();
        link.answers_within(self.ping_timeout).await
    }
}

async fn open(address: SocketAddr) -> Result<Link, ConnectError> {
    let fails = |cause: Fault| ConnectError { address, cause };
    let stream = TcpStream::connect(address).await.map_err(|error| fails(Fault::Io(error)))?;
    stream.set_nodelay(true).map_err(|error| fails(Fault::Io(error)))?;
    let mut link = Link { stream, input: BytesMut::new() };
    link.ping().await.map_err(fails)?;
    Ok(link)
}

/// Why there is no connection.
#[derive(Debug)]
pub struct ConnectError {
    pub address: SocketAddr,
    pub cause: Fault,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.cause)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Fault::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why an exchange did not come to its end.
#[derive(Debug)]
pub enum Fault {
    /// The server has closed the connection.
    Ended,
    Io(io::Error),
    /// What the server sent is no answer.
    Broken(Broken),
    /// The server has said this before it was asked.
    TurnedAway(String),
    /// The answer to a ping.
    NoPong(String),
    /// The answers did not come in time.
    Slow(Duration),
}

impl Fault {
    /// Whether the connection was closed, as one is that was idle for too long.
    pub fn is_end(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match self {
            Self::Ended => true,
            Self::Io(error) => {
                matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the server closed the connection"),
            Self::Io(error) => error.fmt(f),
            Self::Broken(broken) => broken.fmt(f),
            Self::TurnedAway(said) => write!(f, "the server turned us away with {said:?}"),
            Self::NoPong(answer) => write!(f, "the server answered a ping with {answer:?}"),
            Self::Slow(limit) => write!(f, "no answer within {limit:?}"),
        }
    }
}

/// Answers, as they came.
#[derive(Debug, Default)]
pub struct Answers {
    pub bytes: BytesMut,
    pub count: usize,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    /// What was read and is not an answer yet.
    input: BytesMut,
}

impl Link {
    /// Sends commands, and reads as many answers: those that came before a fault are in
    /// `answers` all the same.
    ///
    /// # Cancel safety
    ///
    /// None: the connection is of no more use.
    pub async fn exchange(
        &mut self,
        commands: &[u8],
        count: usize,
        answers: &mut Answers,
    ) -> Result<(), Fault> {
        let Self { stream, input } = self;
        let (mut reader, mut writer) = stream.split();
        let mut sent = false;
        // Both at a time: a server that waits until its answers are read reads no more.
        let sending = async {
            sent = writer.write_all(commands).await.is_ok();
            // If not, whoever reads is told so, after what was answered before.
            pending().await
        };
        let receiving = async {
            let mut scanner = Scanner::of_answers();
            while answers.count < count {
                match scanner.advance(input).map_err(Fault::Broken)? {
                    Some(length) => {
                        answers.bytes.unsplit(input.split_to(length));
                        answers.count += 1;
                    }
                    None => {
                        input.reserve(READ_BYTES);
                        if reader.read_buf(input).await.map_err(Fault::Io)? == 0 {
                            return Err(Fault::Ended);
                        }
                    }
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            never = sending => never,
            outcome = receiving => outcome?,
        }
        if sent {
            return Ok(());
        }
        // No answers, then: as a server says that has no room for one more client.
        answers.count = 0;
        Err(Fault::TurnedAway(line(&mem::take(&mut answers.bytes))))
    }

    /// Asks the server whether it is there.
    async fn ping(&mut self) -> Result<(), Fault> {
        let mut answers = Answers::default();
        self.exchange(PING, 1, &mut answers).await?;
        if answers.bytes.as_ref() == b"+PONG\r\n" {
            return Ok(());
        }
        Err(Fault::NoPong(line(&answers.bytes)))
    }

    /// Whether the server answers a ping in time. If not, the connection is of no more use.
    pub async fn answers_within(&mut self, limit: Duration) -> bool {
        matches!(timeout(limit, self.ping()).await, Ok(Ok(())))
    }

    /// Whether something has come that is not an answer, or only a part of one.
    pub fn has_rest(&self) -> bool {
        !self.input.is_empty()
    }
}

/// What the server said, to be told to a human.
fn line(bytes: &[u8]) -> String {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// As the socket; and what was read and is no answer is what nobody asked for.
impl Connection for Link {
    fn liveness(&mut self) -> Liveness {
        if self.has_rest() { Liveness::UnexpectedData } else { self.stream.liveness() }
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        if self.has_rest() {
            return Poll::Ready(Liveness::UnexpectedData);
        }
        self.stream.poll_liveness(cx)
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        self.stream.prepare_close(mode);
    }
}
