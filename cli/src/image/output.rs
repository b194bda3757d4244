//! The folder that images are written to: one layout for each, and `images.json` with their
//! digests. It is replaced as a whole, and only if it is an earlier output.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::oci_layout::MARKER;

use super::{Image, Name};

/// The file with the digests.
const IMAGES: &str = "images.json";
/// The most bytes of an earlier one.
const MAX_IMAGES_BYTES: u64 = 1 << 16;

/// Digests of images. Written as JSON, it is `images.json`.
pub type Digests<'d> = BTreeMap<Name, &'d str>;

/// Why a folder cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// It has no name, as the root of the file system.
    #[error("{} cannot be replaced: name a folder", .0.display())]
    Nameless(PathBuf),
    /// It exists, and something else made it.
    #[error(
        "{} exists and is not the output of an earlier `tensorgate image build`: name another folder",
        .0.display()
    )]
    Foreign(PathBuf),
    /// The system refuses it.
    #[error("cannot write {}: {cause}", folder.display())]
    Write {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

/// A folder that may be written.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    /// Folders beside it: the new output, and the earlier one while it is replaced.
    new: PathBuf,
    old: PathBuf,
    is_empty: bool,
}

impl Output {
    /// Checks that a folder is absent, empty, or an earlier output.
    ///
    /// # Errors
    /// It is something else, or cannot be read.
    pub fn check(folder: &Path) -> Result<Self, OutputError> {
        let cannot = |cause| OutputError::Write {
            folder: folder.to_owned(),
            cause,
        };
        let absolute = std::path::absolute(folder).map_err(cannot)?;
        let name = absolute
            .file_name()
            .ok_or_else(|| OutputError::Nameless(folder.to_owned()))?
            .to_string_lossy()
            .into_owned();
        let process = std::process::id();
        let beside = |end: &str| absolute.with_file_name(format!(".{name}.{process}.{end}"));
        let is_empty = match std::fs::symlink_metadata(&absolute) {
            Ok(found) if !found.is_dir() => return Err(OutputError::Foreign(folder.to_owned())),
            Ok(_) => std::fs::read_dir(&absolute)
                .map_err(cannot)?
                .next()
                .is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(cannot(error)),
        };
        if !is_empty && !is_output(&absolute).map_err(cannot)? {
            return Err(OutputError::Foreign(folder.to_owned()));
        }
        Ok(Self {
            new: beside("new"),
            old: beside("old"),
            folder: absolute,
            is_empty,
        })
    }

    /// Writes images beside the folder, then puts them in its place. Earlier ones are removed.
    ///
    /// # Errors
    /// A file or folder cannot be written: the earlier output is left then. Or the earlier output
    /// cannot be removed: the new one is in its place then.
    pub fn write(&self, images: &[Image]) -> Result<(), OutputError> {
        let cannot = |cause| OutputError::Write {
            folder: self.folder.clone(),
            cause,
        };
        self.create().map_err(cannot)?;
        let written = self.fill(images).and_then(|()| self.swap());
        if written.is_err() {
            // Report the first failure, not the one of the clean-up.
            let _ = std::fs::remove_dir_all(&self.new);
        }
        written.map_err(cannot)
    }

    /// Creates the folder for the new output. An existing one of this name is left alone.
    fn create(&self) -> io::Result<()> {
        if let Some(parent) = self.new.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::create_dir(&self.new)
    }

    fn fill(&self, images: &[Image]) -> io::Result<()> {
        for image in images {
            image.layout.write(&self.new.join(image.name.as_str()))?;
        }
        let mut text = serde_json::to_string_pretty(&digests(images))?;
        text.push('\n');
        std::fs::write(self.new.join(IMAGES), text)
    }

    fn swap(&self) -> io::Result<()> {
        if self.is_empty {
            return std::fs::rename(&self.new, &self.folder);
        }
        std::fs::rename(&self.folder, &self.old)?;
        if let Err(error) = std::fs::rename(&self.new, &self.folder) {
            let _ = std::fs::rename(&self.old, &self.folder);
            return Err(error);
        }
        std::fs::remove_dir_all(&self.old)
    }
}

/// The digests of images.
pub fn digests(images: &[Image]) -> Digests<'_> {
    images
        .iter()
        .map(|image| (image.name, image.digest.as_str()))
        .collect()
}

/// Whether a folder has what this module writes, and nothing else.
fn is_output(folder: &Path) -> io::Result<bool> {
    let mut has_digests = false;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Does not follow a link.
        let kind = entry.file_type()?;
        let name = entry.file_name();
        let is_layout = |name: &str| {
            Name::ALL.iter().any(|image| image.as_str() == name)
                && kind.is_dir()
                && entry.path().join(MARKER).is_file()
        };
        match name.to_str() {
            Some(IMAGES) if kind.is_file() => has_digests = true,
            Some(name) if is_layout(name) => {}
            _ => return Ok(false),
        }
    }
    if !has_digests {
        return Ok(false);
    }
    let text = read_at_most(&folder.join(IMAGES), MAX_IMAGES_BYTES)?.unwrap_or_default();
    Ok(serde_json::from_slice::<BTreeMap<Name, String>>(&text).is_ok())
}
