//! A model as it was found: its opened folder, and the names and states of its files.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Stat, fstat};
use tensorgate_artifact::model_signing::Manifest;

use super::fault::Fault;
use super::file_state::{is_same, is_same_or_absent};
use super::tree::{FILE, Tree};
use super::walk::{FoundFile, Ignored, Scope, Walked, walk};

/// A model whose files were found by the rules of a manifest. None of them is opened yet.
#[derive(Debug)]
pub struct FoundModel {
    tree: Tree,
    signed: Vec<FoundFile>,
    unsigned: Vec<FoundFile>,
    excluded: Vec<String>,
}

/// The states of a model's files, in the order of their paths. What the manifest leaves out has no
/// state: it may change, and not appear.
#[derive(Debug, Default)]
pub struct FileStates(Vec<(String, Option<Stat>)>);

impl FoundModel {
    /// Finds the files of a model, a folder or a single file.
    ///
    /// # Errors
    /// The model cannot be read, or has what no model may have.
    pub fn find(root: &Path, manifest: &Manifest, ignored: &Ignored) -> Result<Self, Fault> {
        let tree = Tree::open(root, manifest.rules().follow_links)?;
        let Walked { files, excluded } = walk(&tree, Scope::Signed { manifest, ignored })?;
        let (signed, unsigned) = files.into_iter().partition(|file| file.is_signed);
        Ok(Self {
            tree,
            signed,
            unsigned,
            excluded,
        })
    }

    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The files that the manifest lists.
    pub fn signed(&self) -> &[FoundFile] {
        &self.signed
    }

    /// The files that the manifest neither lists nor leaves out.
    pub fn unsigned(&self) -> &[FoundFile] {
        &self.unsigned
    }

    /// What the manifest leaves out. A folder ends with a slash.
    pub fn excluded(&self) -> &[String] {
        &self.excluded
    }

    /// Opens a file, which must still be the one that was found.
    ///
    /// # Errors
    /// It cannot be opened, or is another one.
    pub fn open(&self, file: &FoundFile) -> Result<File, Fault> {
        let location = &file.location;
        let opened = File::from(self.tree.descend(location, FILE)?);
        let state = fstat(&opened)
            .map_err(|error| Fault::at(location, error, self.tree.follows_links()))?;
        if is_same(&file.state, &state) {
            Ok(opened)
        } else {
            Err(Fault::Changed(location.clone()))
        }
    }

    /// The states of all files.
    pub fn states(&self) -> FileStates {
        let files = self.signed.iter().chain(&self.unsigned);
        let files = files.map(|file| (file.location.clone(), Some(file.state)));
        let excluded = self.excluded.iter().map(|path| (path.clone(), None));
        let mut states: Vec<_> = files.chain(excluded).collect();
        states.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        FileStates(states)
    }
}

impl FileStates {
    /// The first file that is new, missing or another one since `before`.
    pub fn change_since(&self, before: &Self) -> Option<String> {
        let mut earlier = before.0.iter();
        for (path, state) in &self.0 {
            match earlier.next() {
                Some((known, then))
                    if known == path && is_same_or_absent(then.as_ref(), state.as_ref()) => {}
                Some((known, _)) => return Some(known.min(path).clone()),
                None => return Some(path.clone()),
            }
        }
        earlier.next().map(|(path, _)| path.clone())
    }
}
