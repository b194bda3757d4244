//! A model as it was found: its opened folder, and the names of its files.

use std::fs::File;
use std::path::Path;

use rustix::fs::fstat;
use tensorgate_artifact::model_signing::Manifest;

use super::fault::Fault;
use super::file_state::is_same;
use super::open_folder::FILE;
use super::tree::Tree;
use super::walk::{FoundFile, Ignored, Scope, Walked, walk};

/// A model whose files were found by the rules of a manifest. None of them is opened yet.
#[derive(Debug)]
pub struct FoundModel {
    tree: Tree,
    signed: Vec<FoundFile>,
    unsigned: Vec<FoundFile>,
    excluded: Vec<String>,
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
}
