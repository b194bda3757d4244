//! Reads the files of a model for a signature: finds them, hashes them in parallel, and compares
//! them with what was signed.
//!
//! Nothing is followed out of the model's folder, whatever is moved or replaced meanwhile, and only
//! regular files are read. A digest is about the bytes at the time of the check: a server must load
//! the model from a copy that no one else can write.
//!
//! Its modules, from bottom to top: `file_state`, `open_folder`, `fault`, `tree`, `copy`, `walk`,
//! `folder_states`, `found_model`, `hash`.

mod copy;
mod fault;
pub mod file_state;
mod folder_states;
mod found_model;
mod hash;
pub mod open_folder;
mod tree;
mod walk;

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use tensorgate_artifact::model_signing::{
    Differences, MAX_BUNDLE_BYTES, Manifest, Pieces, Resource, Rules, compare,
};
use tensorgate_base::files::regular_at_most;

pub use fault::Fault;
pub use folder_states::FolderStates;
pub use found_model::FoundModel;
pub use hash::{Options, Progress};
use hash::{Settings, hash};
use open_folder::parent;
use tree::Tree;
pub use walk::{FoundFile, Ignored, SIGNATURE, folder_and_name};
use walk::{Scope, Walked, walk};

/// The ending of a signature beside a model that is a single file.
const SIGNATURE_ENDING: &str = ".sig";

/// A file that was hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// Its path as it is signed, relative to the model's folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256. `None` if shards of it were hashed instead.
    pub sha256: Option<[u8; 32]>,
}

/// A model that was compared with a manifest.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The files that the manifest lists and the model has, sorted by path. They are the signed
    /// ones only if there are no differences. Nothing else in the folder should be loaded.
    pub signed: Vec<SignedFile>,
    /// What no signature covers. A folder ends with a slash, and stands for all in it.
    pub excluded: Vec<String>,
    /// Those of them that are neither files of git, nor signatures, nor ignored by the caller.
    pub uncovered: Vec<String>,
    /// How the model differs from what was signed.
    pub differences: Differences,
}

/// A model that was hashed to be signed.
#[derive(Clone, Debug)]
pub struct Hashed {
    /// What is signed.
    pub manifest: Manifest,
    /// Its files, sorted by path.
    pub files: Vec<SignedFile>,
    /// What is left out. A folder ends with a slash, and stands for all in it.
    pub excluded: Vec<String>,
}

/// Compares a model, a folder or a single file, with its manifest. Only signed files are read; the
/// manifest's own rules say which links are followed. `copy_to` is an opened empty folder that gets
/// a copy of each signed file, with exactly the bytes that are hashed. The copy is the signed model
/// if there are no differences.
///
/// # Errors
/// The model cannot be read, changes meanwhile, or has what no model may have: links that the rules
/// do not follow, devices, names that are not UTF-8. Or the copy cannot be written.
pub fn check_folder(
    root: &Path,
    manifest: &Manifest,
    ignored: &Ignored,
    options: &Options,
    copy_to: Option<BorrowedFd<'_>>,
) -> Result<Checked, Fault> {
    let found = FoundModel::find(root, manifest, ignored)?;
    check_found(&found, manifest, options, copy_to)
}

/// Compares a model that was found by a manifest with that manifest.
///
/// # Errors
/// As for [`check_folder`].
pub fn check_found(
    found: &FoundModel,
    manifest: &Manifest,
    options: &Options,
    copy_to: Option<BorrowedFd<'_>>,
) -> Result<Checked, Fault> {
    let rules = manifest.rules();
    let settings = Settings {
        tree: &found.tree,
        pieces: rules.pieces,
        manifest: Some(manifest),
        copy_to,
        options,
    };
    let mut resources = hash(&settings, &found.signed)?;
    let signed = signed_files(&found.signed, &resources);
    // An unsigned file differs, whatever it holds.
    resources.extend(found.unsigned.iter().map(|file| unread(file, rules)));
    Ok(Checked {
        signed,
        excluded: found.excluded.clone(),
        uncovered: found.uncovered.clone(),
        differences: compare(manifest, resources),
    })
}

/// Hashes a model, a folder or a single file, by these rules. `name` is the model's name in the
/// manifest.
///
/// # Errors
/// The model cannot be read, changes meanwhile, or has what no model may have: no files, links that
/// the rules do not follow, devices, names that are not UTF-8.
pub fn hash_folder(
    root: &Path,
    name: String,
    rules: Rules,
    options: &Options,
) -> Result<Hashed, Fault> {
    let tree = Tree::open(root, rules.follow_links)?;
    let scope = Scope {
        rules: &rules,
        manifest: None,
        ignored: &Ignored::default(),
    };
    let Walked { files, excluded } = walk(&tree, scope)?;
    let settings = Settings {
        tree: &tree,
        pieces: rules.pieces,
        manifest: None,
        copy_to: None,
        options,
    };
    let resources = hash(&settings, &files)?;
    Ok(Hashed {
        files: signed_files(&files, &resources),
        manifest: Manifest::new(name, rules, resources)?,
        excluded,
    })
}

/// The path of a file beneath a model's folder, if it is there. It need not exist.
pub fn path_beneath(root: &Path, file: &Path) -> Option<String> {
    let folder = parent(file).canonicalize().ok()?;
    let file = folder.join(file.file_name()?);
    let beneath = file.strip_prefix(root.canonicalize().ok()?).ok()?;
    beneath.to_str().map(str::to_owned)
}

/// The default file of a model's signature: in its folder, or beside a single file.
pub fn signature_file(model: &Path) -> PathBuf {
    if model.is_file() {
        let mut name = model.as_os_str().to_owned();
        name.push(SIGNATURE_ENDING);
        name.into()
    } else {
        model.join(SIGNATURE)
    }
}

/// Reads a model's signature, or its manifest. `None` if it is larger than a signature may be.
///
/// # Errors
/// It cannot be read.
pub fn read_signature(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let max_bytes = u64::try_from(MAX_BUNDLE_BYTES).unwrap_or(u64::MAX);
    regular_at_most(file, max_bytes)
}

/// The signed file at a path, of those that are sorted by path.
pub fn find_signed<'s>(signed: &'s [SignedFile], path: &str) -> Option<&'s SignedFile> {
    let found = signed.binary_search_by(|file| file.path.as_str().cmp(path));
    signed.get(found.ok()?)
}

/// A resource that equals no signed one.
fn unread(file: &FoundFile, rules: &Rules) -> Resource {
    let bytes = file.bytes();
    match rules.pieces {
        Pieces::Files => Resource::file(file.path.clone(), [0; 32]),
        Pieces::Shards(_) => Resource::shard(file.path.clone(), 0..bytes, [0; 32]),
    }
}

/// The files with the digests of those that were hashed as a whole.
fn signed_files(files: &[FoundFile], resources: &[Resource]) -> Vec<SignedFile> {
    let whole = resources.iter().filter(|it| it.range.is_none());
    let whole: HashMap<_, _> = whole.map(|it| (&it.path, it.sha256)).collect();
    let files = files.iter().map(|file| SignedFile {
        bytes: file.bytes(),
        path: file.path.clone(),
        sha256: whole.get(&file.path).copied(),
    });
    let mut files: Vec<_> = files.collect();
    files.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    files
}

#[cfg(test)]
mod tests;
