//! Builds an HTTP client.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::connector::{Connector, Home};
use super::key::Key;
use super::{Client, RequestBody};
use crate::managed::{self, ConfigError, Pool};

type PoolBuilder<B> = managed::Builder<Key, Connector<B>>;

/// Builds a [`Client`]. Setters cannot fail; [`Builder::build`] checks everything.
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<B: RequestBody> {
    speech: Speech,
    pool: Box<dyn FnOnce(PoolBuilder<B>) -> PoolBuilder<B>>,
    terms: Terms<B>,
}

/// How connections speak.
#[derive(Clone)]
pub(super) struct Speech {
    pub versions: Versions,
    pub streams_max: u32,
    pub http2_ping: Option<(Duration, Duration)>,
    #[cfg(feature = "rustls")]
    pub tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

/// What versions of HTTP are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    Any,
    Http1,
    Http2,
}

/// How requests are sent.
pub(super) struct Terms<B> {
    pub response_timeout: Option<Duration>,
    pub clone: Option<fn(&B) -> Option<B>>,
}

impl<B> Clone for Terms<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Terms<B> {}

impl<B: RequestBody> Builder<B> {
    pub(super) fn new() -> Self {
        let speech = Speech {
            versions: Versions::Any,
            streams_max: 100,
            http2_ping: None,
            #[cfg(feature = "rustls")]
            tls: None,
        };
        let terms = Terms { response_timeout: None, clone: None };
        Self { speech, pool: Box::new(|pool| pool), terms }
    }

    /// Settings of the [pool](managed::Builder): limits, timeouts, who waits and how. A later
    /// call adds to an earlier one. The client itself has connections watched, and does not
    /// let them be released when they are dropped, whatever is said here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use slabpool::http::Client;
    ///
    /// let client = Client::<String>::builder()
    ///     .pool(|pool| pool.max_connections_per_group(16))
    ///     .pool(|pool| pool.settings(|pool| pool.idle_timeout(Duration::from_secs(20))))
    ///     .build()?;
    /// # Ok::<(), slabpool::managed::ConfigError>(())
    /// ```
    pub fn pool(mut self, set: impl FnOnce(PoolBuilder<B>) -> PoolBuilder<B> + 'static) -> Self {
        let before = self.pool;
        self.pool = Box::new(|pool| set(before(pool)));
        self
    }

    /// How TLS is spoken: whom to trust, and with what cryptography. Without it, `https` is
    /// an [error](super::ConnectError::NoTls). What it says of ALPN is replaced: the client
    /// offers the versions that it speaks.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, config: impl Into<Arc<tokio_rustls::rustls::ClientConfig>>) -> Self {
        self.speech.tls = Some(config.into());
        self
    }

    /// Speaks HTTP/1 and nothing else. Default: over TLS, HTTP/2 where the server agrees to
    /// it, and else HTTP/1; without TLS, HTTP/1.
    pub fn http1_only(mut self) -> Self {
        self.speech.versions = Versions::Http1;
        self
    }

    /// Speaks HTTP/2 and nothing else: over TLS, a server that does not agree to it is an
    /// [error](super::ConnectError::NoHttp2); without TLS, servers are known to speak it.
    pub fn http2_only(mut self) -> Self {
        self.speech.versions = Versions::Http2;
        self
    }

    /// The most requests at a time on a connection of HTTP/2, if the server allows as many.
    /// With 1, a connection is for one at a time. Default: 100.
    pub fn http2_max_streams(mut self, streams: NonZeroU32) -> Self {
        self.speech.streams_max = streams.get();
        self
    }

    /// Sends a ping on a connection of HTTP/2 that has requests under way and from which
    /// nothing has come for `interval`. If there is no answer within `timeout`, the
    /// connection is closed. Both above zero. Default: never.
    pub fn http2_ping(mut self, interval: Duration, timeout: Duration) -> Self {
        self.speech.http2_ping = Some((interval, timeout));
        self
    }

    /// How long a server may take from when the request is sent until the head of its answer
    /// is there, each time the request is sent. Above zero. Default: for ever.
    ///
    /// To get a connection has a time of its own:
    /// [`acquire_timeout`](managed::Builder::acquire_timeout).
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.terms.response_timeout = Some(timeout);
        self
    }

    /// Bodies can be cloned, and so requests be repeated that have one. Each request on a
    /// connection that was in use before is cloned if it may be repeated, so it should cost
    /// little. Default: only requests whose body is empty are repeated.
    pub fn repeat_bodies(self) -> Self
    where
        B: Clone,
    {
        self.repeat_bodies_with(|body| Some(body.clone()))
    }

    /// As [`repeat_bodies`](Builder::repeat_bodies), for bodies of which some can be cloned:
    /// those that are in memory, say. `None` is a body that cannot.
    pub fn repeat_bodies_with(mut self, clone: fn(&B) -> Option<B>) -> Self {
        self.terms.clone = Some(clone);
        self
    }

    /// Builds the client. Starts no thread and no task, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn build(self) -> Result<Client<B>, ConfigError> {
        #[cfg_attr(not(feature = "rustls"), expect(unused_mut, reason = "nothing to change"))]
        let Self { mut speech, pool, terms } = self;
        if terms.response_timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(ConfigError::Zero { setting: "response_timeout" });
        }
        if speech.http2_ping.is_some_and(|(interval, wait)| interval.is_zero() || wait.is_zero()) {
            return Err(ConfigError::Zero { setting: "http2_ping" });
        }
        #[cfg(feature = "rustls")]
        if let Some(config) = &mut speech.tls {
            let offers: &[&[u8]] = match speech.versions {
                Versions::Any => &[b"h2", b"http/1.1"],
                Versions::Http1 => &[b"http/1.1"],
                Versions::Http2 => &[b"h2"],
            };
            Arc::make_mut(config).alpn_protocols = offers.iter().map(|it| it.to_vec()).collect();
        }
        let versions = speech.versions;
        let home = Home::default();
        let connector = Connector { speech, home: Arc::clone(&home), _body: PhantomData };
        let pool = pool(Pool::builder(connector));
        // What is dropped is closed, whatever the pool was told: see `held.rs`.
        let pool = pool.settings(|pool| pool.watch()).build()?;
        // Weak, since the pool has the connector.
        let inner = Arc::downgrade(&pool.inner);
        let changed = move |key: &Key| {
            let pool = inner.upgrade().map(|inner| Pool { inner });
            pool.into_iter().for_each(|pool| pool.refresh_streams(key));
        };
        let bound = home.set(Box::new(changed)).is_ok();
        debug_assert!(bound, "a client is built once");
        Ok(Client { pool, terms, versions })
    }
}

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speech")
            .field("versions", &self.versions)
            .field("streams_max", &self.streams_max)
            .field("http2_ping", &self.http2_ping)
            .finish_non_exhaustive()
    }
}

impl<B: RequestBody> fmt::Debug for Builder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("speech", &self.speech)
            .field("response_timeout", &self.terms.response_timeout)
            .finish_non_exhaustive()
    }
}
