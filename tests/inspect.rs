//! The dump for humans: what it says of idle, leased and leaving connections.

mod common;

use std::time::Duration;

use common::{SECOND, Tally, keep_alive};
use serde_json::json;
use slabpool::{Clock, ConnectionState, ManualClock, Pool};

fn pool(clock: &ManualClock) -> Pool<String, common::Connection> {
    Pool::builder()
        .capacity(8)
        .idle_timeout(Some(30 * SECOND))
        .max_lifetime(Some(600 * SECOND))
        .lifetime_jitter(0.0)
        .clock(clock)
        .build()
        .unwrap()
}

#[test]
fn every_connection_is_a_line() {
    let (tally, clock) = (Tally::default(), Clock::manual());
    let pool = pool(&clock);
    let old = pool.put("a", tally.connect(1)).unwrap();
    clock.advance(2 * SECOND);
    let new = pool.put("a", tally.connect(2)).unwrap();
    let other = pool.insert("b", tally.connect(3)).unwrap();
    clock.advance(SECOND);
    pool.get("a").unwrap().release();
    clock.advance(Duration::from_millis(1_500));

    let snapshot = pool.inspect();
    assert_eq!((snapshot.status.idle, snapshot.status.leased), (2, 1));
    let [a, b] = &snapshot.groups[..] else { panic!("two groups in {snapshot:?}") };
    assert_eq!((&*a.key, &*b.key, a.draining), ("a", "b", false));
    let [first, second] = &a.connections[..] else { panic!("two lines in {a:?}") };
    assert_eq!((first.token, second.token), (new, old), "the last one released on top");
    assert_eq!((first.uses, second.uses), (1, 0));
    assert_eq!(first.idle_for, Some(Duration::from_millis(1_500)));
    assert_eq!(second.idle_for, Some(Duration::from_millis(4_500)));
    assert_eq!(second.age, Duration::from_millis(4_500));
    assert_eq!(second.expires_in, Some(Duration::from_millis(25_500)));
    let line = &b.connections[0];
    assert_eq!((line.token, line.state, line.uses), (other.token(), ConnectionState::Leased, 1));
    assert_eq!((line.idle_for, line.age), (None, Duration::from_millis(2_500)));
    assert_eq!(line.expires_in, Some(Duration::from_millis(597_500)), "its lifetime ends then");
}

#[test]
fn who_must_go_at_release_is_leaving() {
    let (tally, clock) = (Tally::default(), Clock::manual());
    let pool = pool(&clock);
    let states = || -> Vec<ConnectionState> {
        let groups = pool.inspect().groups;
        groups.iter().flat_map(|group| &group.connections).map(|line| line.state).collect()
    };
    let evicted = pool.insert("a", tally.connect(1)).unwrap();
    assert_eq!(states(), [ConnectionState::Leased]);
    assert!(pool.evict(evicted.token()));
    assert_eq!(states(), [ConnectionState::Leaving]);
    evicted.release();
    assert!(states().is_empty());

    let drained = pool.insert("b", tally.connect(2)).unwrap();
    pool.group("b").drain();
    assert_eq!(states(), [ConnectionState::Leaving]);
    assert!(pool.inspect().groups.iter().any(|group| group.draining));
    drained.release();
}

#[test]
fn it_is_a_table() {
    let (tally, clock) = (Tally::default(), Clock::manual());
    let pool = pool(&clock);
    pool.put_with("10.0.0.7:443", tally.connect(1), keep_alive(5 * SECOND)).unwrap();
    clock.advance(Duration::from_millis(1_200));
    let lease = pool.insert("10.0.0.7:443", tally.connect(2)).unwrap();
    let table = pool.inspect().to_string();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "1 idle, 1 leased, 1 groups, capacity 8");
    assert_eq!(lines[2], "\"10.0.0.7:443\": 1 idle, 1 leased");
    let words = |line: &'static str| line.split_whitespace().collect::<Vec<_>>();
    assert_eq!(
        words("token state age idle uses expires"),
        lines[3].split_whitespace().collect::<Vec<_>>()
    );
    let idle: Vec<&str> = lines[4].split_whitespace().collect();
    assert_eq!(idle[1..], ["idle", "1.2", "s", "1.2", "s", "0", "3.8", "s"]);
    let leased: Vec<&str> = lines[5].split_whitespace().collect();
    assert_eq!(leased[0], lease.token().to_string());
    assert_eq!(leased[1..], ["leased", "0", "us", "-", "1", "10", "min"]);
}

#[test]
fn it_can_be_serialized() {
    let (tally, clock) = (Tally::default(), Clock::manual());
    let pool = pool(&clock);
    let token = pool.put("a", tally.connect(1)).unwrap();
    clock.advance(Duration::from_millis(500));
    assert_eq!(
        serde_json::to_value(pool.inspect()).unwrap(),
        json!({
            "status": { "idle": 1, "leased": 0, "groups": 1, "capacity": 8 },
            "groups": [{
                "key": "a",
                "draining": false,
                "lanes": 1,
                "connections": [{
                    "token": token.to_string(),
                    "state": "idle",
                    "age": 0.5,
                    "idle_for": 0.5,
                    "uses": 0,
                    "expires_in": 29.5,
                }],
            }],
        })
    );
}

#[test]
fn it_may_be_taken_while_others_work() {
    let tally = Tally::default();
    let pool = Pool::<u32, common::Connection>::builder().capacity(16).build().unwrap();
    std::thread::scope(|scope| {
        for id in 0..2 {
            let (pool, tally) = (pool.clone(), tally.clone());
            scope.spawn(move || {
                for turn in 0..2_000 {
                    match pool.get(&(turn % 3)) {
                        Some(lease) if turn % 5 == 0 => lease.close(),
                        Some(lease) => lease.release(),
                        None => pool.insert(&(turn % 3), tally.connect(id)).unwrap().release(),
                    }
                }
            });
        }
        for _ in 0..200 {
            let snapshot = pool.inspect();
            let lines = snapshot.groups.iter().map(|group| group.connections.len()).sum::<usize>();
            assert!(lines <= 16, "{lines} connections in a pool of 16");
        }
    });
    let snapshot = pool.inspect();
    let lines =
        snapshot.groups.iter().map(|group| group.count(ConnectionState::Idle)).sum::<usize>();
    assert_eq!((lines, snapshot.status.leased), (tally.alive(), 0));
}
