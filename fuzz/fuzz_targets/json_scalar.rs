//! See `src/json_scalar.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::json_scalar::run(data));
