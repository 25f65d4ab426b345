//! fast_pool, as the other pools whose callers wait.

use std::future::Future;

use super::Connection;
use super::managed::{Numbers, Subject, TIMEOUT};

/// It checks each connection before it hands it out: here there is nothing to check, but two
/// timers are armed for each acquire.
#[derive(Clone, Debug)]
pub struct FastPool(fast_pool::Pool<Numbers>);

impl fast_pool::Manager for Numbers {
    type Connection = Connection;
    type Error = String;

    async fn connect(&self) -> Result<Connection, String> {
        Ok(0)
    }

    async fn check(&self, _: &mut Connection) -> Result<(), String> {
        Ok(())
    }
}

impl Subject for FastPool {
    type Lease<'a> = fast_pool::ConnectionGuard<Numbers>;
    type Error = String;

    async fn new(connections: usize) -> Self {
        let pool = fast_pool::Pool::new(Numbers);
        pool.set_max_open(connections as u64);
        pool.set_timeout_wait(Some(TIMEOUT));
        Self(pool)
    }

    #[inline(always)]
    fn acquire(&self) -> impl Future<Output = Result<Self::Lease<'_>, Self::Error>> + Send {
        self.0.get()
    }
}
