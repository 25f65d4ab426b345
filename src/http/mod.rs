//! An HTTP client whose connections are in a [managed pool](crate::managed::Pool).
//!
//! ```
//! use slabpool::http::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::<String>::builder()
//!     .pool(|pool| pool.max_connections_per_group(16))
//!     .build()?;
//!
//! let request = http::Request::get("http://10.0.0.7/status").body(String::new())?;
//! let response = client.request(request).await?;
//! assert_eq!(response.status(), 200);
//! // The connection is for others when the body was read to its end.
//! # Ok(())
//! # }
//! ```
//!
//! It speaks HTTP/1 and HTTP/2 over TCP, and with feature `rustls` over TLS, where the server
//! decides by ALPN. It is a [`tower_service::Service`] too.
//!
//! * *A connection of HTTP/1* has one request at a time. It is idle again when the [`Body`] of
//!   the answer was read to its end and the connection is ready for more. A body that is
//!   dropped before that closes it, and so does a request whose caller goes away. It stays
//!   idle no longer than the server's `Keep-Alive` says.
//! * *A connection of HTTP/2* has as many as the server allows, up to
//!   [`http2_max_streams`](Builder::http2_max_streams); another one is opened when they are
//!   used up. When the server allows more (`SETTINGS`), those who wait have them at once, but
//!   for a connection that allowed one alone when it was taken, which others have when that
//!   request ends; when it allows fewer, what is under way goes on. Until it has said how
//!   many, they are 100.
//!   A server that goes away (`GOAWAY`) gets no more, and finishes those it has.
//! * *A connection that dies* while it is idle is noticed, and not used. There is no way to
//!   know of one whose end is still on its way. A request that fails on it before the first
//!   byte of an answer is sent once more, on another connection, if it [may](Repeat) be sent
//!   twice. One on a new connection is not.
//! * *Limits, time to wait, time to connect* are those of the [pool](Builder::pool).
//!
//! It does what a connection needs, and no more: there are no redirects, cookies, proxies or
//! codings, and of the addresses of a host one is tried after the other.

mod body;
mod builder;
mod connector;
mod error;
mod exchange;
mod frames;
mod held;
mod key;
mod outgoing;
mod upstream;

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{Request, Response};
use http_body::Body as HttpBody;

pub use self::body::{Body, Travel};
pub use self::builder::Builder;
pub use self::connector::Connector;
pub use self::error::{ConnectError, Error};
pub use self::key::Key;
pub use self::upstream::Upstream;
use crate::managed::Pool;
use builder::{Terms, Versions};

/// What the body of a request must be: [`http_body::Body`], to be sent by another task. All
/// that are so have it.
pub trait RequestBody:
    HttpBody<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> RequestBody for B where
    B: HttpBody<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static
{
}

/// An HTTP client. A clone is another handle to the same connections. See the
/// [module](crate::http).
pub struct Client<B: RequestBody> {
    pool: Pool<Key, Connector<B>>,
    terms: Terms<B>,
    versions: Versions,
}

/// Extension of a request that is to have a new connection, and no other: because it must
/// not fail on one that was idle. Of HTTP/2 it has it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshOnly;

/// Extension of a request that goes by another name than its target's host when TLS asks who
/// the server is; see [`Key::with_server_name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsName(pub Arc<str>);

/// Extension of a request: whether it may be sent once more, when a connection that was in
/// use before dies under it.
///
/// By default it goes by the method, as RFC 9110 has it: `GET`, `HEAD`, `PUT`, `DELETE`,
/// `OPTIONS` and `TRACE` are [`Allowed`](Repeat::Allowed), all others are
/// [`IfUnprocessed`](Repeat::IfUnprocessed), and those that ask for an upgrade
/// [`Never`](Repeat::Never). Its body must be empty, or one that the client can
/// [clone](Builder::repeat_bodies). What was never written is sent in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeat {
    /// Not if any of it was written.
    Never,
    /// If the server says that it has not looked at it, which it can in HTTP/2.
    IfUnprocessed,
    /// If nothing of an answer has come.
    Allowed,
}

impl<B: RequestBody> Client<B> {
    /// A client with the settings of [`Builder`]'s defaults: without TLS.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn new() -> Self {
        Self::builder().build().expect("the defaults work")
    }

    /// Builds a client. See [`Builder`].
    pub fn builder() -> Builder<B> {
        Builder::new()
    }

    /// Sends a request, and returns when the head of its answer is there. The target must be
    /// whole: `http://` or `https://`, and a host. `Host` is added if it is not there; if it is,
    /// the request goes to the host of the target, and asks for that one. In HTTP/2, it
    /// becomes the `:authority`.
    ///
    /// The connection stays with the [`Body`] of the answer. An upgrade
    /// (`101 Switching Protocols`) takes its connection out of the pool: see
    /// [`hyper::upgrade::on`].
    ///
    /// # Errors
    ///
    /// [`Error`] says whether the request may have reached the server. An answer of status
    /// 500 is none.
    ///
    /// # Panics
    ///
    /// If it is polled outside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// To drop it gives up the request, which the server may have got. A connection of HTTP/1
    /// that it was on is closed, a stream of HTTP/2 is reset. A connect goes on, for others.
    pub async fn request(&self, request: Request<B>) -> Result<Response<Body>, Error> {
        self.exchange(request).await
    }

    /// Where the connections are: for its numbers, to drain it, to take peers out of service.
    pub fn pool(&self) -> &Pool<Key, Connector<B>> {
        &self.pool
    }
}

impl<B: RequestBody> Default for Client<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// The future of a [`Client`] as a [`tower_service::Service`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Always ready: who waits, waits for a connection, after it was said where to.
impl<B: RequestBody> tower_service::Service<Request<B>> for Client<B> {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let client = self.clone();
        ResponseFuture(Box::pin(async move { client.exchange(request).await }))
    }
}

/// As [`Client`] itself.
impl<B: RequestBody> tower_service::Service<Request<B>> for &Client<B> {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let client = Client::clone(self);
        ResponseFuture(Box::pin(async move { client.exchange(request).await }))
    }
}

impl<B: RequestBody> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), terms: self.terms, versions: self.versions }
    }
}

impl<B: RequestBody> fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &self.pool).finish_non_exhaustive()
    }
}
