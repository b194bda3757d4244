//! What a scan leaves out: paths that its caller names, and git's own files at the top of a folder,
//! as signatures leave them out.

use std::path::{Path, PathBuf};

use tensorgate_artifact::model_signing::Exclusions;
use tensorgate_artifact::scan::detect::is_model_name;

/// The ending of code that model servers run.
const CODE_ENDING: &str = ".py";
/// Model files in ignored folders that are named. The others are counted.
const MAX_NAMED: usize = 20;

/// What a scan left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Paths as they are printed, folders with a slash.
    pub paths: Vec<IgnoredPath>,
    /// Files among them, or below them, with the name of a model, of weights or of code.
    pub models: Vec<PathBuf>,
    /// Further such files.
    pub more_models: u64,
}

/// A path that was left out.
#[derive(Debug, PartialEq, Eq)]
pub struct IgnoredPath {
    /// The path. A folder ends with a slash.
    pub path: PathBuf,
    /// Whether it is one of git's own.
    pub is_git: bool,
}

/// Why a path is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is one of git's own.
    Git,
    /// The caller names it, or a folder above it.
    Named,
}

/// Whether a scan leaves a path out. `below` is relative to the scanned folder. What is not UTF-8
/// is never left out: no caller can name it.
pub fn cause(exclusions: &Exclusions, below: &Path) -> Option<Cause> {
    let below = below.to_str().filter(|path| !path.is_empty())?;
    if Exclusions::default().covers(below) {
        Some(Cause::Git)
    } else {
        exclusions.covers(below).then_some(Cause::Named)
    }
}

impl Ignored {
    /// Adds a path that is left out.
    pub fn add(&mut self, path: &Path, is_folder: bool, cause: Cause) {
        let mut shown = path.to_owned();
        if is_folder {
            // An empty last part is a slash.
            shown.push("");
        } else {
            self.add_file(path);
        }
        self.paths.push(IgnoredPath {
            path: shown,
            is_git: cause == Cause::Git,
        });
    }

    /// Looks at the name of a file that is left out.
    pub fn add_file(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !is_model_name(&name) && !name.to_lowercase().ends_with(CODE_ENDING) {
            return;
        }
        if self.models.len() < MAX_NAMED {
            self.models.push(path.to_owned());
        } else {
            self.more_models = self.more_models.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn gits_own_files_at_the_top_and_named_paths_are_left_out() {
        let exclusions = Exclusions::new(["logs".to_owned(), "a/b".to_owned()]).unwrap();
        for (below, expected) in [
            (".git", Some(Cause::Git)),
            (".gitattributes", Some(Cause::Git)),
            ("logs", Some(Cause::Named)),
            ("logs/x", Some(Cause::Named)),
            ("a/b", Some(Cause::Named)),
            ("a/bc", None),
            ("sub/.git", None),
            (".gitmodules", None),
            (".GIT", None),
            ("Logs", None),
            ("", None),
        ] {
            assert_eq!(cause(&exclusions, Path::new(below)), expected, "{below}");
        }
        let not_utf8 = Path::new(OsStr::from_bytes(b"logs/\xff"));
        assert_eq!(cause(&exclusions, not_utf8), None);
    }

    #[test]
    fn ignored_models_are_named_up_to_a_bound() {
        let mut ignored = Ignored::default();
        ignored.add(Path::new("m/logs"), true, Cause::Named);
        for file in 0..MAX_NAMED + 2 {
            ignored.add_file(&PathBuf::from(format!("m/logs/{file}.SafeTensors")));
            ignored.add_file(&PathBuf::from(format!("m/logs/{file}.txt")));
        }
        assert_eq!(ignored.paths.first().unwrap().path, Path::new("m/logs/"));
        assert_eq!((ignored.models.len(), ignored.more_models), (MAX_NAMED, 2));
    }
}
