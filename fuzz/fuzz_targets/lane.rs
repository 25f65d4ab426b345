#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::lane;

fuzz_target!(|input: lane::Input| lane::run(input));
