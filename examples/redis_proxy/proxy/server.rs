//! The side that clients connect to.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use slabpool::managed::Drained;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Proxy;
use super::session::Session;

/// Between attempts to accept, when there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// For what the last clients have left in the pool.
const POOL_PAUSE: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug)]
pub struct End {
    /// Clients that had to be cut off.
    pub cut_off: usize,
    /// What was left in the pool then.
    pub drained: Drained,
}

/// Serves clients until `stop` is ready. Then accepts no more, and lets commands and
/// transactions that have begun end for at most `drain`; clients that block, or have
/// nothing to do, are let go at once.
pub async fn serve(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> End {
    let mut stop = pin!(stop);
    let mut clients = JoinSet::new();
    let (draining, receiver) = watch::channel(false);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    _ = stream.set_nodelay(true);
                    let (proxy, receiver) = (Arc::clone(&proxy), receiver.clone());
                    clients.spawn(async move { Session::new(&proxy, stream, receiver).run().await });
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    draining.send_replace(true);
    let all = async { while clients.join_next().await.is_some() {} };
    _ = timeout(drain, all).await;
    let cut_off = clients.len();
    clients.shutdown().await;
    End { cut_off, drained: proxy.pool().drain(POOL_PAUSE).await }
}
