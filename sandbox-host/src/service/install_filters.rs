//! Copies the filters of the host's image into a volume, where Envoy's container reads them. The
//! image has no shell that could.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The argument that selects this in place of a host.
const COMMAND: &str = "install-filters";
/// Folder of the filters in the host's image.
const FILTERS: &str = "/filters";

/// The target folder, if the arguments are `install-filters FOLDER`.
pub fn target(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    if arguments.next()? != COMMAND {
        return None;
    }
    let folder = arguments.next()?;
    arguments.next().is_none().then(|| PathBuf::from(folder))
}

/// Copies every filter of the image to `target`.
///
/// # Errors
/// What cannot be copied, and why.
pub fn install(target: &Path) -> Result<(), String> {
    copy(Path::new(FILTERS), target)
}

/// Copies the files of a folder. Each appears with its whole content, because Envoy may start at
/// any time.
fn copy(from: &Path, target: &Path) -> Result<(), String> {
    let failed = |path: &Path, error: &io::Error| format!("{}: {error}", path.display());
    let entries = fs::read_dir(from).map_err(|error| failed(from, &error))?;
    let mut copied = 0_u32;
    for entry in entries {
        let source = entry.map_err(|error| failed(from, &error))?.path();
        let Some(name) = source.file_name().filter(|_| source.is_file()) else {
            continue;
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        let partial = target.join(hidden);
        fs::copy(&source, &partial).map_err(|error| failed(&partial, &error))?;
        fs::rename(&partial, target.join(name)).map_err(|error| failed(target, &error))?;
        copied = copied.saturating_add(1);
    }
    if copied == 0 {
        return Err(format!("{} has no filters", from.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_this_command_with_one_folder_installs() {
        let target = |arguments: &[&str]| target(arguments.iter().map(OsString::from));
        assert_eq!(target(&["install-filters", "/x"]), Some("/x".into()));
        for other in [
            &[][..],
            &["install-filters"],
            &["install-filters", "/x", "y"],
            &["--bundle", "x"],
        ] {
            assert_eq!(target(other), None, "{other:?}");
        }
    }

    #[test]
    fn every_filter_is_copied_and_none_is_an_error() {
        let folder = std::env::temp_dir().join(format!("tg-filters-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        let (from, target) = (folder.join("from"), folder.join("target"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&target).unwrap();
        assert!(copy(&from, &target).unwrap_err().contains("has no filters"));
        fs::write(from.join("gate.wasm"), b"module").unwrap();
        copy(&from, &target).unwrap();
        assert_eq!(fs::read(target.join("gate.wasm")).unwrap(), b"module");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
        assert!(copy(&from, &folder.join("missing")).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
