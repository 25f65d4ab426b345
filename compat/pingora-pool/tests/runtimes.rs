//! The pool under tokio, as Pingora runs it: watchers are tasks, on whatever thread.

mod common;

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pingora_pool::{ConnectionMeta, ConnectionPool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Mutex;

use common::{Peer, Shared, alone, release};

const ROUNDS: usize = if cfg!(debug_assertions) { 5_000 } else { 50_000 };

/// A runtime on a thread of its own.
struct Worker {
    handle: Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    fn start() -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Releases a stream and gets it again, with its watcher on another runtime.
async fn rounds(pool: Arc<ConnectionPool<Shared>>, key: u64, watchers: Handle) -> usize {
    let (peer, meta) = (Peer::default(), ConnectionMeta::new(key, 5));
    let (mut stream, mut lost) = (peer.stream(), 0);
    for round in 0..ROUNDS {
        let (guard, idle, watch_use) = release(&pool, &meta, stream);
        let (watched, meta) = (Arc::clone(&pool), meta.clone());
        watchers.spawn(async move {
            watched.idle_poll(guard, &meta, None, idle, watch_use).await;
        });
        // Sometimes the watcher is there first.
        for _ in 0..round % 4 {
            tokio::task::yield_now().await;
        }
        let got = pool.get(&key).expect("it is there all the time");
        stream = match alone(got).await {
            Some(script) => Arc::new(Mutex::new(script)),
            None => {
                lost += 1;
                peer.stream()
            }
        };
    }
    lost
}

#[test]
fn who_gets_a_connection_has_it_alone_whatever_thread_watches_it() {
    let (one, two) = (Worker::start(), Worker::start());
    let pool = Arc::new(ConnectionPool::new(8));
    let (sender, receiver) = std::sync::mpsc::channel();
    // Both ways at once.
    for (key, (getter, watcher)) in [(&one, &two), (&two, &one)].into_iter().enumerate() {
        let (sender, rounds) =
            (sender.clone(), rounds(Arc::clone(&pool), key as u64, watcher.handle.clone()));
        getter.handle.spawn(async move { sender.send(rounds.await).unwrap() });
    }
    assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 0, "connections thrown away");
}

#[test]
fn it_is_so_too_when_threads_take_tasks_from_each_other() {
    let runtime = Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let pool = Arc::new(ConnectionPool::new(8));
    runtime.block_on(async {
        let mut users = tokio::task::JoinSet::new();
        for key in 0..4 {
            users.spawn(rounds(Arc::clone(&pool), key, Handle::current()));
        }
        let lost: usize = users.join_all().await.into_iter().sum();
        assert_eq!(lost, 0, "connections thrown away");
    });
}

#[test]
fn a_getter_whose_runtime_has_gone_does_no_harm() {
    let (pool, peer) = (ConnectionPool::<Shared>::new(8), Peer::default());
    let meta = ConnectionMeta::new(1, 5);
    let (guard, idle, watch_use) = release(&pool, &meta, peer.stream());
    let runtime = Builder::new_current_thread().build().unwrap();
    let stream = runtime.block_on(async { pool.get(&1).unwrap() });
    drop(runtime);
    assert!(!common::now(pool.idle_poll(guard, &meta, None, idle, watch_use)));
    assert!(common::now(alone(stream)).is_some());
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

type Socket = Arc<Mutex<TcpStream>>;

/// A socket and its other end.
async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(connecting, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// As Pingora does it.
fn keep(
    pool: &Arc<ConnectionPool<Socket>>,
    socket: TcpStream,
    timeout: Option<Duration>,
) -> tokio::task::JoinHandle<bool> {
    let meta = ConnectionMeta::new(1, socket.as_raw_fd());
    let stream = Arc::new(Mutex::new(socket));
    let guard = Arc::clone(&stream).try_lock_owned().unwrap();
    let (idle, watch_use) = pool.put(&meta, stream);
    let pool = Arc::clone(pool);
    tokio::spawn(async move { pool.idle_poll(guard, &meta, timeout, idle, watch_use).await })
}

#[test]
fn sockets_are_closed_by_their_peer_by_the_bound_and_by_time() {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Arc::new(ConnectionPool::<Socket>::new(2));
        let before = descriptors();

        // By the peer: with an end, and with something that nobody asked for.
        for talks in [false, true] {
            let (near, mut far) = pair(&listener).await;
            let watch = keep(&pool, near, None);
            if talks {
                far.write_all(b"?").await.unwrap();
            } else {
                far.shutdown().await.unwrap();
            }
            assert!(!watch.await.unwrap());
            assert!(pool.get(&1).is_none());
            assert!(matches!(far.read(&mut [0]).await, Ok(0) | Err(_)), "it is closed");
        }
        assert_eq!(descriptors(), before);

        // By the bound: the oldest.
        let (mut fars, mut watches) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (near, far) = pair(&listener).await;
            fars.push(far);
            watches.push(keep(&pool, near, None));
            tokio::task::yield_now().await;
        }
        assert_eq!(fars[0].read(&mut [0]).await.unwrap(), 0);
        assert!(watches.remove(0).await.unwrap(), "it is said that it was for want of room");
        assert_eq!(descriptors(), before + 5);

        // By a get: the newest, which works.
        let near = alone_socket(pool.get(&1).unwrap()).await;
        assert!(!watches.pop().unwrap().await.unwrap());
        fars[2].write_all(b"!").await.unwrap();
        let (mut near, mut byte) = (near, [0]);
        near.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"!");

        // By time.
        let (near, mut far) = pair(&listener).await;
        let watch = keep(&pool, near, Some(Duration::from_millis(30)));
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        assert!(!watch.await.unwrap());
    });
}

