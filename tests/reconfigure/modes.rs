//! How connections are closed.

use std::sync::{Arc, Mutex};

use slabpool::{CloseMode, CloseReason, Connection, Liveness, Pool};

/// A connection that says how it is closed.
struct Told(Arc<Mutex<Vec<String>>>);

impl Connection for Told {
    fn liveness(&mut self) -> Liveness {
        Liveness::Alive
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        self.0.lock().unwrap().push(format!("{mode:?}"));
        if mode == CloseMode::Abort && self.0.lock().unwrap().len() > 4 {
            std::panic::resume_unwind(Box::new("it cannot"));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("dropped".to_owned());
    }
}

#[test]
fn connections_are_closed_in_the_mode_of_the_settings() {
    for with_hook in [false, true] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut builder = Pool::<u8, Told>::builder().close_mode(CloseMode::Graceful);
        let hook = Arc::clone(&told);
        if with_hook {
            builder = builder.on_close(move |_, _connection, reason| {
                hook.lock().unwrap().push(reason.name().to_owned());
            });
        }
        let pool = builder.build().unwrap();
        let read = |expected: &[&str]| {
            let mut told = told.lock().unwrap();
            let expected = expected
                .iter()
                .filter(|what| with_hook || !["unhealthy", "cleared"].contains(what));
            assert!(told.iter().eq(expected), "{told:?}");
            told.clear();
        };
        pool.insert(&1, Told(Arc::clone(&told))).unwrap().close();
        read(&["Graceful", "unhealthy", "dropped"]);
        pool.reconfigure(|settings| settings.close_mode = CloseMode::Abort).unwrap();
        pool.insert(&1, Told(Arc::clone(&told))).unwrap().release();
        pool.clear();
        read(&["Abort", "cleared", "dropped"]);
        // Not for those that leave alive.
        let token = pool.put(&1, Told(Arc::clone(&told))).unwrap();
        drop(pool.take(token));
        drop(pool.insert(&1, Told(Arc::clone(&told))).unwrap().detach());
        read(&["dropped", "dropped"]);
        // If that panics, the connection is closed all the same.
        told.lock().unwrap().extend(["", "", "", ""].map(str::to_owned));
        pool.insert(&1, Told(Arc::clone(&told))).unwrap().close();
        read(&["", "", "", "", "Abort", "unhealthy", "dropped"]);
        assert_eq!((pool.stats().panics, pool.stats().closes[CloseReason::Unhealthy]), (1, 2));
    }
}

#[test]
fn without_a_mode_in_the_builder_connections_are_just_dropped() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let pool = Pool::<u8, Told>::new();
    pool.reconfigure(|settings| settings.close_mode = CloseMode::Abort).unwrap();
    pool.insert(&1, Told(Arc::clone(&told))).unwrap().close();
    assert_eq!(*told.lock().unwrap(), ["dropped"]);
}
