//! What a model file is, from its content, and what it could do when it is loaded.
//!
//! A scanner accepts what it understands completely and refuses the rest: a file is
//! [`Verdict::Safe`] only if each of its bytes was followed and none of them can run code, read
//! another file or reach a network. Nothing is imported, unpickled or executed.
//!
//! Lists of bad names decide in three places only, and could have a hole there. One is
//! configurations that no known reader looks for by their name. Another is the globals and
//! attributes that a chat template may read. What it may call is on a list of good names. The third
//! is the names of files of tensors, which have no format of their own.
//!
//! This module opens no file: a caller brings the bytes as an [`Input`], and the name. Memory is
//! bounded by [`Limits`], whatever the size of the input.
//!
//! Bytes in memory:
//!
//! ```
//! use std::io::Cursor;
//! use tensorgate_artifact::scan::{Limits, Verdict, detect};
//!
//! // A pickle that runs `os.system("id")` when it is loaded.
//! let mut pickle = Cursor::new(b"cos\nsystem\n(S'id'\ntR.");
//! let report = detect::scan(&mut pickle, "weights.pkl", &Limits::default())?;
//! assert_eq!(report.verdict, Verdict::Executable);
//! assert!(report.findings.iter().any(|finding| finding.rule == "pickle-global"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A file. The name counts, because some loaders go by it:
//!
//! ```no_run
//! use std::fs::File;
//! use tensorgate_artifact::scan::{Limits, Verdict, detect};
//!
//! let mut file = File::open("models/model.safetensors")?;
//! let report = detect::scan(&mut file, "model.safetensors", &Limits::default())?;
//! if report.verdict != Verdict::Safe {
//!     for finding in &report.findings {
//!         println!("at {}: {}: {}", finding.offset, finding.rule.name, finding.detail);
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The file must not change meanwhile. Scan files of strangers in a process without rights, as
//! `tensorgate model scan` does.

mod apple_double;
pub mod boosters;
mod charsmap;
pub mod config;
mod container;
pub mod detect;
pub mod external_data;
pub mod finding;
mod flatbuffer;
mod format;
mod formats;
pub mod gguf;
mod hdf5;
pub mod input;
mod jinja;
mod json;
mod keras;
pub mod limits;
mod magic;
mod mar;
mod mediapipe;
mod names;
mod npz;
pub mod numpy;
pub mod onnx;
mod openvino;
pub mod pickle;
mod picture;
mod protobuf;
mod python_json;
mod reader;
pub mod rules;
pub mod safetensors;
pub mod saved_model;
mod sentencepiece;
pub mod severity;
mod source;
mod tar;
mod tensor_bundle;
mod tensor_ranges;
#[cfg(test)]
mod tests;
mod text;
mod text_format;
mod texts;
pub mod tflite;
mod torch;
mod triton;
mod xml;
mod yaml;
mod zip;

pub use finding::{Finding, Report, Verdict};
pub use input::{Input, Window};
pub use limits::Limits;
pub use severity::Severity;
