//! The folders of components, and the files in them.

use std::path::{Component, Path, PathBuf};

use crate::component::signature_of;
use tensorgate_policy::policy::BUILTIN;
use tensorgate_signature::MAX_SIGNATURE_BYTES;

use crate::bundle::{BundleError, read};

/// The largest component in bytes. One with the memory of pandas and scikit-learn has 100 MB.
pub const MAX_COMPONENT_BYTES: usize = 256 << 20;

/// The folder of runtimes, in that of bundled components.
pub const RUNTIMES: &str = "runtimes";

/// The folders of components.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The folder for relative paths of a policy.
    pub root: PathBuf,
    /// The folder of bundled components.
    pub builtins: PathBuf,
}

impl Folders {
    /// Returns a policy's folder, and `$TENSORGATE_BUILTINS` or the folder `builtins` beside this
    /// program.
    pub fn below(root: &Path) -> Self {
        let named = std::env::var_os("TENSORGATE_BUILTINS").filter(|named| !named.is_empty());
        let beside = || {
            let program = std::env::current_exe().ok()?;
            Some(program.parent()?.join("builtins"))
        };
        Self {
            root: root.to_owned(),
            builtins: (named.map(PathBuf::from).or_else(beside)).unwrap_or_default(),
        }
    }

    /// The path of a component's file. It never leads outside its folder by name.
    ///
    /// # Errors
    /// Returns an error if the name leads elsewhere.
    pub fn file(&self, component: &str) -> Result<PathBuf, BundleError> {
        let (folder, name) = match component.strip_prefix(BUILTIN) {
            Some(name) => (&self.builtins, format!("{name}.wasm")),
            None => (&self.root, component.to_owned()),
        };
        let relative = Path::new(&name);
        let below = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if component.is_empty() || !below {
            return Err(BundleError::ComponentPath(component.to_owned()));
        }
        Ok(folder.join(relative))
    }
}

/// Reads a component. The sandbox checks its digest.
pub fn component(folders: &Folders, component: &str) -> Result<Vec<u8>, BundleError> {
    let most = u64::try_from(MAX_COMPONENT_BYTES).unwrap_or(u64::MAX);
    read(&folders.file(component)?, most)
}

/// Reads the signature file of a component. [`crate::signed`] verifies it.
pub fn signature(folders: &Folders, component: &str) -> Result<Vec<u8>, BundleError> {
    let file = signature_of(&folders.file(component)?);
    let most = u64::try_from(MAX_SIGNATURE_BYTES).unwrap_or(u64::MAX);
    read(&file, most)
}
