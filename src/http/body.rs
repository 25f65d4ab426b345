//! The body of an answer, which gives its connection back at its end.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::RequestBody;
use super::error::Error;
use super::held::Held;
use crate::keep_alive::KeepAlive;
use crate::managed::Meta;
use crate::token::Token;

/// The body of an answer. It has the connection until its end, and gives it back then: when
/// the last of it was read, and not before. **To drop it sooner closes the connection** of
/// HTTP/1, since the rest of the answer is still on its way; of HTTP/2, it ends the stream.
///
/// A body that is empty has given the connection back when the answer is there.
#[must_use = "the answer's connection is in it"]
pub struct Body {
    incoming: Incoming,
    held: Option<Box<dyn Hold>>,
    travel: Travel,
}

/// How an answer has come: on what connection. From [`Body::travel`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Travel {
    /// The name of the connection in the pool.
    pub token: Token,
    /// What was known of the connection when the request was sent.
    pub connection: Meta,
    /// Whether the request was sent more than once: a connection had died.
    pub repeated: bool,
}

/// A connection, whatever its requests are like.
trait Hold: Send {
    /// The answer has come to its end.
    fn finish(self: Box<Self>);
    fn close(self: Box<Self>);
}

struct Holding<B: RequestBody>(Held<B>, KeepAlive);

impl<B: RequestBody> Hold for Holding<B> {
    fn finish(self: Box<Self>) {
        let Self(held, keep_alive) = *self;
        held.finish(keep_alive);
    }

    fn close(self: Box<Self>) {
        self.0.close();
    }
}

impl Body {
    pub(super) fn new<B: RequestBody>(
        incoming: Incoming,
        held: Held<B>,
        keep_alive: KeepAlive,
        travel: Travel,
    ) -> Self {
        if incoming.is_end_stream() {
            held.finish(keep_alive);
            return Self { incoming, held: None, travel };
        }
        Self { incoming, held: Some(Box::new(Holding(held, keep_alive))), travel }
    }

    /// One whose connection is no longer the pool's.
    pub(super) fn detached(incoming: Incoming, travel: Travel) -> Self {
        Self { incoming, held: None, travel }
    }

    /// How the answer has come.
    pub fn travel(&self) -> &Travel {
        &self.travel
    }

    /// Whether the connection was given back, or closed.
    pub fn is_returned(&self) -> bool {
        self.held.is_none()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    /// # Cancel safety
    ///
    /// Nothing is lost between two polls.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        match &frame {
            Some(Err(_)) => this.held.take().into_iter().for_each(Hold::close),
            // Who knows the length reads no further than that.
            Some(Ok(_)) if !this.incoming.is_end_stream() => {}
            _ => this.held.take().into_iter().for_each(Hold::finish),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::body)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("travel", &self.travel).finish_non_exhaustive()
    }
}
