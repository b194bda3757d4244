//! Fuzz targets: the scan of a model file. Each format has a target of its own, which is a
//! [`Format`].
//!
//! Every input has a verdict, which is that of its findings, and findings lie within the file. A
//! scan reads a bounded number of bytes for each byte of the file. The result is the same if reads
//! give few bytes at a time, as those of some file systems do. A second unpickler finds only known
//! imports in a pickle that is safe. A file with the tensors of a model is safe only with exactly
//! their bytes.
//!
//! Time and memory are bounded by libFuzzer: 10 seconds and 2 GiB for an input.

mod archive;
mod external;
pub mod formats;
mod imports;
mod input;

use std::io::Cursor;

use tensorgate_artifact::scan::finding::MAX_FINDINGS;
use tensorgate_artifact::scan::{Limits, Report, Severity, Verdict, detect};

use self::archive::Archive;
use self::input::{Counted, Slow};

/// The bit of the first byte that makes an archive of the input.
const IS_ARCHIVE: u8 = 0x80;
/// How often a scan may read each byte of a file.
const MAX_PASSES: usize = 64;
/// Bytes that it may read in addition: tables of flatbuffers may lie in any order.
const SPARE_BYTES: usize = 4 << 20;
/// The same if members can be deflated. Each may be inflated again until it gave 16 MiB.
const SPARE_ARCHIVE_BYTES: usize = 64 << 20;

/// What a target scans.
#[derive(Debug)]
pub struct Format {
    /// Names of files. The first byte of an input selects one.
    names: &'static [&'static str],
    /// What is made of an input whose first byte has its highest bit set.
    archive: Option<Archive>,
}

/// Runs one input.
pub fn run(format: &Format, data: &[u8]) {
    let Some((first, content)) = data.split_first() else {
        return;
    };
    let name = format.names[usize::from(first & !IS_ARCHIVE) % format.names.len()];
    match &format.archive {
        Some(archive) if first & IS_ARCHIVE != 0 => {
            let members = archive.members(content);
            let report = check(name, &archive.write(&members));
            if report.verdict == Verdict::Safe {
                let is_pickle = |name: &str| name.ends_with(".pkl") || name == "pickle";
                for member in members.iter().filter(|member| is_pickle(member.name)) {
                    imports::check_stream(member.content);
                }
            }
        }
        _ => {
            let report = check(name, content);
            let floats = usize::from(first & !IS_ARCHIVE);
            external::check(&report.data_files, content, floats);
            match report.format {
                "pickle" if report.verdict == Verdict::Safe => imports::check_stream(content),
                "torch legacy" if report.verdict == Verdict::Safe => {
                    imports::check_legacy_torch(content);
                }
                _ => {}
            }
        }
    }
}

/// Scans a file and checks what holds for every format.
fn check(name: &str, content: &[u8]) -> Report {
    let limits = limits();
    let mut file = Counted::new(content);
    let report = detect::scan(&mut file, name, &limits).expect("it is in memory");
    let (read, length) = (file.read_bytes(), content.len());
    assert!(
        read <= most_bytes(content),
        "{read} bytes are read of {length}"
    );
    assert!(report.findings.len() <= MAX_FINDINGS);
    let worst = report.findings.iter().map(|finding| finding.verdict).max();
    if report.findings.len() < MAX_FINDINGS {
        assert_eq!(report.verdict, worst.unwrap_or(Verdict::Safe), "{report:?}");
    }
    // No severity is that of another verdict.
    let least = report.severity().map(|worst| worst.min(Severity::High));
    assert_eq!(least, report.verdict.least_severity(), "{report:?}");
    for finding in &report.findings {
        // The detail names the part in which the offset is.
        let is_in_part = finding.detail.starts_with("in ");
        let is_within = usize::try_from(finding.offset).is_ok_and(|offset| offset <= length);
        assert!(is_in_part || is_within, "{finding:?} of {length} bytes");
    }
    let again = detect::scan(&mut Slow(Cursor::new(content)), name, &limits);
    let again = again.expect("it is in memory");
    assert_eq!(again.verdict, report.verdict, "{again:?} {report:?}");
    // How much a broken deflate stream gives before its fault depends on how much is read at once.
    let is_broken = |report: &Report| {
        let mut rules = report.findings.iter().map(|finding| finding.rule);
        rules.any(|rule| rule == "zip-content")
    };
    if !is_broken(&report) && !is_broken(&again) {
        assert_eq!(again, report);
    }
    report
}

/// The bounds of a scan.
fn limits() -> Limits {
    Limits {
        header_bytes: 64 << 10,
        entries: 1_000,
        expanded_bytes: 1 << 20,
        operations: 10_000,
        ..Limits::default()
    }
}

/// The most bytes that the scan of a file may read.
fn most_bytes(content: &[u8]) -> usize {
    let has_zip_end = content.windows(4).any(|mark| mark == b"PK\x05\x06");
    let spare_bytes = if has_zip_end {
        SPARE_ARCHIVE_BYTES
    } else {
        SPARE_BYTES
    };
    content.len() * MAX_PASSES + spare_bytes
}
