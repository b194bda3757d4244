//! See `src/tokenizer.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::tokenizer::run(data));
