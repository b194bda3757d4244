//! Wraps a core module, as `cargo build --target wasm32-unknown-unknown` makes it, into a handler component, and
//! refuses one that asks its host for anything that no handler gets.
//!
//! What it never does: it adds no adapter. A module that wants WASI is refused, not satisfied with a stand-in.
//! The output depends on the input alone, byte for byte.

mod imports;
mod options;

use std::process::ExitCode;

use sha2::{Digest, Sha256};
use wit_component::ComponentEncoder;

use crate::options::Options;

/// What can go wrong. Each text says what to do about it where there is one thing to do.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{path}: {source}")]
    File {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "{path}: exports neither preprocess nor postprocess: call export_preprocess! or export_postprocess! once"
    )]
    Export { path: String },
    #[error("{path}: not a core module with tensorgate-handler's exports: {detail}")]
    Encode { path: String, detail: String },
    #[error(
        "{path}: imports {found}, which no handler gets: only tensorgate:handler/{{types,config,log}} exist. Build with --target wasm32-unknown-unknown, and without crates that want a clock, random numbers or files"
    )]
    Imports { path: String, found: String },
}

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(fault) => {
            eprintln!("tensorgate-componentize: {fault}\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match componentize(&options) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("tensorgate-componentize: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the component and says what it wrote: path, size, digest.
fn componentize(options: &Options) -> Result<String, Fault> {
    let file = |path: &str| {
        let path = path.to_owned();
        move |source| Fault::File { path, source }
    };
    let core = std::fs::read(&options.core).map_err(file(&options.core))?;
    // The module's own imports first: the encoder's text on an unknown one names no remedy.
    let foreign = |found| Fault::Imports {
        path: options.core.clone(),
        found,
    };
    imports::only_handler(&core, &options.core)?.map_err(foreign)?;
    let component = encode(&core).map_err(|detail| Fault::Encode {
        path: options.core.clone(),
        detail,
    })?;
    imports::only_handler(&component, &options.core)?.map_err(foreign)?;
    if !imports::is_handler(&component) {
        let path = options.core.clone();
        return Err(Fault::Export { path });
    }
    std::fs::write(&options.output, &component).map_err(file(&options.output))?;
    Ok(format!(
        "{}  {} bytes  sha256 {:x}",
        options.output,
        component.len(),
        Sha256::digest(&component)
    ))
}

/// Wraps, and validates what came of it.
fn encode(core: &[u8]) -> Result<Vec<u8>, String> {
    ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}
