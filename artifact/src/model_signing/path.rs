//! Names of files in a signed model: relative paths in one form, and the paths that a signature
//! leaves out.

use std::collections::BTreeSet;

/// What stands for the path of a model that is a single file in bundles of `model-signing`.
pub const SINGLE_FILE: &str = ".";

/// The folder in which git keeps what it stores. No server loads a model from there.
pub const GIT_FOLDER: &str = ".git";
/// What no signature covers: the files of git, at the top of a model.
const DEFAULT_EXCLUSIONS: [&str; 4] = [GIT_FOLDER, ".gitattributes", ".github", ".gitignore"];

/// Maximum paths that a signature leaves out, with the files of git.
pub(super) const MAX_EXCLUSIONS: usize = 10_000;
/// Maximum paths that a signer names, so that the files of git can be recorded beside them.
const MAX_NAMED_EXCLUSIONS: usize = MAX_EXCLUSIONS.saturating_sub(DEFAULT_EXCLUSIONS.len());

/// Maximum length of a path, in bytes: that of Linux.
const MAX_PATH_BYTES: usize = 4096;

/// Why a text is not the path of a file in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Empty, or longer than the operating system allows.
    #[error("is empty or has more than {} bytes", MAX_PATH_BYTES)]
    Length,
    /// It starts with `/`.
    #[error("starts with `/`; a path is relative to the model's folder")]
    Absolute,
    /// It has a component `..`, which leads out of the model.
    #[error("has a component `..`, which leads out of the model's folder")]
    Parent,
    /// It is not in the one form that a path has.
    #[error("is not in canonical form: it has an empty component or a component `.`")]
    Form,
    /// It has a NUL, which no file name has.
    #[error("has a NUL character")]
    Nul,
    /// A path to leave out that is a pattern.
    #[error("has one of `*`, `?` and `[`; patterns are not allowed")]
    Pattern,
    /// A path to leave out beyond those that a signature can record.
    #[error(
        "is beyond the {MAX_NAMED_EXCLUSIONS} that a signature leaves out: name the folders \
         that the paths are in"
    )]
    TooMany,
}

/// Checks that a path is relative and in canonical form.
pub(super) fn check(path: &str) -> Result<(), PathFault> {
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        return Err(PathFault::Length);
    }
    if path.starts_with('/') {
        return Err(PathFault::Absolute);
    }
    if path.contains('\0') {
        return Err(PathFault::Nul);
    }
    for component in path.split('/') {
        match component {
            ".." => return Err(PathFault::Parent),
            "" | "." => return Err(PathFault::Form),
            _ => {}
        }
    }
    Ok(())
}

/// The paths that a signature leaves out: the files of git, and what the signer names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions(BTreeSet<String>);

impl Exclusions {
    /// Leaves out these paths, each with everything below it, beside the files of git.
    ///
    /// # Errors
    /// One of the paths, if it is absolute, not canonical, a pattern or one too many.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Result<Self, (String, PathFault)> {
        let mut kept = BTreeSet::new();
        for path in paths {
            if let Err(fault) = check(&path) {
                return Err((path, fault));
            }
            if path.contains(['*', '?', '[']) {
                return Err((path, PathFault::Pattern));
            }
            // A signature records them too, and they are left out anyway.
            if DEFAULT_EXCLUSIONS.contains(&path.as_str()) || kept.contains(&path) {
                continue;
            }
            // A statement with more of them is not read.
            if kept.len() >= MAX_NAMED_EXCLUSIONS {
                return Err((path, PathFault::TooMany));
            }
            kept.insert(path);
        }
        Ok(Self(kept))
    }

    /// Whether a path, or a folder above it, is left out.
    pub fn covers(&self, path: &str) -> bool {
        let top = path.split('/').next().unwrap_or(path);
        DEFAULT_EXCLUSIONS.contains(&top)
            || self.0.contains(path)
            || path
                .match_indices('/')
                .filter_map(|(end, _)| path.get(..end))
                .any(|folder| self.0.contains(folder))
    }

    /// All paths that are left out, sorted, as a signature records them.
    pub(super) fn recorded(&self) -> Vec<String> {
        let defaults = DEFAULT_EXCLUSIONS.map(str::to_owned);
        let all: BTreeSet<String> = self.0.iter().cloned().chain(defaults).collect();
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        let long = "a".repeat(MAX_PATH_BYTES + 1);
        for (path, fault) in [
            ("", PathFault::Length),
            (long.as_str(), PathFault::Length),
            ("/etc/passwd", PathFault::Absolute),
            ("..", PathFault::Parent),
            ("../secret.txt", PathFault::Parent),
            ("a/../../b", PathFault::Parent),
            (".", PathFault::Form),
            ("./a", PathFault::Form),
            ("a/./b", PathFault::Form),
            ("a//b", PathFault::Form),
            ("a/", PathFault::Form),
            ("a\0", PathFault::Nul),
        ] {
            assert_eq!(check(path), Err(fault), "{path}");
        }
        for path in ["a", "a/b", "..a", "a..", ".hidden", "a:0:1", "ä/模", "a\\b"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn exclusions_are_exact_and_include_what_is_below() {
        let exclusions = Exclusions::new(["cache".to_owned(), "a/b".to_owned()]).unwrap();
        for path in [
            "cache",
            "cache/x",
            "a/b",
            "a/b/c/d",
            ".git",
            ".git/config",
            ".github/x",
        ] {
            assert!(exclusions.covers(path), "{path}");
        }
        for path in [
            "cached",
            "sub/cache",
            "a",
            "a/bc",
            "sub/.git",
            ".gitmodules",
        ] {
            assert!(!exclusions.covers(path), "{path}");
        }
        assert_eq!(
            exclusions.recorded(),
            [
                ".git",
                ".gitattributes",
                ".github",
                ".gitignore",
                "a/b",
                "cache"
            ]
        );
    }

    #[test]
    fn an_exclusion_is_no_pattern_and_stays_inside() {
        for (path, fault) in [
            ("*.bin", PathFault::Pattern),
            ("a?", PathFault::Pattern),
            ("a[1]", PathFault::Pattern),
            ("../a", PathFault::Parent),
            ("/a", PathFault::Absolute),
            (".", PathFault::Form),
        ] {
            assert_eq!(
                Exclusions::new([path.to_owned()]),
                Err((path.to_owned(), fault))
            );
        }
    }
}
