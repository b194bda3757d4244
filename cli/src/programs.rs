//! The other programs of tensorgate: where they are, and what to do if one is missing.

use std::path::PathBuf;

/// The path of a program in the folder of the running one.
pub fn beside(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(name);
    path.is_file().then_some(path)
}

/// The path of a program beside the running one, or in `PATH`. Relative folders of `PATH` are
/// skipped, because their files may be those of a downloaded project.
pub fn find(name: &str) -> Option<PathBuf> {
    beside(name).or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())
    })
}

/// How to get a program that is missing.
pub fn how_to_get() -> &'static str {
    if in_source_tree() {
        "run `make build`"
    } else {
        "install it from the same release as tensorgate"
    }
}

/// Whether the running program was built in a source tree and not moved: only there, `make` can
/// build what is missing.
pub fn in_source_tree() -> bool {
    let program = std::env::current_exe().unwrap_or_default();
    let mut folders = program.ancestors().skip(1);
    folders.any(|folder| folder.join("cli/Cargo.toml").is_file())
}
