//! How a watcher looks whether something has happened to an idle connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// A stream that its watcher locks only while it looks at it.
pub(crate) struct Peek<T> {
    stream: Weak<Mutex<T>>,
    /// Before the first look, and after each until it is let go.
    held: Option<OwnedMutexGuard<T>>,
}

impl<T: AsyncRead + Unpin + Send + 'static> Peek<T> {
    pub fn new(guard: OwnedMutexGuard<T>) -> Self {
        let stream = Arc::downgrade(OwnedMutexGuard::mutex(&guard));
        Self { stream, held: Some(guard) }
    }

    /// Reads a byte, which an idle connection must not have. While there is none, the task is
    /// woken when there is something.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let lock = || self.stream.upgrade()?.try_lock_owned().ok();
        // If somebody else has it, that is known as the end of the watch.
        let Some(guard) = self.held.take().or_else(lock) else { return Poll::Pending };
        let guard = self.held.insert(guard);
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let result = ready!(Pin::new(&mut **guard).poll_read(cx, &mut buffer));
        Poll::Ready(result.map(|()| buffer.filled().len()))
    }

    /// Lets go of the stream: where somebody waits for it, if it matters where that is.
    pub fn let_go(&mut self, getter: Option<&Handle>) {
        let Some(guard) = self.held.take() else { return };
        match getter {
            Some(runtime) => drop(runtime.spawn(async move { drop(guard) })),
            None => drop(guard),
        }
    }

    /// A share of the stream besides the one that is held.
    pub fn share(&self) -> Option<Arc<Mutex<T>>> {
        self.held.as_ref().map(|guard| Arc::clone(OwnedMutexGuard::mutex(guard)))
    }
}
