//! A request's body that is lent to a host, and can be lent to another one if nobody has
//! looked into it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What a client sends while it is passed on. A clone is the same body: one of them may be
/// read.
#[derive(Clone, Debug)]
pub struct Lent(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    body: Mutex<Incoming>,
    touched: AtomicBool,
}

impl Lent {
    pub fn new(body: Incoming) -> Self {
        Self(Arc::new(Shared { body: Mutex::new(body), touched: AtomicBool::new(false) }))
    }

    /// Whether nobody has begun to read it, so that it is still whole.
    pub fn is_whole(&self) -> bool {
        // Relaxed: whoever has read it has given it up since, which brings this along.
        !self.0.touched.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Incoming> {
        self.0.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Relaxed: see `is_whole`.
        self.0.touched.store(true, Ordering::Relaxed);
        Pin::new(&mut *self.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}
