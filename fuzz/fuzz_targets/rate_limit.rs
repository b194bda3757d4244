//! See `src/rate_limit.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::rate_limit::run(data));
