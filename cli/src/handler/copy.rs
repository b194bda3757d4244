//! A copy of a project, to be built: what runs while its component is made runs on this, and what it writes goes with it. No link of a
//! project's leads out of it.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::stack::private_dir::PrivateDir;

/// What a project may have, files and folders.
const MAX_ENTRIES: usize = 20_000;
/// And in all its files, bytes.
const MAX_BYTES: u64 = 512 << 20;
/// Folders within folders.
const MAX_DEPTH: usize = 64;

/// What no build is made of, at the top of a project: what builds leave, and its history.
const LEFT: [&str; 3] = ["build", "target", ".git"];
/// What an interpreter left, anywhere.
const CACHE: &str = "__pycache__";
/// With a file of this name a project would tell componentize-py of folders to write to.
const TOOLS_OWN: &str = "componentize-py.toml";

/// The copy; gone when dropped.
pub struct Copy {
    private: PrivateDir,
}

impl Copy {
    /// Copies a project.
    ///
    /// # Errors
    /// If it is larger than any project, configures the tools, or cannot be read.
    pub fn of(project: &Path) -> Result<Self, Failure> {
        let private = PrivateDir::new()
            .map_err(|cause| Failure::Failed(format!("cannot make a folder: {cause}")))?;
        let copy = Self { private };
        let failed = |cause: io::Error| {
            Failure::Failed(format!("cannot copy {}: {cause}", project.display()))
        };
        std::fs::create_dir_all(copy.packages()).map_err(failed)?;
        std::fs::create_dir(copy.project()).map_err(failed)?;
        let mut room = (MAX_ENTRIES, MAX_BYTES);
        let mut folders = vec![(PathBuf::new(), 0)];
        while let Some((below, depth)) = folders.pop() {
            for entry in std::fs::read_dir(project.join(&below)).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                if name == CACHE || (depth == 0 && LEFT.iter().any(|left| name == *left)) {
                    continue;
                }
                let path = below.join(&name);
                if name == TOOLS_OWN {
                    return Err(Failure::Input(format!(
                        "{}: a handler is built against its own contract, and configures no tool: remove it",
                        path.display()
                    )));
                }
                let found = entry.metadata().map_err(failed)?;
                room = (room.0.checked_sub(1).zip(room.1.checked_sub(bytes(&found))))
                    .filter(|_| depth < MAX_DEPTH)
                    .ok_or_else(|| too_large(project))?;
                let (from, to) = (project.join(&path), copy.project().join(&path));
                if found.is_dir() {
                    std::fs::create_dir(to).map_err(failed)?;
                    folders.push((path, depth.saturating_add(1)));
                } else if found.is_file() {
                    regular(&from, &to, found.len()).map_err(failed)?;
                } else if found.is_symlink() {
                    inner(project, &from, &to).map_err(failed)?;
                }
            }
        }
        Ok(copy)
    }

    /// Where it is.
    pub fn project(&self) -> PathBuf {
        self.private.path().join("project")
    }

    /// Where a tool makes the component.
    pub fn made(&self) -> PathBuf {
        self.private.path().join("made.wasm")
    }

    /// An environment of Python's with nothing in it: tools that look for one show its packages' folder to what they run, to write there too.
    pub fn environment(&self) -> PathBuf {
        self.private.path().join("environment")
    }

    fn packages(&self) -> PathBuf {
        self.environment().join("lib/python3/site-packages")
    }
}

fn bytes(found: &Metadata) -> u64 {
    if found.is_file() { found.len() } else { 0 }
}

fn too_large(project: &Path) -> Failure {
    Failure::Input(format!(
        "{} is larger than a handler's project: at most {MAX_ENTRIES} files of {} MiB together, {MAX_DEPTH} folders deep, beside {}",
        project.display(),
        MAX_BYTES >> 20,
        LEFT.join(", ")
    ))
}

/// No more than was counted, whatever is written meanwhile.
fn regular(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let mut from = io::Read::take(File::open(from)?, bytes);
    io::copy(&mut from, &mut File::create_new(to)?).map(drop)
}

/// A link that says where in the project it leads. Of one that leads elsewhere, or nowhere, there is no copy.
fn inner(project: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let says = std::fs::read_link(from)?;
    let leads = from.canonicalize().ok();
    if says.is_relative() && leads.is_some_and(|leads| leads.starts_with(project)) {
        std::os::unix::fs::symlink(says, to)?;
    }
    Ok(())
}
