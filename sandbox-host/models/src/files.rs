//! Reads the files of a model for a signature: finds them, hashes them in parallel, and compares
//! them with what was signed.
//!
//! Nothing is followed out of the model's folder, whatever is moved or replaced meanwhile, and only
//! regular files are read. A digest is about the bytes at the time of the check: a server must load
//! the model from a copy that no one else can write.
//!
//! Its modules, from bottom to top: `file_state`, `open_folder`, `fault`, `folder_states`, `tree`,
//! `copy`, `walk`, `found_model`, `hash`.

mod copy;
mod fault;
pub mod file_state;
mod folder_states;
mod found_model;
mod hash;
pub mod open_folder;
mod tree;
mod walk;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use tensorgate_artifact::model_signing::{Differences, Manifest, Pieces, Resource, Rules, compare};

pub use fault::Fault;
pub use folder_states::FolderStates;
pub use found_model::FoundModel;
use hash::{Digests, Settings, hash};
pub use hash::{Options, Progress};
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
#[derive(Clone, Debug)]
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
/// manifest's own rules say which links are followed.
///
/// # Errors
/// The model cannot be read, changes meanwhile, or has what no model may have: links that the rules
/// do not follow, devices, names that are not UTF-8.
pub fn check_folder(
    root: &Path,
    manifest: &Manifest,
    ignored: &Ignored,
    options: &Options,
) -> Result<Checked, Fault> {
    check(root, manifest, ignored, options, None)
}

/// The same, and copies each signed file into an empty folder that is opened. The copy has exactly
/// the bytes that were hashed. It is the signed model if there are no differences.
///
/// # Errors
/// As for [`check_folder`]; or the copy cannot be written.
pub fn copy_folder(
    root: &Path,
    manifest: &Manifest,
    ignored: &Ignored,
    options: &Options,
    copy_to: BorrowedFd<'_>,
) -> Result<Checked, Fault> {
    check(root, manifest, ignored, options, Some(copy_to))
}

fn check(
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
    let expected = |file: &FoundFile| manifest.sharded_bytes(&file.path);
    let settings = Settings {
        tree: found.tree(),
        pieces: rules.pieces,
        expected_bytes: &expected,
        copy_to,
        options,
    };
    let Digests {
        mut resources,
        whole,
    } = hash(&settings, found.signed())?;
    // An unsigned file differs, whatever it holds.
    resources.extend(found.unsigned().iter().map(|file| unread(file, rules)));
    Ok(Checked {
        signed: signed_files(found.signed(), whole),
        excluded: found.excluded().to_vec(),
        uncovered: found.uncovered().to_vec(),
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
    let Walked { files, excluded } = walk(&tree, Scope::ToSign(&rules))?;
    let settings = Settings {
        tree: &tree,
        pieces: rules.pieces,
        expected_bytes: &|file: &FoundFile| Some(file.bytes()),
        copy_to: None,
        options,
    };
    let Digests { resources, whole } = hash(&settings, &files)?;
    Ok(Hashed {
        manifest: Manifest::new(name, rules, resources)?,
        files: signed_files(&files, whole),
        excluded,
    })
}

/// The path of a file beneath a model's folder, if it is there. It need not exist.
pub fn path_beneath(root: &Path, file: &Path) -> Option<String> {
    let parent = file.parent().filter(|it| !it.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).canonicalize().ok()?;
    let file = parent.join(file.file_name()?);
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

/// A resource that equals no signed one.
fn unread(file: &FoundFile, rules: &Rules) -> Resource {
    let bytes = file.bytes();
    match rules.pieces {
        Pieces::Files => Resource::file(file.path.clone(), [0; 32]),
        Pieces::Shards(_) => Resource::shard(file.path.clone(), 0..bytes, [0; 32]),
    }
}

fn signed_files(files: &[FoundFile], whole: Vec<Option<[u8; 32]>>) -> Vec<SignedFile> {
    let files = files.iter().zip(whole);
    let files = files.map(|(file, sha256)| SignedFile {
        bytes: file.bytes(),
        path: file.path.clone(),
        sha256,
    });
    let mut files: Vec<_> = files.collect();
    files.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    files
}

#[cfg(test)]
mod tests;
