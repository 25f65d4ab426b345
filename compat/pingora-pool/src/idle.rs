//! The watch over an idle connection, as Pingora starts one for each.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use log::{debug, warn};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep_until};

use crate::meta::ConnectionMeta;
use crate::peek::Peek;
use crate::pool::ConnectionPool;
use crate::watch::{End, Watch};

/// An idle connection, for its watcher. Names this one and no other, whatever the number of
/// its socket.
#[derive(Debug)]
#[must_use = "without a watcher nobody sees that the connection ends"]
pub struct Idle {
    pub(crate) watch: Arc<Watch>,
}

/// The other half of [`Idle`], with nothing in it: Pingora passes two things on.
#[derive(Debug)]
pub struct WatchUse(pub(crate) ());

/// `Ok` if the watcher has ended the connection, else what has become of it.
type Verdict = Result<(), End>;

impl<S: Send + 'static> ConnectionPool<S> {
    /// Watches an idle connection: when there is something to read, or it has ended or
    /// failed, or the timeout is over, it is taken out of the pool and closed.
    ///
    /// Returns at once when somebody gets the connection. True if it was evicted, because
    /// the pool was full; false for whatever else has become of it.
    ///
    /// `None` watches for ever, and zero means that the connection is not used again: it is
    /// closed at once, and others of its group are not taken in until one comes with
    /// another timeout. Which connection it is follows from `notify_evicted`.
    ///
    /// # Panics
    ///
    /// When it is polled outside a tokio runtime with time enabled, if there is a timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watch. The connection stays in the pool.
    pub async fn idle_poll<Stream>(
        &self,
        connection: OwnedMutexGuard<Stream>,
        meta: &ConnectionMeta,
        timeout: Option<Duration>,
        notify_evicted: Idle,
        watch_use: WatchUse,
    ) -> bool
    where
        Stream: AsyncRead + Unpin + Send + 'static,
    {
        let (idle, WatchUse(())) = (notify_evicted, watch_use);
        let _panic = Panic { pool: self, idle: &idle };
        let mut peek = Peek::new(connection);
        // Whether something has happened to it that the one who got it does not know.
        let mut spoiled = false;
        let verdict = self
            .watch(&idle, meta, timeout, |cx| {
                let check = match idle.watch.check() {
                    Ok(check) => check,
                    Err(end) => return Poll::Ready(Err(end)),
                };
                match peek.poll(cx) {
                    Poll::Pending => {
                        peek.let_go(idle.watch.getter());
                        match check.pass() {
                            Ok(()) => Poll::Pending,
                            Err(end) => Poll::Ready(Err(end)),
                        }
                    }
                    Poll::Ready(read) => {
                        match read {
                            Ok(0) => debug!("the peer has closed idle connection {}", meta.id),
                            Ok(_) => warn!("data on idle connection {}, which is closed", meta.id),
                            Err(error) => debug!("idle connection {}: {error}", meta.id),
                        }
                        let failed = check.fail();
                        spoiled = failed == Err(End::Used);
                        Poll::Ready(failed)
                    }
                }
            })
            .await;
        if spoiled {
            peek.share().into_iter().for_each(|share| self.spoil(share));
        }
        peek.let_go(idle.watch.getter());
        self.conclude(&idle, verdict)
    }

    /// Watches an idle connection that others look after: when `notify_closed` changes, or
    /// its sender is dropped, or the timeout is over, it is taken out of the pool and
    /// dropped. All else is as with [`idle_poll`](ConnectionPool::idle_poll).
    ///
    /// # Panics
    ///
    /// When it is polled outside a tokio runtime with time enabled, if there is a timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watch. The connection stays in the pool.
    pub async fn idle_timeout(
        &self,
        meta: &ConnectionMeta,
        timeout: Option<Duration>,
        notify_evicted: Idle,
        mut notify_closed: watch::Receiver<bool>,
        watch_use: WatchUse,
    ) -> bool {
        let (idle, WatchUse(())) = (notify_evicted, watch_use);
        let _panic = Panic { pool: self, idle: &idle };
        idle.watch.closed_by(notify_closed.clone());
        let mut closed = pin!(notify_closed.changed());
        let look = |cx: &mut Context<'_>| {
            let _changed = ready!(closed.as_mut().poll(cx));
            debug!("idle connection {} is closed", meta.id);
            Poll::Ready(idle.watch.end())
        };
        let verdict = self.watch(&idle, meta, timeout, look).await;
        self.conclude(&idle, verdict)
    }

    /// Waits until something becomes of the connection: by others, who come first; as `look`
    /// finds out; or because its time is up.
    async fn watch(
        &self,
        idle: &Idle,
        meta: &ConnectionMeta,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut Context<'_>) -> Poll<Verdict>,
    ) -> Verdict {
        let unused = timeout.is_some_and(|timeout| timeout.is_zero());
        self.note_unused(meta.key, unused);
        if unused {
            return idle.watch.end();
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(deadline) = deadline {
            idle.watch.expire_at(self.nanos_at(deadline));
        }
        let mut sleep = pin!(deadline.map(sleep_until));
        poll_fn(|cx| {
            if let Some(end) = idle.watch.poll_end(cx.waker()) {
                return Poll::Ready(Err(end));
            }
            if let Poll::Ready(verdict) = look(cx) {
                return Poll::Ready(verdict);
            }
            match sleep.as_mut().as_pin_mut() {
                Some(sleep) => {
                    ready!(sleep.poll(cx));
                    debug!("idle connection {} was not used in time", meta.id);
                    Poll::Ready(idle.watch.end())
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Ends the watch. True if the connection was evicted.
    fn conclude(&self, idle: &Idle, verdict: Verdict) -> bool {
        match (verdict, idle.watch.token()) {
            (Ok(()), Some(token)) => {
                self.close(token);
                false
            }
            (verdict, _) => verdict == Err(End::Evicted),
        }
    }
}

/// If a stream panics while it is looked at, its connection does not stay in the pool.
struct Panic<'a, S: Send + 'static> {
    pool: &'a ConnectionPool<S>,
    idle: &'a Idle,
}

impl<S: Send + 'static> Drop for Panic<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(token) = self.idle.watch.token()
        {
            self.pool.close(token);
        }
    }
}
