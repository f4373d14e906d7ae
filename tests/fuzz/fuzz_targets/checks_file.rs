#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| orch::fuzzing::run("checks_file", data));
