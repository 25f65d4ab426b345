//! Puts an unmodified Pingora under load, on the stand-in for its pool, and looks at what
//! comes of it: at every answer, and at every connection that it opens and keeps.
//!
//! ```console
//! $ check 1000000           # requests
//! $ check 1000000 steady    # one of the scenarios
//! ```

mod http1;
mod load;
mod origin;
mod scenarios;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    let requests = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 1_000_000,
        Some(Ok(requests)) if requests >= 1_000 => requests,
        Some(_) => {
            eprintln!("how many requests? at least 1000");
            return ExitCode::FAILURE;
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let only = std::env::args().nth(2);
    if runtime.block_on(scenarios::all(requests, only.as_deref())) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
