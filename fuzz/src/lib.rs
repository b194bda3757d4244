//! What must hold whatever bytes come. One module a target; each has one function, which takes a fuzzer's bytes and panics if
//! something does not hold. Where there is another reader of the same bytes (serde_json, prost), the two are compared.

pub mod agree;
pub mod answer;
pub mod binary;
pub mod capture;
mod classifier;
// The host stands on a compiler of WebAssembly, which nobody wants instrumented: what reads captured calls is compiled from its own files.
#[path = "../../sandbox-host/src/capture/envelope.rs"]
mod capture_envelope;
#[path = "../../sandbox-host/src/capture/record.rs"]
mod capture_record;
pub mod context;
pub mod credential;
mod elements;
pub mod expand;
pub mod grpc;
pub mod headers;
pub mod json;
pub mod json_scalar;
pub mod key_set;
pub mod machine;
pub mod marks;
mod messages;
pub mod oip_answer;
pub mod openai;
pub mod policy_json;
pub mod policy_yaml;
pub mod predict;
pub mod predict_grpc;
pub mod proxy;
pub mod rate_limit;
pub mod settlement;
// The command is a program, not a library: its reader of policies is compiled from its own files.
#[path = "../../cli/src/source/mod.rs"]
#[allow(
    missing_docs,
    dead_code,
    unused_imports,
    unused_qualifications,
    reason = "another crate's files, of which a part is used"
)]
mod source;
pub mod stream;
mod support;
// TF Serving's messages, as the decoder's own tests have them.
pub mod template;
#[path = "../../wire/tests/it/common/tensorflow.rs"]
mod tensorflow;
pub mod token;
pub mod tokenizer;
pub mod torch_form;
pub mod torch_grpc;
