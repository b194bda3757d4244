//! Files that the demo generates at every start: policies, certificates and keys.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes files into a folder with access for its owner only. It replaces the folder of an earlier
/// start.
pub fn write(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    remove(folder)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("making {}", folder.display()))?;
    for (name, text) in files {
        let file = folder.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut opened| opened.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Removes the folder of an earlier start.
pub fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}
