//! Copies the filters of the host's image, and this program, into a volume. Envoy's container reads
//! the filters there, and the kubelet executes the program in it. The image has no shell that could
//! copy them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The argument that selects this in place of a host.
const COMMAND: &str = "install-filters";
/// Folder of the filters in the host's image.
const FILTERS: &str = "/filters";
/// This program.
const PROGRAM: &str = "/proc/self/exe";
/// Its name beside the filters.
const PROGRAM_NAME: &str = "tensorgate-host";
/// Who may do what with it: all users read and execute it.
const PROGRAM_MODE: u32 = 0o555;

/// Copies every filter of the image, and this program, if the arguments are `install-filters
/// FOLDER`.
///
/// # Errors
/// What cannot be copied, and why.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Option<Result<(), String>> {
    let folder = target(arguments)?;
    Some(install(&folder).map_err(|cause| format!("cannot install the filters: {cause}")))
}

/// The target folder.
fn target(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    if arguments.next()? != COMMAND {
        return None;
    }
    let folder = arguments.next()?;
    arguments.next().is_none().then(|| PathBuf::from(folder))
}

fn install(target: &Path) -> Result<(), String> {
    copy(Path::new(FILTERS), target)?;
    let program = target.join(PROGRAM_NAME);
    copy_file(
        Path::new(PROGRAM),
        target,
        OsStr::new(PROGRAM_NAME),
        Some(PROGRAM_MODE),
    )
    .map_err(|error| format!("{}: {error}", program.display()))
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
        copy_file(&source, target, name, None)
            .map_err(|error| failed(&target.join(name), &error))?;
        copied = copied.saturating_add(1);
    }
    if copied == 0 {
        return Err(format!("{} has no filters", from.display()));
    }
    Ok(())
}

/// Copies a file into a folder, where it appears with its whole content on the disk. It has the
/// source's mode, unless another is given.
fn copy_file(source: &Path, target: &Path, name: &OsStr, mode: Option<u32>) -> io::Result<()> {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    let partial = target.join(hidden);
    // The copy of an earlier attempt may be read-only.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::copy(source, &partial)?;
    if let Some(mode) = mode {
        fs::set_permissions(&partial, fs::Permissions::from_mode(mode))?;
    }
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(&partial, target.join(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::MetadataExt as _;

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
        // A program: over a copy that was not finished.
        assert!(Path::new(PROGRAM).is_file());
        fs::write(target.join(".tensorgate-host"), b"half of an earlier copy").unwrap();
        let (source, name) = (from.join("gate.wasm"), OsStr::new(PROGRAM_NAME));
        copy_file(&source, &target, name, Some(PROGRAM_MODE)).unwrap();
        let made = fs::metadata(target.join(PROGRAM_NAME)).unwrap();
        assert_eq!((made.len(), made.mode() & 0o7777), (6, PROGRAM_MODE));
        assert_eq!(fs::read_dir(&target).unwrap().count(), 2);
        fs::remove_dir_all(folder).unwrap();
    }
}
