//! The scan of a file with the files beside it: a model whose tensors lie in other files, and such
//! a file of tensors. Both get the same verdict, whichever is scanned first.

use std::borrow::Cow;
use std::fs::File;
use std::time::Instant;

use rustix::fs::fstat;
use tensorgate_artifact::scan::Verdict;
use tensorgate_artifact::scan::external_data::{IndexKind, MAX_INDEXES, is_data_format};
use tensorgate_artifact::scan::finding::MAX_FINDINGS;
use tensorgate_artifact::scan::rules::{
    DATA_FILE, EMPTY, ONNX_EXTERNAL_DATA, OPENVINO_DATA, Rule, SCANNER_DIED, UNSCANNED,
};
use tensorgate_values::ModelFormat;

use super::messages::FileReport;
use super::process::timeout;
use super::scan_input::{Index, ScanInput};
use crate::files::file_state::is_same;

/// Why a file with several names is no file of tensors: runtimes refuse it, because another name
/// may be that of a file elsewhere.
const HAS_OTHER_NAMES: &str = "has another name in the file system (a hard link): copy it";

/// The folder of a file that is scanned.
pub trait Beside {
    /// The names in the folder.
    ///
    /// # Errors
    /// The names cannot be read, or there are too many.
    fn names(&self) -> Result<Cow<'_, [String]>, String>;

    /// Opens a regular file in the folder. No link is followed.
    ///
    /// # Errors
    /// What it is instead, as the end of a sentence: `is not there`.
    fn open(&self, name: &str) -> Result<File, String>;
}

/// What scans one open file.
pub type ScanFile<'s> = dyn FnMut(&ScanInput<'_>) -> FileReport + 's;

/// Scans an open file of this name and length in its folder.
pub fn scan_in_folder(
    (file, name, bytes): (&File, &str, u64),
    beside: &dyn Beside,
    scan: &mut ScanFile<'_>,
) -> FileReport {
    let input = ScanInput {
        file,
        name,
        bytes,
        indexes: &[],
    };
    let alone = scan(&input);
    let rules = [EMPTY.name, UNSCANNED.name];
    let is_unscanned =
        matches!(alone.findings.as_slice(), [only] if rules.contains(&only.rule.as_str()));
    if alone.verdict != Verdict::Unknown {
        alone
    } else if !alone.data_files.is_empty() {
        scan_model(&input, alone, beside, scan)
    } else if is_unscanned {
        scan_data(&input, alone, beside, scan)
    } else {
        alone
    }
}

/// Scans the files with the tensors of a model, which is safe alone. The model is safe if they are.
fn scan_model(
    model: &ScanInput<'_>,
    alone: FileReport,
    beside: &dyn Beside,
    scan: &mut ScanFile<'_>,
) -> FileReport {
    let began = Instant::now();
    // Once, because a folder can have thousands of names.
    let names = beside.names();
    let mut bytes = model.bytes;
    let rule = if alone.format == ModelFormat::Openvino.name() {
        OPENVINO_DATA
    } else {
        ONNX_EXTERNAL_DATA
    };
    let mut report = FileReport {
        format: alone.format,
        verdict: Verdict::Safe,
        severity: None,
        findings: Vec::new(),
        data_files: Vec::new(),
    };
    for (at, data) in alone.data_files.iter().enumerate() {
        let allowed = timeout(bytes);
        let found = if began.elapsed() > allowed {
            Err((
                SCANNER_DIED,
                format!("was not scanned within {} s", allowed.as_secs()),
            ))
        } else {
            scan_named(data, (model.name, rule), &mut bytes, &names, beside, scan)
        };
        if let Err((rule, fault)) = found {
            let offset = alone.findings.get(at).map_or(0, |finding| finding.offset);
            let detail = format!("tensors lie in {data:?}, which {fault}");
            report.add_at(offset, Verdict::Unknown, rule, &detail);
        }
        if report.findings.len() >= MAX_FINDINGS {
            break;
        }
    }
    report
}

