//! The house rules that no compiler checks: crate dependencies, the form of a source file, and the
//! contents of the lock file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod arrows;
mod circles;
mod docs;
mod fragments;
mod identifiers;
mod lockfile;
mod methods;
mod modules;
mod orders;
mod overloads;
mod packages;
mod ratchet;
mod size;
mod sources;
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
