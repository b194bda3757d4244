//! Properties that must hold for every input. Each target is a module with one function, which
//! takes the fuzzer's bytes and panics if a property does not hold. Where another reader of the
//! same bytes exists (serde_json, prost), the target compares the two.

pub mod agree;
pub mod analyze;
pub mod answer;
pub mod binary;
pub mod capture;
mod classifier;
pub mod compiled;
pub mod context;
pub mod credential;
mod elements;
pub mod expand;
pub mod grpc;
pub mod headers;
pub mod json;
pub mod json_scalar;
pub mod kernels;
pub mod key_set;
pub mod machine;
mod messages;
pub mod model_bundle;
pub mod model_scan;
pub mod oip_answer;
pub mod openai;
pub mod policy_json;
pub mod policy_yaml;
pub mod predict;
pub mod predict_grpc;
pub mod proxy;
pub mod rate_limit;
pub mod stream;
pub mod stream_messages;
mod support;
pub mod template;
pub mod token;
pub mod tokenizer;
pub mod torch_form;
pub mod torch_grpc;
