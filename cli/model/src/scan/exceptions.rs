//! Exceptions: files that are known by path and digest and accepted by a person until a day.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::load_error::{LoadError, Source};
use tensorgate_policy_text::{Located, Span, parse, typed};
use tensorgate_values::{FileException, FileExceptions, Severity, unhex};

use crate::text::{self, shown};

/// The largest file of exceptions, bytes.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;
/// Bytes that are hashed together.
const CHUNK_BYTES: u64 = 1 << 20;

/// One exception as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    sha256: String,
    /// Lists of earlier releases have none.
    #[serde(default)]
    path: String,
    reason: String,
    until: String,
}

/// Reads a file of exceptions: YAML or JSON.
///
/// # Errors
/// The file cannot be read, or an entry has a fault.
pub fn read(file: &Path) -> Result<FileExceptions, Failure> {
    let text = text::read(file, MAX_FILE_BYTES, "is not UTF-8: save it as UTF-8")?;
    let written = match typed_entries(&text) {
        Ok(written) => written,
        Err(faults) => {
            let source = Source {
                file: file.to_owned(),
                text,
            };
            return Err(LoadError::Faults(source, faults).into());
        }
    };
    checked(written).map_err(|fault| Failure::Input(format!("{}: {fault}", shown(file))))
}

/// The exceptions, if each entry is one.
fn checked(written: Vec<Written>) -> Result<FileExceptions, String> {
    let mut exceptions = FileExceptions::default();
    for (at, entry) in written.into_iter().enumerate() {
        let Written {
            sha256,
            path,
            reason,
            until,
        } = entry;
        let fault = |field: &str, fix: &str| format!("[{at}].{field}: write {fix}");
        let Some(sha256) = unhex::<DIGEST_BYTES>(sha256.as_bytes()) else {
            let fix = "64 hexadecimal digits in lower case, as `sha256sum FILE` prints them";
            return Err(fault("sha256", fix));
        };
        let exception = FileException::new(&path, &reason, &until).map_err(|faults| {
            let faults = faults.iter().map(|it| fault(it.field, it.fix));
            faults.collect::<Vec<_>>().join("; ")
        })?;
        if !exceptions.add(sha256, exception) {
            let fault = format!("[{at}].sha256: an earlier entry has this digest and path");
            return Err(fault);
        }
    }
    Ok(exceptions)
}

/// The entries of a text, or its faults.
fn typed_entries(text: &str) -> Result<Vec<Written>, Vec<Located>> {
    let (tree, faults) = parse::parse(text);
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(faults);
    }
    // An empty file reads as an empty map.
    let Some(tree) = tree.filter(|_| !text.trim().is_empty()) else {
        return Err(vec![Located {
            severity: Severity::Error,
            span: Span::default(),
            path: String::new(),
            message: "no list of exceptions".into(),
            fix: Some(
                "a list of {sha256: …, path: …, reason: …, until: YYYY-MM-DD}, or [] for none"
                    .into(),
            ),
        }]);
    };
    typed::deserialize_one(&tree).map_err(|fault| vec![fault])
}

/// The SHA-256 of a file.
///
/// # Errors
/// The file cannot be read.
pub fn digest(file: &mut File) -> io::Result<[u8; DIGEST_BYTES]> {
    file.seek(SeekFrom::Start(0))?;
    let mut sha = Sha256::new();
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        if file.by_ref().take(CHUNK_BYTES).read_to_end(&mut chunk)? == 0 {
            return Ok(sha.finalize().into());
        }
        sha.update(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_no_list() {
        let faults = typed_entries("\n").err().unwrap_or_default();
        let messages: Vec<_> = faults.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(messages, ["no list of exceptions"]);
        assert!(typed_entries("[]").is_ok_and(|entries| entries.is_empty()));
    }

    #[test]
    fn a_file_has_one_exception_and_none_holds_at_another_path() {
        let entry = |path: &str, until: &str| Written {
            sha256: "aa".repeat(DIGEST_BYTES),
            path: path.into(),
            reason: "checked by hand".into(),
            until: until.into(),
        };
        let both = vec![entry("a", "2026-11-25"), entry("b/a", "2026-11-26")];
        let both = checked(both).unwrap_or_default();
        for (path, expected) in [
            ("a", Some("2026-11-25")),
            ("b/a", Some("2026-11-26")),
            ("b", None),
            ("sitecustomize.py", None),
        ] {
            let known = both.of(&[0xaa; DIGEST_BYTES], path);
            assert_eq!(known.map(FileException::until), expected, "{path}");
        }
        let twice = vec![entry("a", "2026-11-25"), entry("a", "2026-11-26")];
        assert!(checked(twice).is_err());
        // A list of an earlier release.
        let fault = checked(vec![entry("", "2026-11-25")]).err();
        let fault = fault.unwrap_or_default();
        let expected = "[0].path: write the file's path";
        assert!(fault.starts_with(expected), "{fault}");
    }
}
