//! What a run of a scan needs beside the paths.

use tensorgate_artifact::model_signing::Exclusions;
use tensorgate_values::FileExceptions;

/// What a run needs beside the paths.
#[derive(Debug)]
pub struct Settings {
    /// Files that are accepted.
    pub exceptions: FileExceptions,
    /// When exceptions are looked at, in seconds since 1970.
    pub now_unix_s: u64,
    /// The longest file that is read, bytes.
    pub max_bytes: u64,
    /// Whether each file that is not safe has its digest in its result.
    pub with_digests: bool,
    /// What is left out, git's own files included. `None` if everything is scanned.
    pub exclusions: Option<Exclusions>,
}
