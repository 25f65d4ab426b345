//! What several tests need.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Context, Poll, Wake, Waker};

use pingora_pool::{ConnectionMeta, ConnectionPool, Idle, WatchUse};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Mutex;

/// What Pingora pools.
pub type Shared = Arc<Mutex<Script>>;

/// What a stream does when it is read next.
#[derive(Debug)]
pub enum Step {
    Data(u8),
    End,
    Fail,
    Panic,
}

#[derive(Debug, Default)]
struct Inner {
    steps: VecDeque<Step>,
    waker: Option<Waker>,
    polls: usize,
    read: usize,
    dropped: usize,
}

/// A stream that does what a test says.
#[derive(Debug)]
pub struct Script(Arc<StdMutex<Inner>>);

/// The other end of a [`Script`].
#[derive(Clone, Debug, Default)]
pub struct Peer(Arc<StdMutex<Inner>>);

impl Peer {
    pub fn stream(&self) -> Shared {
        Arc::new(Mutex::new(Script(Arc::clone(&self.0))))
    }

    pub fn does(&self, step: Step) {
        let mut inner = self.0.lock().unwrap();
        inner.steps.push_back(step);
        let waker = inner.waker.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// How often somebody looked whether there is something to read.
    pub fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    /// Bytes that were read.
    pub fn read(&self) -> usize {
        self.0.lock().unwrap().read
    }

    pub fn is_closed(&self) -> bool {
        let dropped = self.0.lock().unwrap_or_else(|poison| poison.into_inner()).dropped;
        assert!(dropped <= 1, "dropped twice");
        dropped == 1
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner()).dropped += 1;
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock().unwrap();
        inner.polls += 1;
        match inner.steps.pop_front() {
            Some(Step::Data(byte)) => {
                inner.read += 1;
                buffer.put_slice(&[byte]);
                Poll::Ready(Ok(()))
            }
            Some(Step::End) => Poll::Ready(Ok(())),
            Some(Step::Fail) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Step::Panic) => {
                drop(inner);
                panic!("the stream panics");
            }
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Puts a stream into the pool as Pingora does: locked, for the watcher.
pub fn release(
    pool: &ConnectionPool<Shared>,
    meta: &ConnectionMeta,
    stream: Shared,
) -> (tokio::sync::OwnedMutexGuard<Script>, Idle, WatchUse) {
    let guard = Arc::clone(&stream).try_lock_owned().unwrap();
    let (idle, watch_use) = pool.put(meta, stream);
    (guard, idle, watch_use)
}

/// As Pingora takes what it got: alone, or not at all.
pub async fn alone(stream: Shared) -> Option<Script> {
    let _ = stream.lock().await;
    Arc::try_unwrap(stream).ok().map(Mutex::into_inner)
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    pub fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A future that is polled by hand.
pub struct Hand<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    pub bell: Arc<Bell>,
}

impl<'a, T> Hand<'a, T> {
    pub fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self { future: Box::pin(future), bell: Arc::default() }
    }

    pub fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.bell));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

/// The result of a future that is ready.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it should be ready"),
    }
}

/// A number that is counted down when it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

/// How many there are.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<AtomicUsize>);

impl Census {
    pub fn born(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    pub fn alive(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
