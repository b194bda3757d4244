//! The verbs of the program, one module each.

pub mod confirm;
mod copy_scan;
mod inputs;
pub mod manifest;
mod report;
mod required;
pub mod scan;
mod scan_options;
pub mod serve_verified;
pub mod sign;
mod sign_scan;
mod trusted_signer;
pub mod verify;

use std::num::NonZeroUsize;

/// The most files that are read at the same time.
const MAX_JOBS: usize = 256;

/// The value of `--jobs`.
fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    let jobs = text.parse::<NonZeroUsize>().ok();
    (jobs.filter(|jobs| jobs.get() <= MAX_JOBS))
        .ok_or_else(|| format!("expected a number from 1 to {MAX_JOBS}"))
}
