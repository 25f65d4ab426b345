//! `examples/idle.rs` runs, and its numbers add up.

#[path = "../examples/idle.rs"]
#[expect(dead_code, reason = "the example uses more of it")]
mod idle;

use std::time::Duration;

const PEERS: usize = 50;

#[tokio::test]
async fn the_numbers_of_the_example_add_up() {
    for (idle_timeout, capacity) in
        [(Duration::from_millis(1), PEERS), (Duration::MAX, PEERS / 2), (Duration::MAX, PEERS)]
    {
        let pause = Duration::from_millis(5);
        let stats = idle::act(PEERS, pause, idle_timeout, capacity).await.unwrap();
        assert_eq!(stats.gets(), 3 * PEERS as u64);
        assert_eq!(stats.inserts, stats.closes.total(), "all of them were closed");
        assert!(stats.inserts >= stats.misses.total() - stats.rejects);
    }
}
