//! Why a policy file, or another file with positions, could not be loaded.

use std::path::{Path, PathBuf};

use tensorgate_policy_text::Located;

/// Largest policy file, bytes.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// A file and its text; the text may be a placeholder.
pub struct Source {
    /// The path as the user gave it.
    pub file: PathBuf,
    /// The text.
    pub text: String,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Why a policy could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("{}", unread(file, cause))]
    Read {
        /// The policy file.
        file: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// The file has no entry, at most comments.
    #[error("{} is empty: write a policy with `tensorgate init`", .0.display())]
    Empty(PathBuf),
    /// The file is too large.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The policy, with the files that it names, is too large for a gate.
    #[error(
        "{} and the files that it names are {bytes} bytes of compiled policy: a gate takes at most {max_bytes}",
        file.display()
    )]
    CompiledTooLarge {
        /// The policy file.
        file: PathBuf,
        /// Size of the compiled form, bytes.
        bytes: usize,
        /// The largest compiled form that a gate takes, bytes.
        max_bytes: usize,
    },
    /// The policy has faults.
    #[error("{} has faults", .0.file.display())]
    Faults(Source, Vec<Located>),
}

/// Why a policy file could not be read.
fn unread(file: &Path, cause: &std::io::Error) -> String {
    let file = file.display();
    if cause.kind() == std::io::ErrorKind::IsADirectory {
        return format!("{file} is a folder: name a file in it, such as {file}/gate.yaml");
    }
    if cause.kind() == std::io::ErrorKind::NotFound {
        return format!(
            "there is no policy {file}: correct the path, or write one with `tensorgate init`"
        );
    }
    format!("cannot read {file}: {cause}")
}
