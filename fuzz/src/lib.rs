//! What the fuzz targets do with an input, and a program that does it without a fuzzer: see
//! README.md. Sources of the pool are compiled as this crate's own where what is tested is
//! not public.
//!
//! ```text
//! cargo run --all-features --example fuzz_smoke -- lane upstream
//! ```

#![allow(missing_docs, missing_debug_implementations, reason = "the targets alone use it")]

pub mod capacity;
pub mod file;
pub mod keep_alive;
pub mod lane;
pub mod managed_line;
mod numbers;
pub mod pool;
mod smoke;
pub mod upstream;
pub mod wheel;
pub mod words;

#[path = "../../src"]
#[allow(dead_code, unused_imports, reason = "the targets use a part of it")]
mod sources {
    pub mod capacity;
    pub mod core;
    pub mod sync;
    pub mod managed {
        pub mod limits;
        pub mod line;
        pub mod streams;
        pub mod turn;
        pub mod word;
    }
}
use sources::{core, managed, sync};

mod store {
    /// As in the pool: see `capacity::the_limit_is_the_pools`.
    pub const CONNECTIONS_MAX: usize = 1 << 23;
}

#[path = "../../tests"]
mod tests {
    pub mod common;
    pub mod model {
        pub mod acts;
        pub mod bound;
        pub mod leasing;
        pub mod memory;
        pub mod op;
        pub mod oracle;
        pub mod run;
        pub mod upkeep;
        pub mod wire;
    }
}
use tests::common;
use tests::model::{memory, op, oracle, run, wire};

/// Runs all targets for some seconds each: see `smoke`.
pub fn main() -> std::process::ExitCode {
    smoke::main()
}
