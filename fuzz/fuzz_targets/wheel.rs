#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::wheel;

fuzz_target!(|input: wheel::Input| wheel::run(input));
