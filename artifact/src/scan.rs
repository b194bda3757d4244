//! What a model file is, from its content, and what it could do when it is loaded.
//!
//! A scanner accepts what it understands completely and refuses the rest: a file is
//! [`Verdict::Safe`] only if each of its bytes was followed and none of them can run code, read
//! another file or reach a network. There is no list of bad names that could have a hole. Nothing
//! is imported, unpickled or executed.
//!
//! This module reads no file: a caller brings the bytes as an [`Input`] and the names in a folder.
//! Memory is bounded by [`Limits`], whatever the size of the input.

mod container;
pub mod boosters;
pub mod finding;
mod flatbuffer;
pub mod gguf;
pub mod input;
mod keras;
pub mod limits;
pub mod numpy;
pub mod pickle;
mod mar;
mod npz;
pub mod tar;
mod torch;
pub mod zip;
mod jinja;
mod json;
pub mod json_config;
mod names;
pub mod onnx;
mod protobuf;
pub mod safetensors;
pub mod saved_model;
mod source;
pub mod tflite;

pub use finding::{Finding, Report, Verdict};
pub use input::{Input, Window};
pub use limits::Limits;
