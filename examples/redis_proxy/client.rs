//! A client of the Redis protocol, as small as can be.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::encode;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection of its own, to a proxy or a server.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    input: BytesMut,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: BytesMut::new() })
    }

    /// Sends a command, and waits for its answer.
    pub async fn ask(&mut self, command: &[&str]) -> io::Result<OwnedFrame> {
        self.send(&[command]).await?;
        self.answer().await
    }

    /// Sends commands, all at once.
    pub async fn send(&mut self, commands: &[&[&str]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for command in commands {
            bytes.extend_from_slice(&encoded(command)?);
        }
        self.stream.write_all(&bytes).await
    }

    /// The next answer.
    pub async fn answer(&mut self) -> io::Result<OwnedFrame> {
        loop {
            if let Some((answer, length)) = decode(&self.input).map_err(io::Error::other)? {
                _ = self.input.split_to(length);
                return Ok(answer);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await??;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A command, as the protocol has it.
pub fn encoded(command: &[&str]) -> io::Result<Vec<u8>> {
    let strings = command.iter().map(|word| OwnedFrame::BulkString(word.as_bytes().to_vec()));
    let frame = OwnedFrame::Array(strings.collect());
    let mut bytes = vec![0; frame.encode_len(false)];
    let length = encode(&mut bytes, &frame, false).map_err(io::Error::other)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// A string, as a server answers it.
pub fn text(text: impl Into<String>) -> OwnedFrame {
    OwnedFrame::BulkString(text.into().into_bytes())
}

pub fn simple(text: &str) -> OwnedFrame {
    OwnedFrame::SimpleString(text.as_bytes().to_vec())
}
