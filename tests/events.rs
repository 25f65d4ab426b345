//! What the pool says through `tracing`, and that it says nothing on the way of a hit.

mod common;

use std::fmt;
use std::sync::{Arc, Mutex};

use common::{SECOND, Tally};
use slabpool::{Clock, Pool};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down all events of the pool.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl Listener {
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => self.0.push_str(&format!(" {name}={value:?}")),
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "slabpool"
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), line.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn cold_paths_say_what_happens() {
    let (listener, tally, clock) = (Listener::default(), Tally::default(), Clock::manual());
    let _guard = tracing::subscriber::set_default(listener.clone());
    let pool = Pool::<String, _>::builder()
        .capacity(2)
        .idle_timeout(10 * SECOND)
        .clock(clock.clone())
        .group_names(|key| format!("to {key}"))
        .on_close(|_, connection: common::Connection, _| {
            assert!(connection.id != 13, "this one is unlucky");
        })
        .build()
        .unwrap();

    pool.put("a", tally.connect(1)).unwrap();
    for _ in 0..3 {
        pool.get("a").unwrap().release();
    }
    assert!(listener.heard().is_empty(), "nothing is said of what goes well");

    clock.advance(11 * SECOND);
    pool.maintain();
    assert_eq!(listener.heard(), ["DEBUG connection closed group=to a reason=idle"]);

    drop(pool.insert("a", tally.connect(2)).unwrap());
    assert_eq!(listener.heard(), ["DEBUG connection closed group=to a reason=dropped"]);

    pool.put("a", tally.connect(13)).unwrap();
    pool.clear();
    assert_eq!(
        listener.heard(),
        [
            "DEBUG connection closed group=to a reason=cleared",
            "ERROR a hook or a destructor has panicked",
        ]
    );

    let group = pool.group("a");
    group.drain();
    assert!(pool.put("a", tally.connect(3)).is_err());
    group.resume();
    pool.reconfigure(|settings| settings.capacity = 1).unwrap();
    pool.close();
    let heard = listener.heard();
    assert_eq!(heard[0], "INFO group drained group=to a");
    assert!(heard[1].starts_with("DEBUG connection not taken reason="), "{heard:?}");
    assert_eq!(
        heard[2..],
        ["INFO group resumed group=to a", "INFO pool reconfigured", "INFO pool closed"]
    );
}

#[test]
fn a_group_without_a_name_is_a_number() {
    let listener = Listener::default();
    let _guard = tracing::subscriber::set_default(listener.clone());
    let pool = Pool::<u32, u32>::builder().build().unwrap();
    pool.put(&7, 1).unwrap();
    pool.clear();
    let heard = listener.heard();
    let line = heard.iter().find(|line| line.contains("closed")).unwrap();
    let name = line.split("group=").nth(1).unwrap().split(' ').next().unwrap();
    assert!(name.len() == 16 && u64::from_str_radix(name, 16).is_ok(), "{line}");
}

#[test]
fn failed_connects_and_peers_that_are_down() {
    let listener = Listener::default();
    let _guard = tracing::subscriber::set_default(listener.clone());
    let pool = slabpool::managed::Pool::builder(|_: &u32| async { Err::<u32, _>("nobody there") })
        .settings(|pool| pool.group_names(|key| format!("peer {key}")).spawn_reaper(false))
        .down_after(2)
        .build()
        .unwrap();
    common::paused_runtime().block_on(async {
        for _ in 0..3 {
            assert!(pool.acquire(&7).await.is_err());
        }
    });
    let heard = listener.heard();
    let starts = |line: &String, start: &str| line.starts_with(start);
    let failed = "DEBUG connect failed group=peer 7 after=";
    let [first, second, down] = &heard[..] else { panic!("{heard:?}") };
    assert!(starts(first, failed) && starts(second, failed), "{heard:?}");
    assert!(first.ends_with("cause=\"connect\""), "{first}");
    assert_eq!(down, "WARN peer is down group=peer 7");
}
