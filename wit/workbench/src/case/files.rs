//! Files beside a case: read within a bound, and only below the case's folder.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use tensorgate_base::files::regular_at_most;

/// Largest file of a case, bytes. A host's `body_bytes` is smaller.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The path of a file that a case names. It is below the case's folder, and no part of it is a
/// symbolic link. It need not exist.
///
/// # Errors
/// The name leads elsewhere.
pub fn beside(case: &Path, name: &str) -> Result<PathBuf, String> {
    let named = Path::new(name);
    let is_below = (named.components())
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && named.file_name().is_some();
    if !is_below {
        return Err(format!("{name:?} is not below the cases' folder"));
    }
    let mut path = case.with_file_name("");
    for part in named.components() {
        path.push(part);
        if is_link(&path) {
            return Err(format!("{name:?} is or contains a symbolic link"));
        }
    }
    Ok(path)
}

/// Whether a path is a symbolic link.
pub fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// Reads a file.
///
/// # Errors
/// It is too large, is no regular file or cannot be read.
pub fn content(file: &Path) -> Result<Vec<u8>, String> {
    match regular_at_most(file, MAX_FILE_BYTES) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(format!("larger than {MAX_FILE_BYTES} bytes")),
        Err(cause) => Err(cause.to_string()),
    }
}

/// Reads a file that a case names, and notes it. The fault begins with what follows the field.
///
/// # Errors
/// As [`beside`] and [`content`].
pub fn content_beside(
    case: &Path,
    name: &str,
    files: &mut BTreeSet<PathBuf>,
) -> Result<Vec<u8>, String> {
    let path = beside(case, name).map_err(|fault| format!(".file: {fault}"))?;
    let data = content(&path).map_err(|fault| format!(".file: {name}: {fault}"))?;
    files.insert(path);
    Ok(data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_client::run::Scratch;

    use super::*;

    #[test]
    fn a_file_is_below_the_cases_folder_and_no_link() {
        let scratch = Scratch::new();
        let case = scratch.file("one.json", "{}");
        scratch.file("data.bin", "content");
        let link = scratch.path().join("linked");
        std::os::unix::fs::symlink(scratch.path(), link).unwrap();
        for name in ["../data.bin", "/etc/passwd", "a/../../b", "", "."] {
            let fault = beside(&case, name).unwrap_err();
            assert!(fault.contains("not below"), "{name}: {fault}");
        }
        for name in ["linked", "linked/data.bin"] {
            let fault = beside(&case, name).unwrap_err();
            assert!(fault.contains("symbolic link"), "{name}: {fault}");
        }
        let found = beside(&case, "./data.bin").unwrap();
        assert_eq!(content(&found).unwrap(), b"content");
        assert!(content(scratch.path()).is_err());
        let large = std::fs::File::create(scratch.path().join("large")).unwrap();
        large.set_len(MAX_FILE_BYTES.saturating_add(1)).unwrap();
        let fault = content(&scratch.path().join("large")).unwrap_err();
        assert!(fault.contains("larger than"), "{fault}");
    }
}
