//! `handler configure`: a component with what it made of its user's files inside it, and the lines that a policy names it by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;

use crate::Failure;
use crate::handler::configure::configure;
use crate::handler::project::{component_at, read_component};
use crate::load::read_at_most;
use crate::replace::{Mode, replace};
use crate::ui::{Ui, printable};

/// Largest file that is given, bytes; twice what the largest tokenizers take.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// Files that are given.
const MAX_FILES: usize = 16;
/// A component is for everybody to read.
const MODE: u32 = 0o644;

/// Put a user's files, a tokenizer for one, into a component that is made for them.
#[derive(Args)]
#[command(
    after_help = "The component reads the files now, in a sandbox that has nothing else, and a call later finds what it made of them: it reads none. What comes out is \
a component of its own, with a digest for the policy, to be signed like any other (`handler sign`). The same component and files make the same bytes.\n\n\
Example: tensorgate handler configure builtin:text-classifier --file tokenizer.json -o reviews.wasm"
)]
pub struct Configure {
    /// A component's file, a project's folder, or `builtin:NAME`.
    component: PathBuf,
    /// A file that the component reads, by its own name unless another is given.
    #[arg(long = "file", value_name = "[NAME=]FILE", required = true)]
    files: Vec<String>,
    /// Where the new component goes.
    #[arg(short, long, value_name = "WASM")]
    output: PathBuf,
    /// The digest that the component must have.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

impl Configure {
    /// Configures.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let file = component_at(&self.component)?;
        let bytes = read_component(&file).map_err(Failure::Input)?;
        let found = hex(&Sha256::digest(&bytes));
        if let Some(expected) = self.sha256.filter(|expected| *expected != found) {
            return Err(Failure::Input(format!(
                "{}: sha256 is {found}, not {expected}",
                file.display()
            )));
        }
        let made = configure(&bytes, read(&self.files)?).map_err(|failure| match failure {
            Failure::Input(why) => Failure::Input(format!("{}: {why}", file.display())),
            Failure::Failed(why) => Failure::Failed(format!("{}: {why}", file.display())),
            other => other,
        })?;
        replace(&self.output, &made.component, Mode::Of(MODE)).map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}", self.output.display()))
        })?;
        let (output, sha256) = (self.output.display(), hex(&Sha256::digest(&made.component)));
        if ui.json {
            ui.json_line(&serde_json::json!({
                "component": output.to_string(),
                "bytes": made.component.len(),
                "sha256": sha256,
                "of": made.origin,
                "said": made.lines,
            }));
            return Ok(());
        }
        ui.line(&format!(
            "{output}  {} bytes  sha256 {sha256}",
            made.component.len()
        ));
        for line in &made.lines {
            ui.note(&printable(line));
        }
        Ok(())
    }
}

/// The files, by the names that the component asks for.
fn read(named: &[String]) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = BTreeMap::new();
    if named.len() > MAX_FILES {
        return Err(Failure::Input(format!("more than {MAX_FILES} files")));
    }
    for named in named {
        let (name, path) = match named.split_once('=') {
            Some((name, path)) => (name, Path::new(path)),
            None => {
                let path = Path::new(named);
                let name = path.file_name().and_then(|name| name.to_str());
                (name.unwrap_or_default(), path)
            }
        };
        let told = path.display();
        let bytes = match read_at_most(path, MAX_FILE_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return Err(Failure::Input(format!(
                    "{told} is larger than {MAX_FILE_BYTES} bytes"
                )));
            }
            Err(cause) => return Err(Failure::Input(format!("cannot read {told}: {cause}"))),
        };
        if files.insert(name.to_owned(), bytes).is_some() {
            return Err(Failure::Input(format!("two files are called {name:?}")));
        }
    }
    Ok(files)
}
