#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::file;

fuzz_target!(|input: &[u8]| file::run(input));
