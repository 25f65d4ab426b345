//! hyper's senders, which know what the task of their connection has told them.

use std::task::{Context, Poll};

use hyper::client::conn::http1;
#[cfg(feature = "hyper-http2")]
use hyper::client::conn::http2;

use super::{Connection, Liveness};

impl<B> Connection for http1::SendRequest<B> {
    /// One that is not ready has an exchange before it that has not ended, and may never.
    fn liveness(&mut self) -> Liveness {
        if self.is_ready() { Liveness::Alive } else { Liveness::Closed }
    }

    /// A ready sender tells nobody when it is closed. One that is not ready yet tells when
    /// it is.
    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.poll_ready(cx).map(|ready| match ready {
            Ok(()) => Liveness::Alive,
            Err(_) => Liveness::Closed,
        })
    }
}

#[cfg(feature = "hyper-http2")]
impl<B> Connection for http2::SendRequest<B> {
    fn liveness(&mut self) -> Liveness {
        if self.is_closed() { Liveness::Closed } else { Liveness::Alive }
    }
}
