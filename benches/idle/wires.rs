//! Connections to be pooled, and who has their other ends.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use slabpool::{Connection, Liveness};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::probes::{self, Knell};

/// What the peer does to an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Close,
    /// It sends a byte that nobody asked for.
    Send,
}

/// A connection.
pub trait Wire: Connection + AsyncRead + Unpin + Send + 'static {
    /// A number of its own.
    fn number(&self) -> usize;
}

/// Who has the other ends.
pub trait Peer {
    type Wire: Wire;

    /// Opens connection `number`, for the first time or again.
    fn open(&mut self, number: usize) -> Self::Wire;

    /// Does something to a connection.
    fn strike(&mut self, number: usize, blow: Blow);

    /// When it did so. Asked afterwards.
    fn struck_at(&mut self) -> u64;

    /// Closes all connections.
    fn close_all(&mut self);
}

/// A TCP connection.
pub struct Socket {
    number: usize,
    stream: TcpStream,
    _knell: Knell,
}

impl Socket {
    pub fn new(number: usize, stream: TcpStream) -> Self {
        Self { number, stream, _knell: Knell }
    }
}

impl Wire for Socket {
    fn number(&self) -> usize {
        self.number
    }
}

impl Connection for Socket {
    fn liveness(&mut self) -> Liveness {
        self.stream.liveness()
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.stream.poll_liveness(cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// A connection in memory, which keeps the waker of its reader as a socket does.
pub struct Line {
    number: usize,
    end: Arc<End>,
    _knell: Knell,
}

/// What both sides of a [`Line`] know.
#[derive(Default)]
struct End {
    state: AtomicU8,
    reader: Mutex<Option<Waker>>,
}

impl End {
    const ALIVE: u8 = 0;
    const CLOSED: u8 = 1;
    const READABLE: u8 = 2;

    fn state(&self) -> u8 {
        // Acquire: pairs with the Release in `strike`, though it is the same thread.
        self.state.load(Ordering::Acquire)
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().expect("wakers do not panic")
    }

    fn strike(&self, blow: Blow) {
        let state = match blow {
            Blow::Close => Self::CLOSED,
            Blow::Send => Self::READABLE,
        };
        self.state.store(state, Ordering::Release);
        let reader = self.reader().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Anything but `ALIVE`, or else the waker is kept.
    fn poll_state(&self, cx: &mut Context<'_>) -> Poll<u8> {
        if self.state() != Self::ALIVE {
            return Poll::Ready(self.state());
        }
        let mut reader = self.reader();
        match &mut *reader {
            Some(reader) => reader.clone_from(cx.waker()),
            None => *reader = Some(cx.waker().clone()),
        }
        // Under the lock: whoever strikes after this finds the waker.
        if self.state() == Self::ALIVE { Poll::Pending } else { Poll::Ready(self.state()) }
    }
}

impl Wire for Line {
    fn number(&self) -> usize {
        self.number
    }
}

impl Connection for Line {
    fn liveness(&mut self) -> Liveness {
        match self.end.state() {
            End::ALIVE => Liveness::Alive,
            End::CLOSED => Liveness::Closed,
            _ => Liveness::UnexpectedData,
        }
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.end.poll_state(cx).map(|_| self.liveness())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.end.poll_state(cx).map(|state| {
            if state == End::READABLE {
                buf.put_slice(&[0]);
            }
            Ok(())
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end.reader().take();
    }
}

/// The other ends of [`Line`]s.
#[derive(Default)]
pub struct Lines {
    ends: Vec<Arc<End>>,
    struck_at: u64,
}

impl Peer for Lines {
    type Wire = Line;

    fn open(&mut self, number: usize) -> Line {
        let end = Arc::new(End::default());
        if number < self.ends.len() {
            self.ends[number] = Arc::clone(&end);
        } else {
            self.ends.push(Arc::clone(&end));
        }
        Line { number, end, _knell: Knell }
    }

    fn strike(&mut self, number: usize, blow: Blow) {
        self.struck_at = probes::now();
        self.ends[number].strike(blow);
    }

    fn struck_at(&mut self) -> u64 {
        self.struck_at
    }

    fn close_all(&mut self) {
        self.struck_at = probes::now();
        self.ends.iter().for_each(|end| end.strike(Blow::Close));
    }
}
