//! The demonstration, with fewer requests: nothing that it checks depends on time.

use std::time::Duration;

use crate::report;
use crate::scenario::{Plan, drive};

const PLAN: Plan = Plan {
    clients: 16,
    requests: 2_400,
    max_connections: 4,
    check_interval: Duration::from_millis(10),
};

async fn holds(plan: Plan) {
    let outcome = drive(plan, |_, _| {}).await.unwrap_or_else(|error| panic!("{error}"));
    let failed: Vec<_> =
        outcome.expectations().into_iter().filter(|(_, holds)| !holds).map(|(it, _)| it).collect();
    assert!(
        failed.is_empty(),
        "{failed:?}\n{}{:?}\n{:?}",
        report::table(&outcome.balancer),
        outcome.seen,
        outcome.events.before
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds() {
    holds(PLAN).await;
}

#[tokio::test]
async fn it_holds_on_one_thread() {
    holds(PLAN).await;
}

/// Requests wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_with_one_connection_to_each_host() {
    holds(Plan { max_connections: 1, requests: 800, ..PLAN }).await;
}
