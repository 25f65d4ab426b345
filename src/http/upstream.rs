//! One connection: its sender, which is pooled, and the task that drives it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use super::RequestBody;
use super::builder::Speech;
use super::error::ConnectError;
use super::frames::Heeding;
use super::outgoing::Outgoing;
use crate::connection::{Connection, Liveness};

/// One connection of a [`Client`](super::Client), to be seen in hooks of its pool.
pub struct Upstream<B> {
    pub(super) sender: Sender<B>,
    /// Ends with this, unless the connection has become something else.
    driver: Option<AbortHandle>,
    pub(super) fate: Arc<Fate>,
}

pub(super) enum Sender<B> {
    Http1(http1::SendRequest<Outgoing<B>>),
    Http2(http2::SendRequest<Outgoing<B>>),
}

impl<B: RequestBody> Upstream<B> {
    pub(super) async fn http1<S: Stream>(stream: S) -> Result<Self, ConnectError> {
        let fate = Arc::new(Fate::default());
        let stream = TokioIo::new(Noting { stream, fate: Arc::clone(&fate) });
        let (sender, connection) = http1::handshake(stream).await.map_err(ConnectError::Http)?;
        let told = Arc::clone(&fate);
        // Whoever uses the connection hears of its errors: nobody else needs to.
        let driver = tokio::spawn(async move {
            let _told = Telling(told);
            _ = connection.with_upgrades().await;
        });
        let (sender, driver) = (Sender::Http1(sender), Some(driver.abort_handle()));
        Ok(Self { sender, driver, fate })
    }

    /// `changed`: the peer allows another number of streams than before.
    pub(super) async fn http2<S: Stream>(
        stream: S,
        speech: &Speech,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, ConnectError> {
        let fate = Arc::new(Fate::default());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if let Some((interval, timeout)) = speech.http2_ping {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        let stream = Heeding::new(stream, &fate);
        let opened = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(ConnectError::Http)?;
        fate.allow(connection.current_max_send_streams());
        let told = Arc::clone(&fate);
        let driver = tokio::spawn(async move {
            let told = Telling(told);
            let mut connection = pin!(connection);
            _ = poll_fn(|cx| {
                // First: settings that hold from here on wake it.
                told.0.note_driver(cx);
                let ended = connection.as_mut().poll(cx);
                // As the peer's last SETTINGS have it. Who waits for a stream hears of it.
                if told.0.allow(connection.current_max_send_streams()) {
                    changed();
                }
                ended
            })
            .await;
        });
        let (sender, driver) = (Sender::Http2(sender), Some(driver.abort_handle()));
        Ok(Self { sender, driver, fate })
    }
}

impl<B> Upstream<B> {
    /// Whether it takes no more requests. Requests that are under way may go on.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    pub(super) fn is_http1(&self) -> bool {
        matches!(self.sender, Sender::Http1(_))
    }

    /// It speaks another protocol from now on, and is its user's.
    pub(super) fn hand_off(&mut self) {
        self.driver = None;
    }
}

impl<B> Drop for Upstream<B> {
    /// Closes the socket now, whatever hyper would still like to do with it.
    fn drop(&mut self) {
        self.driver.iter().for_each(AbortHandle::abort);
    }
}

/// So that the pool hears of it when an idle connection ends, and asks before it hands one
/// out.
impl<B: Send> Connection for Upstream<B> {
    fn liveness(&mut self) -> Liveness {
        if self.is_closed() { Liveness::Closed } else { Liveness::Alive }
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        self.fate.poll_end(cx).map(|()| Liveness::Closed)
    }
}

impl<B> fmt::Debug for Upstream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("http2", &!self.is_http1()).finish_non_exhaustive()
    }
}

/// What the task of a connection knows, and others would like to know.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// Whether it has ended, and whom to tell.
    end: Mutex<(bool, Option<Waker>)>,
    /// How many streams the peer allows, and the task that reads it. HTTP/2.
    streams: AtomicU32,
    driver: Mutex<Option<Waker>>,
    /// Whether anything has come since this was last cleared. HTTP/1.
    answered: AtomicBool,
}

impl Fate {
    pub fn streams(&self) -> u32 {
        // Relaxed: a number that may have changed since.
        self.streams.load(Ordering::Relaxed)
    }

    /// True if it were others before. By the task of the connection alone.
    fn allow(&self, streams: usize) -> bool {
        let (now, before) = (u32::try_from(streams).unwrap_or(u32::MAX), self.streams());
        if now != before {
            // Relaxed: nothing else goes by it. Who is told of it here is told by this thread.
            self.streams.store(now, Ordering::Relaxed);
        }
        now != before
    }

    fn note_driver(&self, cx: &Context<'_>) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if driver.as_ref().is_none_or(|driver| !driver.will_wake(cx.waker())) {
            let before = driver.replace(cx.waker().clone());
            drop(driver);
            drop(before);
        }
    }

    /// Settings have come: has the task of the connection look what they say.
    pub fn wake_driver(&self) {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        driver.into_iter().for_each(Waker::wake);
    }

    /// A request is about to be written.
    pub fn ask(&self) {
        // Relaxed: hyper's channel brings the request to the task, and so this before it.
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Whether anything has come since the request was written, which has failed.
    pub fn is_answered(&self) -> bool {
        // Relaxed: hyper's channel brings the failure from the task, and what came before it.
        self.answered.load(Ordering::Relaxed)
    }

    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.0 {
            return Poll::Ready(());
        }
        let before = end.1.replace(waker);
        drop(end);
        drop(before);
        Poll::Pending
    }
}

/// The task of a connection, however it ends.
struct Telling(Arc<Fate>);

impl Drop for Telling {
    fn drop(&mut self) {
        let mut end = self.0.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.0 = true;
        let waker = end.1.take();
        drop(end);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// What HTTP is spoken over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Takes note when something comes.
struct Noting<S> {
    stream: S,
    fate: Arc<Fate>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            // Relaxed: see `is_answered`.
            this.fate.answered.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
