//! How connections are opened and looked at.

use crate::connection::Liveness;

/// Opens the connections of a [managed pool](crate::managed::Pool).
///
/// A closure that takes the key and returns a future is a manager:
///
/// ```
/// use slabpool::managed::Pool;
///
/// # async fn dial(_: String) -> std::io::Result<String> { Ok(String::new()) }
/// let pool = Pool::builder(|peer: &String| dial(peer.clone())).build()?;
/// # Ok::<(), slabpool::managed::ConfigError>(())
/// ```
pub trait Manager<K>: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;
    /// Why a connection could not be opened. All who wait for it are told, so it is shared.
    type Error: Send + Sync + 'static;

    /// Whether there is a [`probe`](Manager::probe). A manager that has none can say so, as
    /// closures do: then nobody is asked, neither when a connection is leased nor while it
    /// is idle. Default: `true`.
    const PROBES: bool = true;

    /// Opens a connection to a peer.
    ///
    /// Runs in a task of its own, so that a caller who goes away does not cancel what
    /// others can use. It is dropped when the
    /// [`connect_timeout`](crate::managed::Builder::connect_timeout) is over.
    ///
    /// # Panics
    ///
    /// If it does, its caller gets [`ConnectAborted`](crate::managed::AcquireError::ConnectAborted).
    fn connect(
        &self,
        key: &K,
    ) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// What is known of a connection that is about to be leased, without waiting; see
    /// [`slabpool::Builder::probe`](crate::Builder::probe). By default it is alive. Not
    /// called if [`PROBES`](Manager::PROBES) is `false`.
    fn probe(&self, connection: &mut Self::Connection) -> Liveness {
        let _ = connection;
        Liveness::Alive
    }

    /// How many a connection can serve at a time: what an HTTP/2 peer allows by
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`, for example. 1, the default, is a connection for one
    /// at a time. Of no effect but for [`acquire_shared`](crate::managed::Pool::acquire_shared);
    /// above 65,535 as 65,535.
    ///
    /// Asked whenever a stream begins, so it should be cheap: a number that is kept. It may
    /// change at any time. Streams that run go on when it falls. With 0 the connection takes no
    /// more, and stays until it says otherwise: nobody connects in its place meanwhile. That
    /// it has risen is seen when somebody asks for a stream; who waits already hears of it
    /// by [`refresh_streams`](crate::managed::Pool::refresh_streams).
    fn streams(&self, connection: &Self::Connection) -> u32 {
        let _ = connection;
        1
    }

    /// Whether a connection that was idle for
    /// [`check_after`](crate::managed::Builder::check_after) or longer can be used: it may
    /// send a ping, and await the answer. By default it can.
    ///
    /// Runs in the caller's own time. If the caller goes away meanwhile, the connection is
    /// closed, since half a ping may be left in it.
    fn check(&self, connection: &mut Self::Connection) -> impl Future<Output = bool> + Send {
        let _ = connection;
        async { true }
    }
}

impl<K, F, A, C, E> Manager<K> for F
where
    F: Fn(&K) -> A + Send + Sync + 'static,
    A: Future<Output = Result<C, E>> + Send,
    C: Send + 'static,
    E: Send + Sync + 'static,
{
    type Connection = C;
    type Error = E;

    const PROBES: bool = false;

    fn connect(&self, key: &K) -> impl Future<Output = Result<C, E>> + Send {
        self(key)
    }
}
