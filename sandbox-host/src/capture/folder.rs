//! Where captured calls lie: a folder that only its owner may read, with so many files at most. The oldest goes first.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What a captured call's file is called by.
const EXTENSION: &str = "capture";

/// The folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: usize,
    /// From the oldest on, by name: names begin with the time.
    names: VecDeque<PathBuf>,
}

impl Folder {
    /// Makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or others may look into it.
    pub fn open(path: &Path, keep: usize) -> io::Result<Self> {
        if !path.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)?;
        }
        let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            let cause = format!("it has mode {mode:04o}, and must be for its owner alone (0700)");
            return Err(io::Error::other(cause));
        }
        Ok(Self {
            path: path.to_owned(),
            keep,
            names: Self::files(path)?.into(),
        })
    }

    /// The captured calls of a folder, the oldest first.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names: Vec<PathBuf> = fs::read_dir(path)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|file| file.extension().is_some_and(|it| it == EXTENSION))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Writes one, and removes what is one too many.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name: String = name.chars().filter(|c| plain(*c)).collect();
        let file = self.path.join(format!("{name}.{EXTENSION}"));
        let beside = self.path.join(format!("{name}.new"));
        let mut open = fs::OpenOptions::new();
        open.write(true).create(true).truncate(true).mode(0o600);
        open.open(&beside)?.write_all(content)?;
        fs::rename(&beside, &file)?;
        self.names.push_back(file);
        while self.names.len() > self.keep {
            if let Some(oldest) = self.names.pop_front() {
                // One that somebody else has removed is gone as well.
                let _ = fs::remove_file(oldest);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_the_folder_is_its_owners_alone() {
        let path = std::env::temp_dir().join(format!("tg-folder-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        let names = |path: &Path| -> Vec<_> {
            let files = Folder::files(path).unwrap().into_iter();
            files
                .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        let mut folder = Folder::open(&path, 2).unwrap();
        for name in ["1-a", "2-b/../x", "3-c"] {
            folder.write(name, b"x").unwrap();
        }
        assert_eq!(names(&path), ["2-bx", "3-c"]);
        // What lies there from before counts.
        Folder::open(&path, 1).unwrap().write("4-d", b"x").unwrap();
        assert_eq!(names(&path), ["4-d"]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Folder::open(&path, 1).is_err());
        fs::remove_dir_all(&path).unwrap();
    }
}
