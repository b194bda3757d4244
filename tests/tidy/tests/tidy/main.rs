//! The house rules that no compiler checks, such as crate dependencies and the form of a source
//! file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod arrows;
mod circles;
mod docs;
mod fragments;
mod identifiers;
mod methods;
mod modules;
mod orders;
mod overloads;
mod packages;
mod ratchet;
mod size;
mod sources;
mod tokens;
mod units;
mod wasi;
mod words;

use tensorgate_tidy::{none, output, root};

/// `cargo metadata`, with these further arguments.
fn metadata(arguments: &[&str]) -> serde_json::Value {
    let arguments = [
        &["metadata", "--format-version", "1", "--locked"],
        arguments,
    ]
    .concat();
    serde_json::from_str(&output(env!("CARGO"), &arguments)).unwrap()
}
