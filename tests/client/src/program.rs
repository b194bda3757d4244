//! Programs of other projects that tests run.

use std::io;
use std::path::PathBuf;

/// A server's program. It is the one that `variable` names, the one that `make setup` put into the
/// cache's `folder`, or one on `PATH`.
///
/// # Errors
///
/// If there is none.
pub fn find(name: &str, folder: &str, variable: &str) -> io::Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let cached = cache.map(|cache| cache.join("tensorgate").join(folder).join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    set(variable)
        .into_iter()
        .chain(cached)
        .chain(on_path)
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            io::Error::other(format!(
                "no {name}: run `make setup`, install one, or name one in {variable}"
            ))
        })
}
