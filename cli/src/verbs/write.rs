//! A file replaced as a whole: whoever reads it meanwhile reads the old one or the new one.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Puts a file in place of another, whole or not at all; one that was not there is made for its owner only.
pub fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let unborn = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unborn)
        .and_then(|mut new| {
            if let Ok(old) = std::fs::metadata(file) {
                new.set_permissions(old.permissions())?;
            }
            new.write_all(text.as_bytes())?;
            new.sync_all()
        })
        .and_then(|()| std::fs::rename(&unborn, file));
    if written.is_err() {
        // What could not be finished is not left behind; the first failure is the one to tell of.
        let _ = std::fs::remove_file(&unborn);
    }
    written
}
