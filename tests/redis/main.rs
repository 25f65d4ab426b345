//! The proxy of `examples/redis_proxy`, which has a managed pool, with a real
//! `redis-server`, and with servers that the tests play themselves.
//!
//! Each test starts what it uses, on a free port of loopback, and ends it. Without
//! `redis-server` they fail, and say how to get it.

#[path = "../../examples/redis_proxy/client.rs"]
mod client;
#[path = "../../examples/redis_proxy/proxy/mod.rs"]
#[expect(dead_code, reason = "the example uses more of it")]
mod proxy;
#[path = "../../examples/redis_proxy/redis.rs"]
mod redis;

mod failures;
mod frames;
mod load;
mod odd_servers;
mod sessions;
mod support;