async fn alone_socket(stream: Socket) -> TcpStream {
    let _ = stream.lock().await;
    Arc::try_unwrap(stream).expect("nobody else has it").into_inner()
}

/// A stream that tells its bad news while somebody takes it.
#[derive(Debug)]
struct Late {
    looked: std::sync::mpsc::Sender<()>,
    got: std::sync::mpsc::Receiver<()>,
}

impl tokio::io::AsyncRead for Late {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.looked.send(()).unwrap();
        self.got.recv().unwrap();
        buffer.put_slice(b"?");
        std::task::Poll::Ready(Ok(()))
    }
}

#[test]
fn a_byte_that_the_watcher_has_read_is_not_lost_on_the_getter() {
    let (looked, looking) = std::sync::mpsc::channel();
    let (tell, got) = std::sync::mpsc::channel();
    let pool: Arc<ConnectionPool<Arc<Mutex<Late>>>> = Arc::new(ConnectionPool::new(1));
    let (stream, meta) = (Arc::new(Mutex::new(Late { looked, got })), ConnectionMeta::new(1, 5));
    let guard = Arc::clone(&stream).try_lock_owned().unwrap();
    let (idle, watch_use) = pool.put(&meta, stream);
    let watched = Arc::clone(&pool);
    let watcher = std::thread::spawn(move || {
        runtime().block_on(watched.idle_poll(guard, &meta, None, idle, watch_use))
    });
    looking.recv().unwrap();
    // The watcher is in the middle of it, and this loses its patience.
    let stream = pool.get(&1).unwrap();
    tell.send(()).unwrap();
    runtime().block_on(async {
        let _ = stream.lock().await;
        let refused = Arc::try_unwrap(stream).expect_err("it is not to be used");
        let witness = Arc::downgrade(&refused);
        drop(refused);
        assert!(!watcher.join().unwrap());
        // The next one that comes tidies up.
        assert!(witness.upgrade().is_some());
        let (looked, got) = (std::sync::mpsc::channel().0, std::sync::mpsc::channel().1);
        let another = Arc::new(Mutex::new(Late { looked, got }));
        let _handle = pool.put(&ConnectionMeta::new(1, 6), another);
        assert!(witness.upgrade().is_none());
    });
}

#[test]
fn many_tasks_share_a_few_connections() {
    let runtime = Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = Arc::new(ConnectionPool::<Shared>::new(4));
        let (evicted, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16_u64 {
            let (pool, evicted, closed) =
                (Arc::clone(&pool), Arc::clone(&evicted), Arc::clone(&closed));
            tasks.spawn(async move {
                let mut watchers = tokio::task::JoinSet::new();
                let mut peers = Vec::new();
                for round in 0..ROUNDS / 20 {
                    let key = (task + round as u64) % 3;
                    let stream = match pool.get(&key) {
                        Some(stream) => alone(stream).await.map(|s| Arc::new(Mutex::new(s))),
                        None => None,
                    };
                    let stream = stream.unwrap_or_else(|| {
                        let peer = Peer::default();
                        let stream = peer.stream();
                        peers.push(peer);
                        stream
                    });
                    tokio::task::yield_now().await;
                    let meta = ConnectionMeta::new(key, task as i32);
                    let (guard, idle, watch_use) = release(&pool, &meta, stream);
                    let (pool, evicted) = (Arc::clone(&pool), Arc::clone(&evicted));
                    watchers.spawn(async move {
                        if pool.idle_poll(guard, &meta, None, idle, watch_use).await {
                            evicted.fetch_add(1, Relaxed);
                        }
                    });
                }
                closed.fetch_add(peers.len(), Relaxed);
                // All watchers end, but for those of what is in the pool.
                (watchers, peers)
            });
        }
        let ended = tasks.join_all().await;
        while let Some(stream) = (0..3).find_map(|key| pool.get(&key)) {
            drop(stream);
        }
        let mut all_peers = Vec::new();
        for (watchers, peers) in ended {
            watchers.join_all().await;
            all_peers.extend(peers);
        }
        // Not sooner: one task's connection may be watched for another one.
        let open = all_peers.iter().filter(|peer| !peer.is_closed()).count();
        assert_eq!(open, 0, "all watchers have ended, and all connections are closed");
        assert_eq!(pool.status().idle, 0);
        let (evicted, opened) = (evicted.load(Relaxed), closed.load(Relaxed));
        assert!(evicted <= opened && opened > 0, "{evicted} evicted of {opened}");
    });
}
