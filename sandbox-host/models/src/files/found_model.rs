//! A model as it was found: its opened folder, and the names of its files.

use std::fs::File;
use std::path::Path;

use rustix::fs::{OFlags, fstat};
use tensorgate_artifact::model_signing::{Exclusions, Manifest};

use super::fault::Fault;
use super::file_state::is_same;
use super::open_folder::FILE;
use super::tree::Tree;
use super::walk::{FoundFile, Ignored, SIGNATURE, Scope, Walked, walk};

/// A model whose files were found by the rules of a manifest. None of them is opened yet.
#[derive(Debug)]
pub struct FoundModel {
    tree: Tree,
    signed: Vec<FoundFile>,
    unsigned: Vec<FoundFile>,
    excluded: Vec<String>,
    uncovered: Vec<String>,
}

impl FoundModel {
    /// Finds the files of a model, a folder or a single file.
    ///
    /// # Errors
    /// The model cannot be read, or has what no model may have.
    pub fn find(root: &Path, manifest: &Manifest, ignored: &Ignored) -> Result<Self, Fault> {
        let tree = Tree::open(root, manifest.rules().follow_links)?;
        let Walked { files, excluded } = walk(&tree, Scope::Signed { manifest, ignored })?;
        let (signed, unsigned) = files.into_iter().partition(|file| file.is_signed);
        let files_of_git = Exclusions::default();
        let is_uncovered = |found: &&String| {
            let path = found.strip_suffix('/').unwrap_or(found);
            // A folder with the name of a signature is none.
            !files_of_git.covers(path) && !ignored.covers(path) && found.as_str() != SIGNATURE
        };
        Ok(Self {
            tree,
            signed,
            unsigned,
            uncovered: excluded.iter().filter(is_uncovered).cloned().collect(),
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

    /// What the manifest leaves out and the caller does not: neither files of git nor signatures. A
    /// server could load it, and nothing is known about it.
    pub fn uncovered(&self) -> &[String] {
        &self.uncovered
    }

    /// Opens a file, which must still be the one that was found.
    ///
    /// # Errors
    /// It cannot be opened, or is another one.
    pub fn open(&self, file: &FoundFile) -> Result<File, Fault> {
        self.open_by(file, FILE)
    }

    /// The same for a file whose own name must be no link, whatever the manifest allows.
    ///
    /// # Errors
    /// Its name is a link, or as for [`Self::open`].
    pub fn open_unlinked(&self, file: &FoundFile) -> Result<File, Fault> {
        self.open_by(file, FILE | OFlags::NOFOLLOW)
    }

    fn open_by(&self, file: &FoundFile, flags: OFlags) -> Result<File, Fault> {
        let location = &file.location;
        let opened = File::from(self.tree.descend(location, flags)?);
        let state = fstat(&opened)
            .map_err(|error| Fault::at(location, error, self.tree.follows_links()))?;
        if is_same(&file.state, &state) {
            Ok(opened)
        } else {
            Err(Fault::Changed(location.clone()))
        }
    }
}
