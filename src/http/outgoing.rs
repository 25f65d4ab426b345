//! What is sent: the request as its connection wants it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, Version};
use http_body::{Body, Frame, SizeHint};

use super::key::Key;

/// The body of a request. One that is empty can be sent again, whatever its type.
#[derive(Debug)]
pub enum Outgoing<B> {
    Empty,
    Body(B),
}

impl<B: Body> Outgoing<B> {
    pub fn of(body: B) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Body(body) }
    }

    /// The same body once more, if there is a way to have that.
    pub fn again(&self, clone: Option<fn(&B) -> Option<B>>) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Body(body) => clone?(body).map(Self::Body),
        }
    }
}

impl<B: Body + Unpin> Body for Outgoing<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Body(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Body(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Body(body) => body.size_hint(),
        }
    }
}

/// A request that is kept, to be written once or twice.
pub struct Draft<B> {
    pub parts: Parts,
    pub body: Outgoing<B>,
}

impl<B: Body> Draft<B> {
    pub fn of(request: Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        Self { parts, body: Outgoing::of(body) }
    }

    /// One that was not written after all, whose target was this.
    pub fn back(request: Request<Outgoing<B>>, target: Uri) -> Self {
        let (mut parts, body) = request.into_parts();
        let written = parts
            .uri
            .authority()
            .filter(|&it| parts.uri.scheme().is_some() && target.authority() != Some(it));
        // What `into_http2` has made of it.
        if let Some(host) = written.and_then(|it| HeaderValue::from_str(it.as_str()).ok()) {
            parts.headers.insert(HOST, host);
        }
        parts.uri = target;
        Self { parts, body }
    }

    /// The same request once more, if there is a way to have its body.
    pub fn again(&self, clone: Option<fn(&B) -> Option<B>>) -> Option<Self> {
        let body = self.body.again(clone)?;
        Some(Self { parts: self.parts.clone(), body })
    }

    /// The request for HTTP/1: the target by its path, the peer in `Host`.
    pub fn into_http1(self, key: &Key) -> Request<Outgoing<B>> {
        let Self { mut parts, body } = self;
        if parts.version != Version::HTTP_10 {
            parts.version = Version::HTTP_11;
        }
        if !parts.headers.contains_key(HOST) {
            // An authority has no character that a header may not have.
            let host = HeaderValue::from_str(key.authority());
            host.into_iter().for_each(|host| drop(parts.headers.insert(HOST, host)));
        }
        let path = parts.uri.into_parts().path_and_query;
        parts.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
        Request::from_parts(parts, body)
    }

    /// The request for HTTP/2: the target as a whole, of the host that `Host` names.
    pub fn into_http2(self, key: &Key) -> Request<Outgoing<B>> {
        let Self { mut parts, body } = self;
        parts.version = Version::HTTP_2;
        let mut uri = parts.uri.into_parts();
        // Without user information, which is not for the server.
        if uri.authority.as_ref().is_some_and(|written| written.as_str().contains('@')) {
            uri.authority = key.authority().parse().ok();
        }
        // In HTTP/2 the authority is what `Host` is in HTTP/1, and there must not be two.
        let host = parts.headers.remove(HOST).and_then(|host| host.to_str().ok()?.parse().ok());
        uri.authority = host.or(uri.authority);
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
        Request::from_parts(parts, body)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use http::header::HOST;

    use super::{Draft, Key};

    #[derive(Debug)]
    struct Nothing;

    impl http_body::Body for Nothing {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(None)
        }
    }

    fn draft(host: Option<&str>) -> Draft<Nothing> {
        let mut request = Request::get("http://u:p@10.0.0.1:80/x").body(Nothing).unwrap();
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.parse().unwrap());
        }
        Draft::of(request)
    }

    #[test]
    fn the_host_that_is_named_is_the_authority() {
        let target = "http://u:p@10.0.0.1:80/x".parse().unwrap();
        let key = Key::of(&target).unwrap();
        for (named, expected) in
            [(Some("a.example:81"), "a.example:81"), (None, "10.0.0.1"), (Some("a b"), "10.0.0.1")]
        {
            let request = draft(named).into_http2(&key);
            assert_eq!(request.uri().to_string(), format!("http://{expected}/x"));
            assert!(!request.headers().contains_key(HOST));
            // Not written after all, and sent again, in whatever version.
            let again = Draft::back(request, target.clone()).into_http2(&key);
            assert_eq!(again.uri().authority().unwrap(), expected);
            let again = Draft::back(again, target.clone());
            assert_eq!(again.parts.uri, target);
            let request = again.into_http1(&key);
            assert_eq!(
                (request.uri(), &request.headers()[HOST]),
                (&"/x".parse().unwrap(), &expected.parse().unwrap())
            );
        }
    }
}
