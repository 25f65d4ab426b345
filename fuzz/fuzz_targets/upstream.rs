#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::upstream;

fuzz_target!(|input: upstream::Input| upstream::run(input));
