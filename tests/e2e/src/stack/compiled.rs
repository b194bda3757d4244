//! Compiled handlers that gates hand on to later ones, so that each handler is compiled once.
//!
//! A host uses compiled code only with the key of its own folder. So the key goes along. Code of
//! another build of the host is rejected, compiled again, and then replaced here.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The key of a folder.
const KEY: &str = "key";

/// The folder of a gate's compiled handlers in its state folder.
fn of_gate(state: &Path) -> PathBuf {
    state.join("compiled")
}

/// The folder of those that are handed on.
fn handed_on(target: &Path) -> PathBuf {
    target.join("e2e-compiled")
}

/// Gives a gate the handlers of earlier gates. Without any, it compiles its own.
pub(super) fn give(target: &Path, state: &Path) -> io::Result<()> {
    let (from, to) = (handed_on(target), of_gate(state));
    make_folder(&to)?;
    // The key last: without it a host makes its own, and rejects all else.
    for name in names(&from)? {
        copy(&from, &to, &name)?;
    }
    copy(&from, &to, KEY)
}

/// Keeps the handlers that a gate has compiled, if no other gate came first with another key.
pub(super) fn keep(target: &Path, state: &Path) -> io::Result<()> {
    let (from, to) = (of_gate(state), handed_on(target));
    make_folder(&to)?;
    // A link, because it is made only if there is no key yet.
    match fs::hard_link(from.join(KEY), to.join(KEY)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if fs::read(from.join(KEY))? != fs::read(to.join(KEY))? {
        return Ok(());
    }
    for name in names(&from)? {
        copy(&from, &to, &name)?;
    }
    Ok(())
}

/// The names of the compiled handlers in a folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: io::Result<Vec<String>> = names.collect();
    Ok(names?
        .into_iter()
        .filter(|name| name.ends_with(".cwasm"))
        .collect())
}

/// Links a file into another folder, unless it is there. A file that another one has replaced is
/// not the same any more.
fn copy(from: &Path, to: &Path, name: &str) -> io::Result<()> {
    let (source, target) = (from.join(name), to.join(name));
    let inode = |path: &Path| fs::metadata(path).map(|it| it.ino()).ok();
    let source_inode = inode(&source);
    if source_inode.is_none() || source_inode == inode(&target) {
        return Ok(());
    }
    // Renamed, so that a gate that reads it has all of the earlier or all of the later one.
    let beside = to.join(format!(".{}-{name}", std::process::id()));
    let _ = fs::remove_file(&beside);
    match fs::hard_link(&source, &beside) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::rename(beside, target),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
