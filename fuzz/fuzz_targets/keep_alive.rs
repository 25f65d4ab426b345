#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::keep_alive;

fuzz_target!(|input: keep_alive::Input<'_>| keep_alive::run(input));
