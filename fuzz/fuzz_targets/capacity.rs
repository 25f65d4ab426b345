#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::capacity;

fuzz_target!(init: capacity::the_limit_is_the_pools(), |input: capacity::Input| capacity::run(input));
