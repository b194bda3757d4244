//! See `src/policy_json.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::policy_json::run(data));
