//! See `src/policy_yaml.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::policy_yaml::run(data));
