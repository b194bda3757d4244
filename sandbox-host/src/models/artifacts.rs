//! Verifies the files of models before requests are sent to their servers.
//!
//! A model version with an `artifact` in the policy is ready only while its files are the verified
//! ones. Its [`Status`] changes by what is observed:
//!
//! | status | the files changed | a check passed | a check failed |
//! |---|---|---|---|
//! | checking | checking | verified | rejected |
//! | verified | checking | verified | rejected |
//! | rejected | checking | verified | rejected |
//!
//! A check that failed for another cause than the files, such as a full disk, is repeated after
//! growing pauses. Other rejected files are verified again when they change.
//!
//! One thread looks at the states of all files several times a second, and another one verifies:
//! signature or digest of the manifest, every file's digest, a scan of every file in a process
//! without rights, the digest that this version had before. Nothing is served on an error.
//!
//! Its modules, from bottom to top: `status`, `retry`, `first_digests`, `trust`, `check`,
//! `registry`, `threads`. Each refers to those before it.

mod check;
mod first_digests;
mod registry;
mod retry;
mod status;
mod threads;
mod trust;

pub use check::Checker;
pub use first_digests::FirstDigests;
pub use registry::{Followed, ModelArtifacts};
pub use status::{Cause, Identity, Observation, Status};
pub use threads::Threads;
pub use trust::{signature_file, trusted_files};
