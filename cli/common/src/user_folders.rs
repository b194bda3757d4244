//! The folders below which programs keep what belongs to their user.

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
