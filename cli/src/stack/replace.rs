//! A file that is replaced as a whole: whoever reads it gets the old content or the new, never a part.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes beside a file and renames over it. `mode` is the new file's.
pub fn replace(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut beside = OsString::from(".");
    beside.push(file.file_name().unwrap_or_default());
    beside.push(".new");
    let beside = file.with_file_name(beside);
    // What a killed process left there may have another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut opened| {
            opened.write_all(text.as_bytes())?;
            opened.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, file));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
