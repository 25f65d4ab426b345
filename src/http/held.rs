//! A connection while a request is on it, and until the end of its answer.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::RequestBody;
use super::connector::Connector;
use super::key::Key;
use super::outgoing::{Draft, Outgoing};
use super::upstream::{Sender, Upstream};
use crate::keep_alive::KeepAlive;
use crate::managed::{Meta, PooledOwned, SharedOwned};
use crate::settings::PutOptions;
use crate::token::Token;

/// How long a connection of HTTP/1 may take from the end of an answer until it is ready for
/// the next request: its task has to run, or the rest of a request is still being sent.
const READY_WAIT: Duration = Duration::from_secs(1);

/// If it is dropped, a connection of HTTP/1 is closed, because the rest of an answer may be
/// left in it; of HTTP/2 a stream ends, and nothing else.
pub(super) struct Held<B: RequestBody>(Option<Lease<B>>);

enum Lease<B: RequestBody> {
    Alone(PooledOwned<Key, Connector<B>>),
    Shared(SharedOwned<Key, Connector<B>>),
}

impl<B: RequestBody> Held<B> {
    pub fn alone(lease: PooledOwned<Key, Connector<B>>) -> Self {
        Self(Some(Lease::Alone(lease)))
    }

    pub fn shared(lease: SharedOwned<Key, Connector<B>>) -> Self {
        Self(Some(Lease::Shared(lease)))
    }

    fn lease(&self) -> &Lease<B> {
        self.0.as_ref().expect("it ends once")
    }

    pub fn upstream(&self) -> &Upstream<B> {
        match self.lease() {
            Lease::Alone(lease) => lease,
            Lease::Shared(lease) => lease,
        }
    }

    /// The connection, if nobody else has it.
    pub fn exclusive(&mut self) -> Option<&mut Upstream<B>> {
        match self.0.as_mut()? {
            Lease::Alone(lease) => Some(lease),
            Lease::Shared(lease) => lease.exclusive(),
        }
    }

    pub fn meta(&self) -> Meta {
        match self.lease() {
            Lease::Alone(lease) => lease.meta(),
            Lease::Shared(lease) => lease.meta(),
        }
    }

    pub fn token(&self) -> Token {
        match self.lease() {
            Lease::Alone(lease) => lease.token(),
            Lease::Shared(lease) => lease.token(),
        }
    }

    pub async fn send(
        &mut self,
        draft: Draft<B>,
        key: &Key,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing<B>>>> {
        let fate = &self.upstream().fate;
        fate.ask();
        let mut http2 = match &self.upstream().sender {
            Sender::Http2(sender) => sender.clone(),
            Sender::Http1(_) => {
                let upstream = self.exclusive().expect("HTTP/1 is for one at a time");
                let Sender::Http1(sender) = &mut upstream.sender else { unreachable!("as above") };
                return sender.try_send_request(draft.into_http1(key)).await;
            }
        };
        http2.try_send_request(draft.into_http2(key)).await
    }

    /// The end of an answer: the connection is for others, as soon as it is ready.
    pub fn finish(mut self, keep_alive: KeepAlive) {
        if self.upstream().is_closed() {
            return self.retire();
        }
        let Sender::Http1(sender) = &self.upstream().sender else { return self.release(None) };
        if sender.is_ready() {
            return self.release(Some(keep_alive));
        }
        // Its task has not run since, or has still to send.
        let Ok(runtime) = Handle::try_current() else { return self.close() };
        runtime.spawn(async move {
            let upstream = self.exclusive().expect("HTTP/1 is for one at a time");
            let Sender::Http1(sender) = &mut upstream.sender else { unreachable!("as above") };
            let ready = timeout(READY_WAIT, sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) { self.release(Some(keep_alive)) } else { self.close() }
        });
    }

    fn release(mut self, keep_alive: Option<KeepAlive>) {
        // What a server of HTTP/2 says of it is for nobody.
        let said = keep_alive.filter(|said| *said != KeepAlive::default()).map(PutOptions::from);
        match (self.0.take(), said) {
            (Some(Lease::Alone(lease)), None) => lease.release(),
            (Some(Lease::Alone(lease)), Some(said)) => lease.release_with(said),
            (Some(Lease::Shared(lease)), None) => lease.release(),
            (Some(Lease::Shared(lease)), Some(said)) => lease.release_with(said),
            (None, _) => {}
        }
    }

    /// The connection takes no more requests; what is under way goes on.
    pub fn retire(mut self) {
        match self.0.take() {
            Some(Lease::Alone(lease)) => lease.close(),
            Some(Lease::Shared(lease)) => {
                lease.drain();
                lease.close();
            }
            None => {}
        }
    }

    pub fn close(mut self) {
        match self.0.take() {
            Some(Lease::Alone(lease)) => lease.close(),
            Some(Lease::Shared(lease)) => lease.close(),
            None => {}
        }
    }

    /// The connection takes no more requests. If it was in use before, it had died of that.
    pub fn end(mut self, reused: bool) {
        match self.0.take() {
            Some(Lease::Alone(lease)) if reused => lease.close_dead(),
            Some(Lease::Shared(lease)) if reused => lease.close_dead(),
            lease => Self(lease).retire(),
        }
    }
}

impl<B: RequestBody> Drop for Held<B> {
    fn drop(&mut self) {
        let Some(lease) = self.0.take() else { return };
        let held = Self(Some(lease));
        match held.upstream().is_http1() {
            true => held.close(),
            false if held.upstream().is_closed() => held.retire(),
            false => held.release(None),
        }
    }
}
