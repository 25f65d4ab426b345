#![no_main]

use libfuzzer_sys::fuzz_target;
use slabpool_fuzz::managed_line;

fuzz_target!(|input: managed_line::Input| managed_line::run(input));
