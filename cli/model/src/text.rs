//! Texts that verbs read from files, and texts that they print on a terminal.

use std::path::Path;

use tensorgate_base::files::regular_at_most;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::printable;

/// The text of a file of at most this many bytes. `other` says what a file without text is.
pub fn read(file: &Path, max_bytes: u64, other: &str) -> Result<String, Failure> {
    let shown = shown(file);
    let bytes = regular_at_most(file, max_bytes)
        .map_err(|error| Failure::Input(format!("cannot read {shown}: {error}")))?;
    let bytes =
        bytes.ok_or_else(|| Failure::Input(format!("{shown} is larger than {max_bytes} bytes")))?;
    String::from_utf8(bytes).map_err(|_| Failure::Input(format!("{shown} {other}")))
}

/// A path for a terminal.
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// A number of files.
pub fn file_count(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} file{plural}")
}