/// Scans the file `data` with the tensors of `model`, in a folder with these names. An error is
/// what is wrong, and its rule: the one of the model, or that of a failed scan.
fn scan_named(
    data: &str,
    (model, rule): (&str, &'static Rule),
    bytes: &mut u64,
    names: &Result<Cow<'_, [String]>, String>,
    beside: &dyn Beside,
    scan: &mut ScanFile<'_>,
) -> Result<(), (&'static Rule, String)> {
    let wrong = |fault: String| (rule, fault);
    let file = beside.open(data).map_err(wrong)?;
    let before = fstat(&file).map_err(|error| wrong(error.to_string()))?;
    if before.st_nlink > 1 {
        return Err(wrong(HAS_OTHER_NAMES.to_owned()));
    }
    let names = names.as_ref().map_err(|cause| wrong(cause.clone()))?;
    let (models, indexes) = indexes_of(data, names, beside).map_err(wrong)?;
    // Else its own tensors would not be looked at.
    if !models.iter().any(|name| name == model) {
        let fault = "is known only by models whose name ends in .onnx, or in .xml".to_owned();
        return Err(wrong(fault));
    }
    let input = ScanInput {
        file: &file,
        name: data,
        bytes: all_bytes(&file, &indexes),
        indexes: &indexes,
    };
    *bytes = bytes.saturating_add(input.bytes);
    let report = scan(&input);
    if !fstat(&file).is_ok_and(|after| is_same(&before, &after)) {
        return Err(wrong("changed while it was read".to_owned()));
    }
    if report.verdict == Verdict::Safe && is_data_format(&report.format) {
        return Ok(());
    }
    let rule = if report.has_failed() {
        SCANNER_DIED
    } else {
        rule
    };
    let mut fault = format!("is {} ({})", report.verdict.name(), report.format);
    if let Some(finding) = report.decisive() {
        fault.push_str(&format!(": {}: {}", finding.rule, finding.detail));
    }
    Err((rule, fault))
}

/// Scans a file without a format of its own with its indexes, if there are any beside it.
fn scan_data(
    data: &ScanInput<'_>,
    mut alone: FileReport,
    beside: &dyn Beside,
    scan: &mut ScanFile<'_>,
) -> FileReport {
    let names = beside.names();
    let indexes = match names.and_then(|names| indexes_of(data.name, &names, beside)) {
        Ok((_, indexes)) => indexes,
        Err(cause) => {
            let detail = format!("it {cause}");
            alone.add(Verdict::Unknown, DATA_FILE, &detail);
            return alone;
        }
    };
    if indexes.is_empty() {
        return alone;
    }
    let input = ScanInput {
        bytes: all_bytes(data.file, &indexes),
        indexes: &indexes,
        ..*data
    };
    let mut report = scan(&input);
    let has_one_name = fstat(data.file).is_ok_and(|state| state.st_nlink <= 1);
    if report.verdict == Verdict::Safe && !has_one_name {
        let detail = format!("the file {HAS_OTHER_NAMES}");
        report.add(Verdict::Unknown, DATA_FILE, &detail);
    }
    report
}

/// The files beside `data`, among those of these names, that may say where its tensors are, with
/// their names. What cannot be opened is none of them.
fn indexes_of(
    data: &str,
    names: &[String],
    beside: &dyn Beside,
) -> Result<(Vec<String>, Vec<Index>), String> {
    let mut found = Vec::new();
    for name in names {
        if let Some(kind) = IndexKind::of(name, data) {
            found.push((name.clone(), kind));
        }
    }
    if found.len() > MAX_INDEXES {
        return Err(format!(
            "lies beside more than {MAX_INDEXES} models that could name it"
        ));
    }
    let opened = found.into_iter().filter_map(|(name, kind)| {
        let file = beside.open(&name).ok()?;
        Some((name, Index { kind, file }))
    });
    Ok(opened.unzip())
}

/// The length of a file and of its indexes.
fn all_bytes(file: &File, indexes: &[Index]) -> u64 {
    let files = std::iter::once(file).chain(indexes.iter().map(|index| &index.file));
    let bytes = files.map(|file| {
        let state = fstat(file).ok();
        state.map_or(0, |state| u64::try_from(state.st_size).unwrap_or(0))
    });
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
