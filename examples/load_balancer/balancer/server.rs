//! The side that clients connect to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use slabpool::managed::Drained;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Balancer;
use super::health::check_all;

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

/// Serves clients and checks hosts until `stop` is ready. Then accepts no more, and lets
/// running requests end for at most `drain`; they may still be repeated.
pub async fn serve(
    balancer: Arc<Balancer>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> End {
    let mut stop = pin!(stop);
    let checks = check_all(&balancer);
    let mut clients = JoinSet::new();
    let (draining, receiver) = watch::channel(());
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let balancer = Arc::clone(&balancer);
                    clients.spawn(serve_client(balancer, stream, client, receiver.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    draining.send_replace(());
    let all = async { while clients.join_next().await.is_some() {} };
    _ = timeout(drain, all).await;
    let cut_off = clients.len();
    clients.shutdown().await;
    drop(checks);
    // A connect that nobody waits for any more goes on until it has ended.
    let drained = balancer.pool.drain(balancer.settings.connect_timeout).await;
    End { cut_off, drained }
}

async fn serve_client(
    balancer: Arc<Balancer>,
    stream: TcpStream,
    client: SocketAddr,
    mut draining: watch::Receiver<()>,
) {
    _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let balancer = Arc::clone(&balancer);
        async move { Ok::<_, Infallible>(balancer.forward(request, client.ip()).await) }
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
