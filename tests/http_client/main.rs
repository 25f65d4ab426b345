//! The HTTP client: hyper's servers, and some of a few lines, on loopback; each test starts
//! the server that it uses, and ends it.

mod example;
mod failures;
mod http1;
mod http2;
mod legacy;
mod origin;
mod settings;
mod support;
