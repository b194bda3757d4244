//! A model as it was found: its opened folder, and the names of its files.

use std::fs::File;
use std::path::Path;

use rustix::fs::OFlags;
use tensorgate_artifact::model_signing::{Exclusions, Manifest};

use super::fault::Fault;
use super::tree::Tree;
use super::walk::{FoundFile, Ignored, SIGNATURE, Scope, Walked, walk};

/// A model whose files were found by the rules of a manifest. None of them is opened yet.
#[derive(Debug)]
pub struct FoundModel {
    pub(super) tree: Tree,
    /// The files that the manifest lists.
    pub signed: Vec<FoundFile>,
    /// The files that the manifest neither lists nor leaves out.
    pub unsigned: Vec<FoundFile>,
    /// What the manifest leaves out. A folder ends with a slash.
    pub excluded: Vec<String>,
    /// What the manifest leaves out and the caller does not: neither files of git nor signatures. A
    /// server could load it, and nothing is known about it.
    pub uncovered: Vec<String>,
}

impl FoundModel {
    /// Finds the files of a model, a folder or a single file.
    ///
    /// # Errors
    /// The model cannot be read, or has what no model may have.
    pub fn find(root: &Path, manifest: &Manifest, ignored: &Ignored) -> Result<Self, Fault> {
        let tree = Tree::open(root, manifest.rules().follow_links)?;
        let scope = Scope {
            rules: manifest.rules(),
            manifest: Some(manifest),
            ignored,
        };
        let Walked { files, excluded } = walk(&tree, scope)?;
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

    /// Opens a file, which must still be the one that was found.
    ///
    /// # Errors
    /// It cannot be opened, or is another one.
    pub fn open(&self, file: &FoundFile, flags: OFlags) -> Result<File, Fault> {
        file.open(&self.tree, flags)
    }
}
