//! The task that maintains a pool under tokio.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::engine::Engine;
use crate::events::event;

impl<K: Send + Sync + 'static, C: Send + 'static> Engine<K, C> {
    /// The future that maintains the pool for as long as it exists.
    pub fn reaper(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<K, C> {
        run(Arc::downgrade(self), self.config.tick)
    }

    /// Starts a reaper, if this thread is in a tokio runtime and none runs.
    pub fn ensure_reaper(&self) {
        // Relaxed: it only decides who starts one.
        if !self.config.spawn_reaper || self.maintainer.running.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.maintainer.running.swap(true, Ordering::Relaxed) {
            event!(debug, "reaper started");
            let running = Running(self.me.clone());
            let reaper = run(self.me.clone(), self.config.tick);
            runtime.spawn(async move {
                let _running = running;
                reaper.await;
            });
        }
    }
}

/// Says that no reaper runs any more, also when its runtime shuts down.
struct Running<K, C>(Weak<Engine<K, C>>);

impl<K, C> Drop for Running<K, C> {
    fn drop(&mut self) {
        // It panics where a runtime has no time. The next one would as well, and
        // each insertion would start one.
        if std::thread::panicking() {
            return;
        }
        if let Some(engine) = self.0.upgrade() {
            engine.maintainer.running.store(false, Ordering::Relaxed);
        }
    }
}

async fn run<K, C>(engine: Weak<Engine<K, C>>, tick: std::time::Duration) {
    let Some(belfry) = engine.upgrade().map(|engine| Arc::clone(engine.bells.belfry())) else {
        return;
    };
    let mut wait = tick;
    loop {
        // At the next tick, or sooner if there is something to tend, or when a bell is rung.
        let _elapsed = tokio::time::timeout(wait, belfry.rung()).await;
        loop {
            let Some(engine) = engine.upgrade() else { return };
            let more = engine.step().more;
            let due = engine.config.landing.as_ref().and_then(|landing| landing.due());
            wait = due.map_or(tick, |due| due.min(tick));
            drop(engine);
            // Also when it was the last: the next wait may be over at once.
            tokio::task::yield_now().await;
            if !more {
                break;
            }
        }
    }
}
