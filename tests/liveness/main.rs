//! What `Connection` says of real connections: sockets, TLS, hyper, and types that ask
//! what is inside of them.
//!
//! All on loopback. Events are waited for, and nothing is timed.

#[cfg(all(feature = "std-net", unix))]
mod blocking;
mod delegation;
#[cfg(feature = "hyper")]
mod http;
#[cfg(all(feature = "net", unix))]
mod outside;
#[cfg(all(feature = "net", unix))]
mod sockets;
#[cfg(all(feature = "rustls", unix))]
mod tls;
#[cfg(any(feature = "hyper", all(feature = "net", unix)))]
mod watcher;
