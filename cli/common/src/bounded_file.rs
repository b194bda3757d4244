//! Reads a file up to a size.

use std::path::Path;

use tensorgate_base::files::at_most;

/// Reads a file; `None` if it is larger than `max_bytes`.
pub fn read_at_most(file: &Path, max_bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
    at_most(std::fs::File::open(file)?, max_bytes)
}
