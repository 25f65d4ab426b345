//! The body of an answer, and what it holds until it is over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use slabpool::http::{Body, Error};
use tokio::sync::OwnedSemaphorePermit;

use super::host::Load;

/// A host's answer on its way to the client. The [`Body`] in it holds the connection, and
/// gives it back at the end; dropped before that, because the client went away, it closes
/// the connection, or ends the stream of HTTP/2.
pub struct Relay {
    body: Body,
    load: Load,
    /// One of the requests that may be under way.
    _place: OwnedSemaphorePermit,
}

impl Relay {
    pub fn new(body: Body, load: Load, place: OwnedSemaphorePermit) -> Self {
        Self { body, load, _place: place }
    }
}

impl HttpBody for Relay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(_)) = frame {
            self.load.host().errors.add();
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
