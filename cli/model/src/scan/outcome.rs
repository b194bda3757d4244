//! The result for one path: opens the file, has it scanned, and checks that it was the same
//! throughout.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{FileType, fstat};
use tensorgate_artifact::scan::{Verdict, rules};
use tensorgate_models::files::file_state::is_same;
use tensorgate_models::files::open_folder::{file_type, look, open_file};
use tensorgate_models::scan::folder::scan_in_folder;
use tensorgate_models::scan::messages::FileReport;
use tensorgate_models::scan::process::Scanner;
use tensorgate_models::scan::scan_input::ScanInput;
use tensorgate_values::FileException;

use super::beside::OpenFolder;
use super::exceptions::digest;
use super::settings::Settings;
use super::walk::{Entry, What};

/// The result for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOutcome {
    /// The path as it is printed.
    pub path: PathBuf,
    /// Where the file is in its model.
    pub location: PathBuf,
    /// What was found, the worst first.
    pub report: FileReport,
    /// The digest of a file that is not safe, if it was asked for or an exception could have it.
    pub sha256: Option<[u8; 32]>,
    /// The exception that accepts the file by its path and digest. Safe files need none.
    pub exception: Option<FileException>,
    /// An exception that accepts nothing any more.
    pub expired_exception: Option<FileException>,
}

impl ScanOutcome {
    /// Whether the file is safe, or accepted by an exception.
    pub fn is_accepted(&self) -> bool {
        self.report.verdict == Verdict::Safe || self.exception.is_some()
    }

    /// The result for an entry. A file that is larger than the settings allow is not read.
    pub fn of(entry: Entry, scanner: &mut Scanner, settings: &Settings) -> Self {
        let Entry {
            path,
            location,
            what,
        } = entry;
        let (mut report, sha256) = match what {
            What::File {
                folder,
                names,
                name,
            } => {
                let beside = OpenFolder {
                    folder: &folder,
                    names: &names,
                    max_bytes: settings.max_bytes,
                };
                scan(beside, &name, scanner, settings).unwrap_or_else(|error| {
                    let report = FileReport::unscanned(rules::UNREADABLE, &error.to_string());
                    (report, None)
                })
            }
            What::Refused(rule, detail) => (FileReport::unscanned(rule, &detail), None),
        };
        // The sort is stable: those of one severity stay in the order of the file.
        (report.findings).sort_by_key(|finding| Reverse(finding.severity));
        // A path that is not UTF-8 has none.
        let mut exception = sha256
            .zip(location.to_str())
            .and_then(|(sha256, location)| settings.exceptions.of(&sha256, location))
            .cloned();
        let expired_exception = exception.take_if(|it| it.has_expired(settings.now_unix_s));
        Self {
            path,
            location,
            report,
            sha256,
            exception,
            expired_exception,
        }
    }
}

/// The report on a file, and its digest if it is not safe and the settings need one.
fn scan(
    beside: OpenFolder<'_>,
    name: &OsStr,
    scanner: &mut Scanner,
    settings: &Settings,
) -> io::Result<(FileReport, Option<[u8; 32]>)> {
    let OpenFolder {
        folder, max_bytes, ..
    } = beside;
    let mut file = File::from(open_file(folder, name)?);
    let before = fstat(&file)?;
    if file_type(&before) != FileType::RegularFile {
        let report = FileReport::unscanned(rules::SPECIAL, "neither a file nor a folder");
        return Ok((report, None));
    }
    let bytes = u64::try_from(before.st_size).unwrap_or(u64::MAX);
    if bytes > max_bytes {
        let detail = format!("{bytes} bytes: --max-bytes allows {max_bytes}");
        return Ok((FileReport::unscanned(rules::FILE_SIZE, &detail), None));
    }
    let mut report = match name.to_str() {
        Some(name) => {
            let mut scan_file = |input: &ScanInput<'_>| scanner.scan(input);
            scan_in_folder((&file, name, bytes), &beside, &mut scan_file)
        }
        // No other file can name it.
        None => scanner.scan(&ScanInput {
            file: &file,
            name: &name.to_string_lossy(),
            bytes,
            indexes: &[],
        }),
    };
    let mut sha256 = None;
    let needs_digest = settings.with_digests || !settings.exceptions.is_empty();
    if report.verdict != Verdict::Safe && needs_digest {
        sha256 = Some(digest(&mut file)?);
    }
    // The open file, and the name, which may lead to another file by now.
    let after = fstat(&file)?;
    let named = look(folder, name);
    if !is_same(&before, &after) || !named.is_ok_and(|named| is_same(&before, &named)) {
        let detail = "the file changed while it was read: scan it again when nothing writes to it";
        report.add(Verdict::Unknown, rules::CHANGED, detail);
        // The digest may be of neither state.
        sha256 = None;
    }
    Ok((report, sha256))
}
