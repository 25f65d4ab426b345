//! The side that clients connect to.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use slabpool::managed::Drained;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Proxy, admin, health};

/// Between attempts to accept, when there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may take until its first request is there. For the head of each of
/// HTTP/1 hyper has the same.
const FIRST_REQUEST: Duration = Duration::from_secs(30);

/// Connections of the last requests have at least so long to be given back.
const LAST_RELEASES: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug)]
pub struct End {
    /// Clients that had to be cut off.
    pub cut_off: usize,
    /// What was left in the pools then.
    pub drained: Vec<Drained>,
}

impl End {
    /// Whether nobody was cut off, and nothing is left.
    pub fn is_complete(&self) -> bool {
        self.cut_off == 0 && self.drained.iter().all(|drained| drained.is_complete())
    }
}

/// Serves clients until `stop` is ready. Then accepts no more, and lets running requests end
/// for as long as the settings say; then closes the pools. `admin` is served until the end.
pub async fn serve(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    admin: Option<TcpListener>,
    stop: impl Future<Output = ()>,
) -> End {
    let mut tasks = health::look_after(&proxy);
    if let Some(listener) = admin {
        tasks.spawn(admin::serve(Arc::clone(&proxy), listener));
    }
    let mut clients = JoinSet::new();
    let (ending, receiver) = watch::channel(());
    {
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = clients.join_next() => {}
                (stream, client) = accept(&listener) => {
                    let proxy = Arc::clone(&proxy);
                    clients.spawn(serve_client(proxy, stream, client, receiver.clone()));
                }
            }
        }
    }
    drop(listener);
    proxy.ending.store(true, Ordering::Relaxed);
    ending.send_replace(());
    let start = Instant::now();
    let limit = proxy.drain_timeout().unwrap_or(Duration::MAX);
    _ = timeout(limit, async { while clients.join_next().await.is_some() {} }).await;
    let cut_off = clients.len();
    clients.shutdown().await;
    // Only now: a request that was under way may have needed a connection. What has ended
    // takes a moment to be given back.
    let left = limit.saturating_sub(start.elapsed()).max(LAST_RELEASES);
    End { cut_off, drained: proxy.drain(left).await }
}

/// The next one who connects.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves HTTP/1.1, and HTTP/2 to those who begin with it.
async fn serve_client(
    proxy: Arc<Proxy>,
    stream: TcpStream,
    client: SocketAddr,
    mut ending: watch::Receiver<()>,
) {
    _ = stream.set_nodelay(true);
    let has_asked = Arc::new(AtomicBool::new(false));
    let asking = Arc::clone(&has_asked);
    let service = service_fn(move |request| {
        // Relaxed: read by this task alone.
        asking.store(true, Ordering::Relaxed);
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.forward(request, client.ip()).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // With a timer, hyper does not wait for ever for a request's head.
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let silence = async {
        sleep(FIRST_REQUEST).await;
        if has_asked.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    // What breaks a client's connection is the client's business.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = silence => {}
        _ = ending.changed() => {
            serving.as_mut().graceful_shutdown();
            _ = serving.await;
        }
    }
}
