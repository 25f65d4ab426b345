//! When the last connect of a closed pool has ended.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// Whether anybody may wait.
    awaited: AtomicBool,
    ended: Notify,
}

impl Quiet {
    /// A connect has ended, and its permit is freed: wakes those who wait for that.
    pub fn note(&self) {
        // SeqCst: pairs with the fence in `wait`. Either that one sees the freed permit, or
        // this one sees that it waits. Many connects do not come this way: those that end
        // well, as most do, free no permit.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it.
        if self.awaited.load(Ordering::Relaxed) {
            self.ended.notify_waiters();
        }
    }

    /// Waits until `is_quiet`, which was or will be so when a connect has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the waiting.
    pub async fn wait(&self, is_quiet: impl Fn() -> bool) {
        // Relaxed: the fence orders it.
        self.awaited.store(true, Ordering::Relaxed);
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            // SeqCst: pairs with the fence in `note`.
            fence(Ordering::SeqCst);
            if is_quiet() {
                return;
            }
            ended.await;
        }
    }
}
