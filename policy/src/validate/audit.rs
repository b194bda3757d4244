//! The audit section. The log can be configured but not disabled.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;

use super::report::{Path, quote};
use crate::policy::Audit;
use crate::raw::{self, AuditFailure};

/// The only format so far.
const FORMAT: &str = "json";
/// Minimum size of a file: an opening line, a checkpoint and some records.
const MIN_FILE_BYTES: u64 = 64 << 10;
/// Maximum size of a file that tools still open.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// Maximum number of files, so that a folder listing stays usable.
const MAX_FILES: u64 = 10_000;
/// Maximum length of the path: `PATH_MAX` minus the suffixes of companion files.
const MAX_PATH_BYTES: usize = 4_000;

pub(super) fn audit(at: &Path, raw: Option<&raw::Audit>) -> Option<Audit> {
    let default = raw::Audit::default();
    let raw = raw.unwrap_or(&default);
    if raw.format != FORMAT {
        at.field("format").error_with_fix(
            format!(
                "{} is not a format of this version, which writes json",
                quote(&raw.format)
            ),
            FORMAT,
        );
    }
    let log = path(&at.field("path"), &raw.path);
    let key_file = raw
        .key_file
        .as_ref()
        .map(|file| path(&at.field("key_file"), file));
    if !raw.chain {
        at.field("chain").warn(
            "nothing shows whether lines were removed or changed",
            "true",
        );
    }
    if raw.on_failure == AuditFailure::Allow {
        at.field("on_failure").warn(
            "requests are answered without a line while the log cannot be written",
            "refuse",
        );
    }
    let file_bytes =
        at.field("file_bytes")
            .within(raw.file_bytes.0, MIN_FILE_BYTES, MAX_FILE_BYTES, "bytes");
    let files = at.field("files").within(raw.files, 1, MAX_FILES, "files");
    Some(Audit {
        path: log?,
        chain: raw.chain,
        key_file: match key_file {
            Some(file) => Some(file?),
            None => None,
        },
        file_bytes: file_bytes?,
        files: files?,
        on_failure: raw.on_failure,
    })
}

/// A file path that does not name a folder and, if relative, stays below the state folder.
fn path(at: &Path, text: &str) -> Option<String> {
    let fix = "audit/decisions.jsonl";
    let fault = if text.is_empty() || text.ends_with('/') {
        "is not a file's path"
    } else if text.contains('\0') || text.len() > MAX_PATH_BYTES {
        "is not a path"
    } else if text.split('/').any(|part| part == "..") {
        "leads out of the folder that it is in"
    } else {
        return Some(text.to_owned());
    };
    at.fail_with_fix(format!("{} {fault}", quote(text)), fix)
}
