//! What `Connection` says of real connections: sockets, TLS, hyper, and types that ask
//! what is inside of them.
//!
//! All on loopback. Events are waited for, and nothing is timed.

#[cfg(all(feature = "std-net", unix))]
mod blocking;
mod delegation;
#[cfg(feature = "hyper")]
mod http;
#[cfg(feature = "net")]
mod outside;
#[cfg(feature = "net")]
mod sockets;
#[cfg(feature = "rustls")]
mod tls;
#[cfg(any(feature = "hyper", feature = "net"))]
mod watcher;
