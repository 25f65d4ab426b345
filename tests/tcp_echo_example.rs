//! `examples/tcp_echo.rs` runs, and its numbers add up.

#[path = "../examples/tcp_echo.rs"]
#[expect(dead_code, reason = "the example has a main function")]
mod tcp_echo;

/// Every line came back, or it would have ended in an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_connections_serve_many_clients() {
    for (clients, lines, connections) in [(1, 1, 1), (1, 20, 4), (16, 20, 1), (32, 20, 4)] {
        let stats = tcp_echo::run(clients, lines, connections).await.unwrap();
        assert_eq!(stats.gets(), (clients * lines) as u64);
        assert_eq!(stats.gets(), stats.hits + stats.served, "nobody went away empty-handed");
        // None was closed, so no more were ever opened than there may be.
        let opened = stats.connects.opened;
        assert!((1..=connections as u64).contains(&opened), "{opened} of {connections}");
        assert_eq!((stats.connects.started, stats.connects.rejected), (opened, 0));
        assert_eq!((stats.waiting, stats.connects.connecting), (0, 0));
        // By drain, and by that alone.
        assert_eq!(stats.pool.closes.total(), opened);
        assert_eq!(stats.pool.closes[slabpool::CloseReason::Closed], opened);
    }
}

/// A client alone keeps to one connection.
#[tokio::test]
async fn one_client_needs_one_connection() {
    let stats = tcp_echo::run(1, 100, 8).await.unwrap();
    assert_eq!(stats.connects.opened, 1);
    assert_eq!((stats.hits, stats.served), (99, 1));
}

/// A setting that cannot work is an error, and not a panic.
#[tokio::test]
async fn no_connections_are_too_few() {
    let error = tcp_echo::run(1, 1, 0).await.unwrap_err();
    assert!(error.to_string().contains("max_connections_per_group is 0"), "{error}");
}
