//! Finds the files of a model, by the rules of its signature.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat, fstat};
use rustix::io::Errno;
use tensorgate_artifact::model_signing::{
    Exclusions, FileClass, GIT_FOLDER, Manifest, Pieces, Rules, SINGLE_FILE,
};
use tensorgate_artifact::scan::detect::is_model_name;

use super::fault::Fault;
use super::file_state::is_same;
use super::open_folder::{FOLDER, FolderWalk, MAX_DEPTH, MAX_NAMES, file_type, look, open_folder};
use super::tree::Tree;

/// The name of a signature in the folder of its model.
pub const SIGNATURE: &str = "model.sig";

/// Files that are no part of a signed model, although the signature does not leave them out.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    /// Paths that the caller leaves out. A signed file is compared all the same.
    pub paths: Exclusions,
    /// The file of the signature, if it is in the model's folder.
    pub bundle: Option<String>,
}

impl Ignored {
    /// Whether a path need not be signed.
    pub(super) fn covers(&self, path: &str) -> bool {
        self.paths.covers(path) || self.bundle.as_deref() == Some(path)
    }
}

/// Which files belong to a model.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// By which rules they are found.
    pub rules: &'a Rules,
    /// What was signed. `None` if all is to be signed that the rules do not leave out.
    pub manifest: Option<&'a Manifest>,
    /// What the caller leaves out of a signed model.
    pub ignored: &'a Ignored,
}

impl Scope<'_> {
    fn class(&self, path: &str) -> FileClass {
        match self.manifest.map(|manifest| manifest.classify(path)) {
            None if self.rules.exclusions.covers(path) => FileClass::Excluded,
            None => FileClass::Signed,
            Some(FileClass::Unsigned) if self.ignored.covers(path) => FileClass::Excluded,
            Some(class) => class,
        }
    }

    /// Whether a folder is left out with everything in it.
    fn skips_folder(&self, path: &str) -> bool {
        match self.manifest {
            Some(manifest) => manifest.skips_folder(path),
            None => self.rules.exclusions.covers(path),
        }
    }

    /// The path of a model that is a single file.
    fn single_file_path<'n>(&self, name: &'n str) -> &'n str {
        match self.manifest {
            Some(manifest) => manifest.single_file_path(name),
            // The specification says its name. `model-signing` reads only this.
            None => SINGLE_FILE,
        }
    }
}

/// A file of a model, which is not opened yet.
#[derive(Debug)]
pub struct FoundFile {
    /// Its path as it is signed.
    pub path: String,
    /// Where it is, relative to the opened folder.
    pub location: String,
    /// Its state when it was found.
    pub state: Stat,
    /// Whether it is in the manifest, or is to be.
    pub is_signed: bool,
}

impl FoundFile {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.state.st_size).unwrap_or(0)
    }

    /// Opens the file, which must still be the one that was found.
    pub(super) fn open(&self, tree: &Tree, flags: OFlags) -> Result<File, Fault> {
        let opened = File::from(tree.descend(&self.location, flags)?);
        if self.is_unchanged(&opened) {
            Ok(opened)
        } else {
            Err(Fault::Changed(self.location.clone()))
        }
    }

    /// Whether an opened file is still the one that was found.
    pub(super) fn is_unchanged(&self, opened: &File) -> bool {
        fstat(opened).is_ok_and(|state| is_same(&self.state, &state))
    }
}

/// What was found in a model.
#[derive(Debug, Default)]
pub struct Walked {
    /// Its files.
    pub files: Vec<FoundFile>,
    /// What is left out. A folder ends with a slash.
    pub excluded: Vec<String>,
}

/// A folder whose names are being visited.
struct Level {
    /// Its state, by which a folder within itself is detected.
    state: Stat,
    /// Its path, empty at the top.
    path: String,
    /// Whether it is left out. Only names that a model's file has are looked for in it.
    is_left_out: bool,
}

/// A walk below the opened folder.
struct Walk<'a> {
    tree: &'a Tree,
    scope: Scope<'a>,
    walked: Walked,
    levels: FolderWalk<Level>,
    names_left: usize,
}

/// Finds all files of a model.
pub fn walk(tree: &Tree, scope: Scope<'_>) -> Result<Walked, Fault> {
    let mut walk = Walk {
        tree,
        scope,
        walked: Walked::default(),
        levels: FolderWalk::new(MAX_DEPTH),
        names_left: MAX_NAMES,
    };
    match &tree.file_name {
        Some(name) => walk.single_file(name)?,
        None => walk.folder()?,
    }
    Ok(walk.walked)
}

