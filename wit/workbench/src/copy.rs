//! A temporary copy of a project for building. Code that runs during the build can change only the
//! copy. Symbolic links out of the project are not copied.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_models::files::open_folder::{
    EnterFault, FolderWalk, MAX_NAMES, file_type, look, open_file, open_folder,
};

/// Maximum number of files and folders in a project.
pub const MAX_ENTRIES: usize = 20_000;
/// Maximum total size of a project's files, bytes.
const MAX_BYTES: u64 = 512 << 20;
/// Maximum nesting of folders.
pub const MAX_DEPTH: usize = 64;

/// Top-level folders that are not copied: build outputs and version history.
pub const LEFT: [&str; 3] = ["build", "target", ".git"];
/// Python bytecode caches, which are not copied from any folder.
pub const CACHE: &str = "__pycache__";

/// The copy; deleted on drop.
pub struct Copy {
    private: PrivateDir,
}

impl Copy {
    /// Copies a project.
    ///
    /// # Errors
    /// The project is too large, or cannot be read.
    pub fn new(project: &Path) -> Result<Self, Failure> {
        let private = PrivateDir::new()
            .map_err(|cause| Failure::Failed(format!("cannot make a folder: {cause}")))?;
        let copy = Self { private };
        let failed = |cause: io::Error| {
            Failure::Failed(format!("cannot copy {}: {cause}", project.display()))
        };
        for folder in [copy.empty(), copy.project()] {
            std::fs::create_dir(folder).map_err(failed)?;
        }
        let mut room = (MAX_ENTRIES, MAX_BYTES);
        let mut walk = FolderWalk::new(MAX_DEPTH);
        let root = File::open(project).map_err(failed)?;
        let mut next = Some((OwnedFd::from(root), PathBuf::new()));
        loop {
            if let Some((folder, path)) = next.take() {
                let mut names_left = MAX_NAMES;
                let entered = walk.enter(folder, path, &mut names_left);
                entered.map_err(|fault| match fault {
                    EnterFault::Unreadable(cause) => failed(cause.into()),
                    EnterFault::Depth | EnterFault::Names => too_large(project),
                })?;
            }
            let Some((folder, below, name)) = walk.next_name() else {
                return Ok(copy);
            };
            let is_top = below.as_os_str().is_empty();
            if name == CACHE || (is_top && LEFT.iter().any(|left| name == *left)) {
                continue;
            }
            let path = below.join(&name);
            let found = look(&folder, &name).map_err(io::Error::from);
            let found = found.map_err(failed)?;
            let kind = file_type(&found);
            let length = if kind.is_file() { found.st_size } else { 0 };
            let bytes = u64::try_from(length).unwrap_or(u64::MAX);
            room = (room.0.checked_sub(1).zip(room.1.checked_sub(bytes)))
                .ok_or_else(|| too_large(project))?;
            let to = copy.project().join(&path);
            if kind.is_dir() {
                std::fs::create_dir(to).map_err(failed)?;
                let opened = open_folder(&folder, &name).map_err(io::Error::from);
                next = Some((opened.map_err(failed)?, path));
            } else if kind.is_file() {
                let opened = open_file(&folder, &name).map_err(io::Error::from);
                regular(opened.map_err(failed)?, &to, bytes).map_err(failed)?;
            } else if kind.is_symlink() {
                inner(project, &project.join(&path), &to).map_err(failed)?;
            }
        }
    }

    /// Folder of everything that belongs to the copy.
    pub fn root(&self) -> &Path {
        self.private.path()
    }

    /// Folder of the copied project.
    pub fn project(&self) -> PathBuf {
        self.private.path().join("project")
    }

    /// Path of the component that a tool produces.
    pub fn made(&self) -> PathBuf {
        self.private.path().join("made.wasm")
    }

    /// An empty folder.
    pub fn empty(&self) -> PathBuf {
        self.private.path().join("empty")
    }
}

/// The failure of a project with too many files or folders.
pub fn too_large(project: &Path) -> Failure {
    Failure::Input(format!(
        "{} is too large for a handler's project: at most {MAX_ENTRIES} files, {} MiB in total and {MAX_DEPTH} nested folders, not counting {}",
        project.display(),
        MAX_BYTES >> 20,
        LEFT.join(", ")
    ))
}

/// Copies at most the number of bytes that was counted, even if the file grows meanwhile.
fn regular(from: OwnedFd, to: &Path, bytes: u64) -> io::Result<()> {
    let mut from = io::Read::take(File::from(from), bytes);
    io::copy(&mut from, &mut File::create_new(to)?).map(drop)
}

/// Copies a relative link that leads to a file inside the project. Other links are skipped.
fn inner(project: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let target = std::fs::read_link(from)?;
    let leads = from.canonicalize().ok();
    if target.is_relative() && leads.is_some_and(|leads| leads.starts_with(project)) {
        std::os::unix::fs::symlink(target, to)?;
    }
    Ok(())
}
