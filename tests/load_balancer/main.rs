//! The example `load_balancer`: its demonstration, in small, and its balancer with hosts that
//! the tests play themselves, on real sockets.

#[path = "../../examples/load_balancer/balancer/mod.rs"]
mod balancer;
#[path = "../../examples/load_balancer/client.rs"]
mod client;
#[path = "../../examples/load_balancer/origin.rs"]
mod origin;
#[path = "../../examples/load_balancer/report.rs"]
mod report;
#[path = "../../examples/load_balancer/scenario.rs"]
mod scenario;

mod choice;
mod demonstration;
mod moves;
mod service;
mod support;
