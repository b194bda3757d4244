//! The `handler configure` verb: stores a user's files in a component, and prints the new digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::hex;

use crate::configure::configure;
use crate::project::{component_at, read_component};

/// Largest input file, bytes: twice the size of the largest tokenizers.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// Maximum number of input files.
const MAX_FILES: usize = 16;
/// Mode of the component: readable by all users.
const MODE: u32 = 0o644;

/// Put a user's files, for example a tokenizer, into a component that supports it.
#[derive(Args)]
#[command(
    after_help = "The component processes the files now, in a sandbox with access to nothing else. Later calls use the result and read no files. The output is \
a new component with its own digest for the policy, and can be signed (`handler sign`). The same component and files give the same bytes.\n\n\
Example: tensorgate handler configure builtin:text-classifier --file tokenizer.json -o reviews.wasm"
)]
pub struct Configure {
    /// Component file, project folder, or `builtin:NAME`.
    component: PathBuf,
    /// File that the component reads, optionally under another name.
    #[arg(long = "file", value_name = "[NAME=]FILE", required = true)]
    files: Vec<String>,
    /// Output file.
    #[arg(short, long, value_name = "WASM")]
    output: PathBuf,
    /// Required digest of the component.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

impl Configure {
    /// Configures the component.
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
        replace(&self.output, &made.component, Mode::Exact(MODE)).map_err(|error| {
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

/// Reads the files, by the names that the component uses.
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
        let shown = path.display();
        let bytes = match read_at_most(path, MAX_FILE_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return Err(Failure::Input(format!(
                    "{shown} is larger than {MAX_FILE_BYTES} bytes"
                )));
            }
            Err(cause) => return Err(Failure::Input(format!("cannot read {shown}: {cause}"))),
        };
        if files.insert(name.to_owned(), bytes).is_some() {
            return Err(Failure::Input(format!("two files are called {name:?}")));
        }
    }
    Ok(files)
}
