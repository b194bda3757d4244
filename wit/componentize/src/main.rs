//! `tensorgate-componentize`: converts a core module's file to a component's file.

mod options;

use std::process::ExitCode;

use sha2::{Digest, Sha256};
use tensorgate_componentize::componentize;

use crate::options::Options;

/// An error in a file, or in its content.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{path}: {source}")]
    File {
        path: String,
        source: std::io::Error,
    },
    #[error("{path}: {source}")]
    Module {
        path: String,
        source: tensorgate_componentize::Fault,
    },
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
    match write(&options) {
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

/// Writes the component and prints its path, size and digest.
fn write(options: &Options) -> Result<String, Fault> {
    let file = |path: &str| {
        let path = path.to_owned();
        move |source| Fault::File { path, source }
    };
    let core = std::fs::read(&options.core).map_err(file(&options.core))?;
    let component = componentize(&core).map_err(|source| Fault::Module {
        path: options.core.clone(),
        source,
    })?;
    std::fs::write(&options.output, &component).map_err(file(&options.output))?;
    Ok(format!(
        "{}  {} bytes  sha256 {:x}",
        options.output,
        component.len(),
        Sha256::digest(&component)
    ))
}
