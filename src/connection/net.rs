//! Tokio's sockets: looked at without a system call while nothing happens.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(feature = "rustls")]
use tokio::io::Interest;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::unconstrained;

use super::{CloseMode, Connection, Liveness};

/// How often a socket is looked at in one go that is always ready, and never has anything.
/// A peer that sends faster than we look, or a system that is wrong, shall not keep us.
const LOOKS_MAX: usize = 16;

/// What tokio's sockets have in common.
///
/// `try_read` and `flagged` look at the flag that the runtime's driver sets when
/// something has happened, and only then at the socket. A `try_read` that finds nothing
/// there takes a flag that was out of date away. Nothing here takes a lock, but
/// `poll_read_ready`, when it registers the waker.
pub trait Socket {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    #[cfg(feature = "rustls")]
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    #[cfg(feature = "rustls")]
    fn flagged(&self) -> bool;
}

macro_rules! socket {
    ($stream:ident) => {
        impl Socket for $stream {
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.try_read(buffer)
            }

            #[cfg(feature = "rustls")]
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }

            #[cfg(feature = "rustls")]
            fn flagged(&self) -> bool {
                self.try_io(Interest::READABLE, || Ok(())).is_ok()
            }
        }
    };
}

socket!(TcpStream);
#[cfg(unix)]
socket!(UnixStream);

impl Connection for TcpStream {
    fn liveness(&mut self) -> Liveness {
        look(self)
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        watch(&*self, cx, || look(self))
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        if mode == CloseMode::Abort {
            // If it cannot be set, the socket is gone already, or is closed politely.
            // Deprecated since other durations make closing block. The method for zero
            // alone came with tokio 1.50.
            #[allow(deprecated, reason = "older versions of tokio are good enough")]
            let _ = self.set_linger(Some(Duration::ZERO));
        }
    }
}

#[cfg(unix)]
impl Connection for UnixStream {
    fn liveness(&mut self) -> Liveness {
        look(self)
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        watch(&*self, cx, || look(self))
    }
}

/// Whether an error says only that there is nothing to read now.
pub fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// A byte that is read is lost, and does not matter: the connection is closed for it.
fn look(socket: &impl Socket) -> Liveness {
    match socket.try_read(&mut [0]) {
        Ok(0) => Liveness::Closed,
        Ok(_) => Liveness::UnexpectedData,
        Err(error) if is_nothing(&error) => Liveness::Alive,
        Err(_) => Liveness::Closed,
    }
}

/// Asks for a wake-up when the socket is readable, and looks for as long as it is said to
/// be and has nothing.
pub fn watch<S: Socket>(
    socket: &S,
    cx: &mut Context<'_>,
    mut look: impl FnMut() -> Liveness,
) -> Poll<Liveness> {
    for _ in 0..LOOKS_MAX {
        // When the task has used up its turn, tokio says `Pending` and wakes at once,
        // whatever the socket has to say, and registers nobody. A look takes no turn.
        let ready = pin!(unconstrained(poll_fn(|cx| socket.poll_read_ready(cx)))).poll(cx);
        match ready {
            Poll::Pending => return Poll::Pending,
            // The runtime has shut down: nobody can use the socket any more.
            Poll::Ready(Err(_)) => return Poll::Ready(Liveness::Closed),
            Poll::Ready(Ok(())) => match look() {
                Liveness::Alive => {}
                of_no_use => return Poll::Ready(of_no_use),
            },
        }
    }
    Poll::Ready(Liveness::Alive)
}
