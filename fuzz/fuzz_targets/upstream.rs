#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::upstream;

/// As std does before `main`, which is not Rust's here: else who writes to a socket that its
/// peer has closed ends the process, without a word.
fn ignore_sigpipe() {
    // SAFETY: the first thing that the process does; no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fuzz_target!(init: ignore_sigpipe(), |input: upstream::Input| upstream::run(input));
