//! Atomic file replacement: a reader gets the old content or the new, never a mixture. Concurrent
//! changes of one file wait for each other.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;

/// A new file's permissions.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// This mode.
    Exact(u32),
    /// The mode of the existing file; readable and writable by the owner only if there is none.
    Preserve,
}

/// Readable and writable by the owner only.
const PRIVATE: u32 = 0o600;

/// Writes a temporary file beside the target and renames it. The temporary file is removed on
/// failure.
pub fn replace(file: &Path, content: impl AsRef<[u8]>, mode: Mode) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // The name contains the process id, so that concurrent writers do not share a temporary file.
    let beside = file.with_file_name(format!(".{name}.{}", std::process::id()));
    // A killed process with the same id may have left a file with another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (mode, kept) = match mode {
        Mode::Exact(mode) => (mode, None),
        Mode::Preserve => (PRIVATE, std::fs::metadata(file).ok()),
    };
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut opened| {
            if let Some(old) = kept {
                opened.set_permissions(Permissions::from_mode(old.permissions().mode()))?;
            }
            opened.write_all(content.as_ref())?;
            opened.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, file));
    if written.is_err() {
        // Report the first failure, not the one of the clean-up.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Reads a file, changes its content and replaces it, as JSON. Concurrent changes wait for each
/// other, so that none is lost.
pub fn update_locked<C: Serialize, T>(
    file: &Path,
    read: impl FnOnce(&Path) -> Result<C, String>,
    change: impl FnOnce(&mut C) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let failed =
        |error: io::Error| Failure::Failed(format!("cannot write {}: {error}", file.display()));
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let lock = File::open(folder).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut content = read(file).map_err(Failure::Input)?;
    let result = change(&mut content)?;
    let text = serde_json::to_string_pretty(&content)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    replace(file, format!("{text}\n"), Mode::Preserve).map_err(failed)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_the_requested_mode() {
        let folder = crate::private_dir::PrivateDir::new().unwrap();
        let file = folder.path().join("a");
        let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        for (text, how, expected) in [
            ("1", Mode::Preserve, 0o600),
            ("22", Mode::Exact(0o640), 0o640),
            ("333", Mode::Preserve, 0o640),
        ] {
            replace(&file, text, how).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            assert_eq!(mode(), expected, "{how:?}");
        }
        // The rename fails, and no temporary file is left.
        let below = folder.path().join("folder");
        std::fs::create_dir(&below).unwrap();
        let before = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(replace(&below, "4", Mode::Preserve).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before);
    }
}
