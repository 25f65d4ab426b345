//! The side that clients connect to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use slabpool::Drained;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Proxy;

/// Between attempts to accept, when there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How it ended.
#[derive(Debug)]
pub struct End {
    /// Clients that had to be cut off.
    pub cut_off: usize,
    /// What was left in the pool then.
    pub drained: Drained,
}

/// Serves clients until `stop` is ready. Then accepts no more, closes the pool, and lets
/// running requests end for at most `drain`; those that need another connection get one
/// beside the pool.
pub async fn serve(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> End {
    let mut stop = pin!(stop);
    let mut clients = JoinSet::new();
    let (draining, receiver) = watch::channel(());
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let proxy = Arc::clone(&proxy);
                    clients.spawn(serve_client(proxy, stream, client, receiver.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    draining.send_replace(());
    let drained = proxy.pool().drain(drain);
    let all = async { while clients.join_next().await.is_some() {} };
    _ = timeout(drain, all).await;
    let cut_off = clients.len();
    clients.shutdown().await;
    End { cut_off, drained: drained.await }
}

async fn serve_client(
    proxy: Arc<Proxy>,
    stream: TcpStream,
    client: SocketAddr,
    mut draining: watch::Receiver<()>,
) {
    _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.forward(request, client.ip()).await) }
    });
    let mut builder = http1::Builder::new();
    // With a timer, hyper does not wait for ever for a request's head.
    let serving = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    // What breaks a client's connection is the client's business.
    tokio::select! {
        _ = serving.as_mut() => {}
        _ = draining.changed() => {
            serving.as_mut().graceful_shutdown();
            _ = serving.await;
        }
    }
}
