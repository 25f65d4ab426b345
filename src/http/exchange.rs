//! One request, from its connection to the head of its answer.

use std::sync::Arc;

use http::header::{HeaderName, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body::{Body, Travel};
use super::builder::Versions;
use super::error::{Error, Refusal};
use super::held::Held;
use super::key::Key;
use super::outgoing::Draft;
use super::{Client, FreshOnly, Repeat, RequestBody, TlsName};
use crate::keep_alive::KeepAlive;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The most connections in a row that do not take a request any more, or whose server has not
/// looked at it: more than a server closes by chance at the same moment.
const STALE_MAX: usize = 4;

/// What has come of one attempt.
enum Attempt<B> {
    Answered(Response<Incoming>),
    /// Nothing was written. The request as it was.
    Unsent(Draft<B>, hyper::Error),
    Failed(hyper::Error),
    Late,
}

/// How a request is to be sent.
struct Plan {
    key: Key,
    fresh_only: bool,
    repeat: Repeat,
}

impl Plan {
    fn of<B>(request: &Request<B>) -> Result<Self, Error> {
        if request.method() == Method::CONNECT {
            return Err(Error::refused(Refusal::Method(Method::CONNECT)));
        }
        let mut key = Key::of(request.uri())?;
        if let Some(TlsName(name)) = request.extensions().get() {
            key = key.with_server_name(Arc::clone(name));
        }
        let repeat = match request.extensions().get() {
            _ if request.headers().contains_key(UPGRADE) => Repeat::Never,
            Some(repeat) => *repeat,
            None if request.method().is_idempotent() => Repeat::Allowed,
            None => Repeat::IfUnprocessed,
        };
        let fresh_only = request.extensions().get::<FreshOnly>().is_some();
        Ok(Self { key, fresh_only, repeat })
    }
}

impl<B: RequestBody> Client<B> {
    pub(super) async fn exchange(&self, request: Request<B>) -> Result<Response<Body>, Error> {
        let Plan { key, fresh_only, repeat } = Plan::of(&request)?;
        let mut draft = Draft::of(request);
        let (mut fresh, mut stale, mut repeated) = (fresh_only, 0, false);
        loop {
            let mut held = self.connection(&key, fresh).await?;
            let (meta, token) = (held.meta(), held.token());
            let http1 = held.upstream().is_http1();
            let spare = match repeat {
                // A new connection that dies is a server that fails: not repeated.
                Repeat::Allowed if http1 && (repeated || !meta.reused) => None,
                Repeat::IfUnprocessed if http1 => None,
                Repeat::Never => None,
                _ => draft.again(self.terms.clone),
            };
            match self.attempt(&mut held, draft, &key).await {
                Attempt::Answered(response) => {
                    let travel = Travel { token, connection: meta, repeated };
                    return Ok(answer(response, held, travel));
                }
                Attempt::Late => {
                    held.close();
                    let response_timeout = self.terms.response_timeout.unwrap_or_default();
                    return Err(Error::late(response_timeout));
                }
                Attempt::Unsent(unsent, error) => {
                    // It was closed since it was released; or by a server of HTTP/2 that goes
                    // away.
                    held.end(meta.reused);
                    stale += 1;
                    if http1 && !meta.reused || stale == STALE_MAX {
                        return Err(Error::exchange(error, repeated));
                    }
                    draft = unsent;
                }
                Attempt::Failed(error) => {
                    let answered = http1 && held.upstream().fate.is_answered();
                    let ended = is_end(&error) && !answered;
                    if ended {
                        held.end(meta.reused);
                    } else {
                        drop(held);
                    }
                    let dead = ended && meta.reused && !repeated;
                    draft = match spare {
                        Some(spare) if is_unprocessed(&error) && stale + 1 < STALE_MAX => {
                            stale += 1;
                            spare
                        }
                        Some(spare) if dead && repeat == Repeat::Allowed => {
                            repeated = true;
                            spare
                        }
                        _ => return Err(Error::exchange(error, true)),
                    };
                }
            }
            // Another one that was idle may be as dead. Of HTTP/2 this one serves nobody now,
            // and all who were on it share the next.
            fresh = fresh_only || http1;
        }
    }

    /// A connection for one request.
    async fn connection(&self, key: &Key, fresh: bool) -> Result<Held<B>, Error> {
        // Without TLS it is known what is spoken.
        let http1 =
            self.versions == Versions::Http1 || self.versions == Versions::Any && !key.is_https();
        let held = if fresh {
            self.pool.acquire_fresh_owned(key).await.map(Held::alone)
        } else if http1 {
            self.pool.acquire_owned(key).await.map(Held::alone)
        } else {
            self.pool.acquire_shared_owned(key).await.map(Held::shared)
        };
        held.map_err(Error::acquire)
    }

    async fn attempt(&self, held: &mut Held<B>, draft: Draft<B>, key: &Key) -> Attempt<B> {
        let target = draft.parts.uri.clone();
        let sent = held.send(draft, key);
        let outcome = match self.terms.response_timeout {
            None => sent.await,
            Some(time) => match timeout(time, sent).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => return Attempt::Late,
            },
        };
        match outcome {
            Ok(response) => Attempt::Answered(response),
            Err(mut error) => match error.take_message() {
                Some(request) => Attempt::Unsent(Draft::back(request, target), error.into_error()),
                None => Attempt::Failed(error.into_error()),
            },
        }
    }
}

/// The answer, whose body has the connection.
fn answer<B: RequestBody>(
    response: Response<Incoming>,
    mut held: Held<B>,
    travel: Travel,
) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(upstream) = held.exclusive() {
            upstream.hand_off();
        }
        held.close();
        return response.map(|incoming| Body::detached(incoming, travel));
    }
    let lines = response.headers().get_all(&KEEP_ALIVE).iter();
    let keep_alive = match response.version() {
        // There it is of no meaning.
        Version::HTTP_2 => KeepAlive::default(),
        _ => lines.map(KeepAlive::parse).fold(KeepAlive::default(), KeepAlive::and),
    };
    response.map(|incoming| Body::new(incoming, held, keep_alive, travel))
}

/// Whether it says that the connection has ended, and not that a request or an answer is
/// none, or that a stream of HTTP/2 has.
fn is_end(error: &hyper::Error) -> bool {
    let is_reset = of_http2(error).is_some_and(h2::Error::is_reset);
    !error.is_user() && !error.is_parse() && !error.is_body_write_aborted() && !is_reset
}

fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Whether a server of HTTP/2 says that it has not looked at the request: it refused the
/// stream, or went away before it came.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let Some(error) = of_http2(error) else { return false };
    let reason = error.reason();
    error.is_remote()
        && (error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM)
            || error.is_go_away() && reason == Some(h2::Reason::NO_ERROR))
}
