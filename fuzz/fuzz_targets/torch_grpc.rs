//! See `src/torch_grpc.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::torch_grpc::run(data));
