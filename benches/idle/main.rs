//! What it costs to have idle connections watched: by slabpool, and in Pingora's way,
//! with a task for each connection.
//!
//! Of a watched connection: what a get and a release cost, how much memory it takes
//! while it is idle, how soon it is closed after its peer has closed it or has sent what
//! nobody asked for, and what it costs to do nothing. With TCP connections, as many as
//! the limit of file descriptors allows, and with connections in memory alone, up to a
//! million. Prints Markdown. Takes about a minute, and 4 GB of memory:
//!
//! ```text
//! cargo bench --bench idle
//! ```
//!
//! Contenders run in processes of their own, on one thread each, and take turns: a
//! round of one, a round of the next. The other ends of their TCP connections are in
//! processes of their own again, one for each contender, so that a process holds only
//! one end of each. All of them are this program, told by its arguments what to be. They
//! end when their standard input does, and so with the process that started them.
//!
//! * `match` in `main`: the parts of this program.
//! * `contenders`: what is compared, in particular what Pingora does.
//! * `wires`: the connections, and their other ends.
//! * `contest`: what a contender does when it is told to.
//! * `referee`: the rounds. `report`: the tables.

#[cfg(unix)]
mod contenders;
#[cfg(unix)]
mod contest;
#[cfg(unix)]
mod far;
#[cfg(unix)]
mod heap;
#[cfg(unix)]
mod probes;
#[cfg(unix)]
mod referee;
#[cfg(unix)]
mod report;
#[cfg(unix)]
#[path = "../common/table.rs"]
#[allow(dead_code, reason = "a part of it is for those who read the files")]
mod table;
#[cfg(unix)]
mod wires;

/// Measured with the clocks and limits of Unix.
#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(contest::ARGUMENT) => contest::main(&arguments[1..]),
        Some(far::ARGUMENT) => far::main(),
        // `cargo bench` passes `--bench`, and `cargo test` does not: see that it works,
        // and be done.
        _ => {
            let passed = |flag: &str| arguments.iter().any(|argument| argument == flag);
            referee::main(!passed("--bench") || passed("--test") || passed("--quick"));
        }
    }
}
