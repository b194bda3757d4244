//! The folders below which programs keep what belongs to their user.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

/// Our folder for what can be made again, if the environment names one.
pub fn cache() -> Option<PathBuf> {
    own("XDG_CACHE_HOME", ".cache")
}

/// The folder of compiled handlers below [`cache`], which is created. `None` without such a folder.
pub fn compiled_code() -> Option<PathBuf> {
    let cache = cache().filter(|cache| std::fs::create_dir_all(cache).is_ok())?;
    Some(cache.join("compiled"))
}

/// The folder of built handlers below [`cache`], which is created. `None` without such a folder, or
/// if others than its owner can use it.
pub fn builds() -> Option<PathBuf> {
    let cache = cache().filter(|cache| std::fs::create_dir_all(cache).is_ok())?;
    let folder = cache.join("builds");
    // It may exist already.
    let _ = DirBuilder::new().mode(0o700).create(&folder);
    // A symbolic link is no folder here.
    let found = std::fs::symlink_metadata(&folder).ok()?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    (found.is_dir() && is_own).then_some(folder)
}

/// The folder of runtimes below [`cache`], each in a file named by its digest.
pub fn runtimes() -> Option<PathBuf> {
    Some(cache()?.join("runtimes"))
}

/// Our folder for logs and rendered configuration, if the environment names one.
pub fn state() -> Option<PathBuf> {
    own("XDG_STATE_HOME", ".local/state")
}

/// Our folder below the one that a variable names, or else below one in the user's home.
fn own(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = set(variable).or_else(|| set("HOME").map(|home| home.join(below_home)))?;
    Some(base.join("tensorgate"))
}
