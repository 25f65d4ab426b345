//! The machine as the tests see it: sockets, descriptors, and what the pool has closed.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slabpool::{Builder, CloseReason, Connection, Pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A test that waits for longer has failed, by far.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tests count the descriptors of the process, so one runs at a time. Says at its end
/// whether any is left open.
pub struct Turn {
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

pub fn turn() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let alone = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The first runtime of a process opens what all of them share.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    Turn { before: descriptors(), _alone: alone }
}

impl Turn {
    /// Nothing is left open. To be called when all runtimes have gone.
    pub fn end(self) {
        assert_eq!(descriptors(), self.before, "descriptors");
    }
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs a test in a runtime with one thread, whose driver runs only when the test waits.
pub fn run<F: Future>(test: impl FnOnce() -> F) {
    let turn = turn();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(patiently(test()));
    drop(runtime);
    turn.end();
}

/// Waits for what is sure to come, and not for ever.
pub async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("a test waits for what does not come")
}

/// A connection and its peer.
pub async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (client, server) = (client.unwrap(), server.unwrap().0);
    // What is sent is there at once, also when the last answer is not acknowledged yet.
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

/// Connected sockets by which a test knows that the driver has run.
pub struct Marker {
    near: TcpStream,
    far: TcpStream,
}

impl Marker {
    pub async fn new() -> Self {
        let (near, far) = tcp().await;
        Self { near, far }
    }

    /// Lets the driver run, until it has heard of all that has happened before.
    pub async fn settle(&mut self) {
        self.far.write_all(&[7]).await.unwrap();
        // More room than there are bytes: so the runtime knows that nothing is left, and the
        // next read waits for the driver.
        assert_eq!(self.near.read(&mut [0; 8]).await.unwrap(), 1);
        // Wakers of the same turn may be called after ours.
        tokio::task::yield_now().await;
    }
}

/// What `on_close` was told.
pub struct Journal {
    told: mpsc::UnboundedReceiver<CloseReason>,
}

impl Journal {
    /// A pool that watches, with a journal, and without a reaper of its own.
    pub fn pool<K, C>(set: impl FnOnce(Builder<K, C>) -> Builder<K, C>) -> (Pool<K, C>, Self)
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        C: Connection + Send + 'static,
    {
        let (tell, told) = mpsc::unbounded_channel();
        let builder =
            Pool::builder().watch().spawn_reaper(false).on_close(move |_, connection, reason| {
                drop(connection);
                // The test may be over.
                let _ = tell.send(reason);
            });
        (set(builder).build().unwrap(), Self { told })
    }

    /// The next close, now or later.
    pub async fn next(&mut self) -> CloseReason {
        patiently(self.told.recv()).await.expect("the pool has gone")
    }

    /// The closes that were not read yet.
    pub fn rest(&mut self) -> Vec<CloseReason> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }
}

/// The local addresses of sockets of this machine whose peer has closed, and we have not.
fn close_wait() -> BTreeSet<u16> {
    const CLOSE_WAIT: &str = "08";
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next()?;
        let state = fields.nth(1)?;
        let (_, port) = local.split_once(':')?;
        (state == CLOSE_WAIT).then(|| u16::from_str_radix(port, 16).unwrap())
    };
    table.lines().skip(1).filter_map(port).collect()
}

/// None of these is left half-closed.
pub fn assert_no_close_wait<'a>(locals: impl IntoIterator<Item = &'a SocketAddr>) {
    let waiting = close_wait();
    let left: Vec<_> = locals.into_iter().filter(|local| waiting.contains(&local.port())).collect();
    assert!(left.is_empty(), "in CLOSE_WAIT: {left:?}");
}
