//! The body of an answer, and the connection that it comes from.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use slabpool::KeepAlive;

use super::connection::Carrier;

/// An upstream's body on its way to the client. Holds the connection until the body
/// is over, and only then gives it back.
///
/// Dropped before that, because the client went away or one of the connections
/// broke, it drops the connection as well, which closes it: the rest of this answer
/// is still to come on it.
pub struct Relay {
    body: Incoming,
    carrier: Option<Carrier>,
    keep_alive: Option<KeepAlive>,
}

impl Relay {
    /// `keep_alive`: how long the upstream keeps the connection open after this answer, if
    /// it does.
    pub fn new(body: Incoming, carrier: Carrier, keep_alive: Option<KeepAlive>) -> Self {
        let mut relay = Self { body, carrier: Some(carrier), keep_alive };
        if relay.body.is_end_stream() {
            // To HEAD, for one: no body, and nobody will poll it.
            relay.finish();
        }
        relay
    }

    fn finish(&mut self) {
        match (self.carrier.take(), self.keep_alive) {
            (Some(carrier), Some(keep_alive)) => carrier.release(keep_alive),
            (Some(carrier), None) => carrier.close(),
            (None, _) => {}
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Err(_)) = frame {
            if let Some(carrier) = self.carrier.take() {
                carrier.tally().errors.add();
                carrier.close();
            }
        } else if frame.is_none() || self.body.is_end_stream() {
            // The last frame of a known length is the end: hyper does not ask again.
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
