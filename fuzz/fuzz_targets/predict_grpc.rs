//! See `src/predict_grpc.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::predict_grpc::run(data));
