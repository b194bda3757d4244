//! See `src/model_bundle.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::model_bundle::run(data));