impl Walk<'_> {
    /// Looks at a model that is a single file. No rule leaves it out.
    fn single_file(&mut self, name: &OsStr) -> Result<(), Fault> {
        let location = text(name, "")?;
        let stat = self.look(&self.tree.root, name, &location)?;
        match self.target(&location, stat)? {
            (FileType::RegularFile, stat) => {
                let path = self.scope.single_file_path(&location).to_owned();
                let class = self.scope.class(&path);
                self.add(path, location, stat, class);
                Ok(())
            }
            _ => Err(Fault::Special(location)),
        }
    }

    /// Visits the whole folder.
    fn folder(&mut self) -> Result<(), Fault> {
        self.enter(String::new())?;
        while let Some((folder, level, name)) = self.levels.next_name() {
            if level.is_left_out {
                // No manifest has these paths, so they need not be UTF-8.
                let path = join(&name.to_string_lossy(), &level.path);
                self.visit_left_out(&folder, &name, path)?;
                continue;
            }
            let path = text(&name, &level.path)?;
            let stat = self.look(&folder, &name, &path)?;
            self.visit(path, stat)?;
        }
        Ok(())
    }

    /// Visits what has a name in a folder that is left out. Such a folder may change meanwhile, and
    /// what may not be read in it is not searched.
    fn visit_left_out(
        &mut self,
        folder: &Arc<OwnedFd>,
        name: &OsStr,
        path: String,
    ) -> Result<(), Fault> {
        match open_folder(folder, name) {
            Ok(opened) => self.enter_opened(opened, path, true),
            // No folder, or one that cannot be read.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NOENT) => refuse_model(&path),
            Err(error) => Err(Fault::at(&path, error, self.tree.follows_links)),
        }
    }

    /// Enters a folder that is left out. One that may not be read is not searched.
    fn enter_left_out(&mut self, path: String) -> Result<(), Fault> {
        match self.tree.descend(&path, FOLDER) {
            Ok(folder) => self.enter_opened(folder, path, true),
            Err(Fault::Unreadable { cause, .. }) if cause.kind() == ErrorKind::PermissionDenied => {
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    fn visit(&mut self, path: String, stat: Stat) -> Result<(), Fault> {
        if file_type(&stat) == FileType::Directory {
            return self.enter_unless_skipped(path);
        }
        let class = self.scope.class(&path);
        if class == FileClass::Excluded {
            // The signature may have any name.
            if self.scope.ignored.bundle.as_ref() != Some(&path) {
                refuse_model(&path)?;
            }
            self.walked.excluded.push(path);
            return Ok(());
        }
        match self.target(&path, stat)? {
            (FileType::RegularFile, stat) => {
                self.add(path.clone(), path, stat, class);
                Ok(())
            }
            (FileType::Directory, _) => self.enter_unless_skipped(path),
            _ => Err(Fault::Special(path)),
        }
    }

    fn enter_unless_skipped(&mut self, path: String) -> Result<(), Fault> {
        if self.scope.skips_folder(&path) {
            self.walked.excluded.push(format!("{path}/"));
            if path == GIT_FOLDER {
                return Ok(());
            }
            return self.enter_left_out(path);
        }
        self.enter(path)
    }

    /// Adds a regular file of this class.
    fn add(&mut self, path: String, location: String, state: Stat, class: FileClass) {
        // An empty file has no shards, so that no signature in shards covers it.
        if self.scope.rules.pieces != Pieces::Files && state.st_size == 0 {
            self.walked.excluded.push(path);
            return;
        }
        self.walked.files.push(FoundFile {
            path,
            location,
            state,
            is_signed: class == FileClass::Signed,
        });
    }

    /// The state of what has a name in a folder, without following a link.
    fn look(&self, folder: impl AsFd, name: &OsStr, path: &str) -> Result<Stat, Fault> {
        look(folder, name).map_err(|error| Fault::at(path, error, self.tree.follows_links))
    }

    /// What is at a path, behind a link if the rules allow that.
    fn target(&self, path: &str, stat: Stat) -> Result<(FileType, Stat), Fault> {
        let found = file_type(&stat);
        if found != FileType::Symlink {
            return Ok((found, stat));
        }
        if !self.tree.follows_links {
            return Err(Fault::Link(path.to_owned()));
        }
        let opened = self.tree.descend(path, OFlags::PATH | OFlags::CLOEXEC)?;
        let stat = fstat(opened).map_err(|error| Fault::at(path, error, true))?;
        Ok((file_type(&stat), stat))
    }

    /// Makes a folder the next level.
    fn enter(&mut self, path: String) -> Result<(), Fault> {
        let location = if path.is_empty() { "." } else { &path };
        let folder = self.tree.descend(location, FOLDER)?;
        self.enter_opened(folder, path, false)
    }

    /// Makes an opened folder the next level.
    fn enter_opened(
        &mut self,
        folder: OwnedFd,
        path: String,
        is_left_out: bool,
    ) -> Result<(), Fault> {
        let follows_links = self.tree.follows_links;
        let state = fstat(&folder).map_err(|error| Fault::at(&path, error, follows_links))?;
        let is_state = |level: &Level| {
            level.state.st_dev == state.st_dev && level.state.st_ino == state.st_ino
        };
        if self.levels.paths().any(is_state) {
            return Err(Fault::LinkCircle(path));
        }
        let level = Level {
            state,
            path: path.clone(),
            is_left_out,
        };
        let entered = self.levels.enter(folder, level, &mut self.names_left);
        entered.map_err(|entered| Fault::not_entered(&path, entered, follows_links))
    }
}

/// The path of a name in a folder.
fn text(name: &OsStr, folder: &str) -> Result<String, Fault> {
    match name.to_str() {
        Some(name) => Ok(join(name, folder)),
        None => Err(Fault::Name(join(&name.to_string_lossy(), folder))),
    }
}

pub(super) fn join(name: &str, folder: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// The folder of a path, empty at the top of a model, and the name in it.
pub fn folder_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Refuses a file that is left out if its name is that of a model's file.
fn refuse_model(path: &str) -> Result<(), Fault> {
    let (_, name) = folder_and_name(path);
    if is_model_name(name) {
        return Err(Fault::LeftOut(path.to_owned()));
    }
    Ok(())
}
