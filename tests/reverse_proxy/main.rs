//! The proxy of `examples/reverse_proxy` on real sockets.

#[path = "../../examples/reverse_proxy/proxy/mod.rs"]
#[expect(dead_code, reason = "the example uses more of it")]
mod proxy;

#[path = "../http_client/origin.rs"]
#[expect(dead_code, reason = "others use more of it")]
mod origin;

mod config;
mod pages;
mod service;
mod sockets;
mod support;
mod upstreams;
