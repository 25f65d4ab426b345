#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::words;

fuzz_target!(|input: words::Input| words::run(input));
