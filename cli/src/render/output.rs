//! Writes rendered files and folders. Each file is replaced atomically.

use std::io;
use std::path::Path;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::replace::{Mode, replace};

/// Mode of rendered files. They contain digests but no secrets, and Envoy and the host may run as
/// other users.
const READABLE: u32 = 0o644;

/// Replaces a file.
///
/// # Errors
/// It cannot be written.
pub fn write_file(file: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    replace(file, content, Mode::Exact(READABLE)).map_err(|error| cannot_write(file, &error))
}

/// Creates a folder and those that it is in, unless they exist.
///
/// # Errors
/// It cannot be created.
pub fn create_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))
}

/// Why nothing is at a path.
pub fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", path.display()))
}
