//! See `src/stream_messages.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::stream_messages::run(data));
