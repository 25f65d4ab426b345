#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::pool;

fuzz_target!(|input: pool::Input| pool::run(input));
