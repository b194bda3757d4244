//! See `src/oip_answer.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::oip_answer::run(data));
