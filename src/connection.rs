//! What a pool may ask of its connections, if they can answer.

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
