//! See `src/model_scan.rs`.
#![no_main]

use tensorgate_fuzz::model_scan::{formats, run};

libfuzzer_sys::fuzz_target!(|data: &[u8]| run(&formats::OPENVINO, data));
