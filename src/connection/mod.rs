//! What a pool may ask of its connections, if they can answer.

#[cfg(all(feature = "std-net", unix))]
mod blocking;
#[cfg(feature = "hyper")]
mod http;
#[cfg(feature = "net")]
mod net;
#[cfg(feature = "rustls")]
mod tls;

use std::task::{Context, Poll};

/// What has become of an idle connection, as far as can be told without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// Nothing is known against it.
    Alive,
    /// The peer has closed it, or it has failed.
    Closed,
    /// The peer has sent what nobody asked for. The next user would take it for the
    /// answer to its own request, so such a connection is closed, and counted apart.
    UnexpectedData,
}

/// How the pool closes the connections that it gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseMode {
    /// As the protocol has it: by an orderly end.
    #[default]
    Graceful,
    /// At once, where that harms nobody: plaintext TCP is reset (linger 0), so that no
    /// `TIME_WAIT` keeps the local port. Others are closed as in
    /// [`Graceful`](CloseMode::Graceful).
    Abort,
}

/// A connection that can say how it is, be watched while it is idle, and be closed in
/// more than one way.
///
/// A pool needs this of its connections only where it is told so, by
/// [`Builder::watch`](crate::Builder::watch) or
/// [`Builder::close_mode`](crate::Builder::close_mode).
///
/// None of the methods may wait or block.
///
/// # Who has it
///
/// | connection | feature | how it is looked at | watched |
/// |---|---|---|---|
/// | tokio's `TcpStream`, `UnixStream` | `net` | what the runtime knows of the socket | yes |
/// | tokio-rustls' `TlsStream` over these, of a client or a server | `rustls` | the same; what has come is decrypted | yes |
/// | std's `TcpStream`, `UnixStream` | `std-net` (Unix) | one system call | no |
/// | hyper's `http1::SendRequest` | `hyper` | what its connection task has said | until it is ready |
/// | hyper's `http2::SendRequest` | `hyper-http2` | what its connection task has said | no |
/// | `Box` of one that has it, also of a `dyn Connection` | | as what is in it | |
///
/// For all of these a connection is closed as soon as the peer has ended its side. That
/// a peer which half-closes would still take requests is nothing to rely on.
///
/// * *Tokio's sockets* do not enter the kernel while nothing happens: the runtime notes
///   what its driver hears. So they know what the driver knew when it last ran, and
///   never more if its thread does not run. Once the runtime has shut down, they can
///   no longer be used: a watched one is `Closed` then, but
///   [`liveness`](Connection::liveness) keeps to what was known.
/// * *TLS*: session tickets and new keys are taken in, and the connection is alive.
///   Plaintext is unexpected, also plaintext that came before the release and was not
///   read. Both modes of closing send `close_notify`, in one attempt that does not
///   wait. A stream that waits with its handshake to send early data is `Alive`, and not
///   watched.
/// * *hyper*: an HTTP/1 sender must be [`ready`] before it is released or put, as
///   `sender.ready().await` sees to. One that is not ready when it is leased still has
///   the last exchange before it, and is `Closed`. Data that nobody asked for ends
///   hyper's connection task, and so is `Closed`, not `UnexpectedData`.
///
/// [`ready`]: https://docs.rs/hyper/1/hyper/client/conn/http1/struct.SendRequest.html#method.ready
///
/// # For a type of your own
///
/// Ask what is inside, and add what only you know. Here, bytes that were read from the
/// stream and that nobody has asked for:
///
/// ```
/// use std::task::{Context, Poll};
///
/// use slabpool::{CloseMode, Connection, Liveness};
///
/// struct Http1<S> {
///     stream: S,
///     /// What was read, and not yet parsed.
///     buffer: Vec<u8>,
/// }
///
/// impl<S: Connection> Connection for Http1<S> {
///     fn liveness(&mut self) -> Liveness {
///         if self.buffer.is_empty() { self.stream.liveness() } else { Liveness::UnexpectedData }
///     }
///
///     fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
///         if self.buffer.is_empty() {
///             self.stream.poll_liveness(cx)
///         } else {
///             Poll::Ready(Liveness::UnexpectedData)
///         }
///     }
///
///     fn prepare_close(&mut self, mode: CloseMode) {
///         self.stream.prepare_close(mode);
///     }
/// }
/// ```
///
/// All three methods: a `poll_liveness` that is left out is never watched, and a
/// `prepare_close` that is left out closes in one way only.
pub trait Connection {
    /// What is known of the connection now. Asked when it is leased.
    fn liveness(&mut self) -> Liveness;

    /// Looks at the connection, which is idle, and sees to it that the waker is woken
    /// when there is something new.
    ///
    /// * `Pending`: alive, and watched. The waker in `cx` will be woken when the
    ///   answer may have changed. A clone of it must be kept until then, and dropped
    ///   when it is replaced by another one: the pool takes the number of clones for a
    ///   sign that it is still registered, and then does not ask again.
    /// * `Ready(Alive)`: alive, but it cannot be watched. The pool asks again from
    ///   time to time.
    /// * `Ready(Closed)`, `Ready(UnexpectedData)`: of no more use.
    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        let _ = cx;
        Poll::Ready(self.liveness())
    }

    /// Prepares the end: the pool drops the connection next, or gives it to
    /// [`on_close`](crate::Builder::on_close).
    fn prepare_close(&mut self, mode: CloseMode) {
        let _ = mode;
    }
}

impl<C: Connection + ?Sized> Connection for Box<C> {
    fn liveness(&mut self) -> Liveness {
        (**self).liveness()
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        (**self).poll_liveness(cx)
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        (**self).prepare_close(mode);
    }
}
