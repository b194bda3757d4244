//! Whether a scanned file of a required model is accepted: because it is safe, because the policy
//! allows its kind of code, or by an exception.

use tensorgate_artifact::scan::Verdict;
use tensorgate_models::files::folder_and_name;
use tensorgate_models::scan::code_kinds::{allowed_kind, is_listed};
use tensorgate_models::scan::messages::FileReport;
use tensorgate_policy::policy::ModelArtifact;
use tensorgate_policy::values::safe_text::printable;
use tensorgate_policy::{CodeKind, FileException};

use crate::status::{Accepted, Cause};

/// A file that was compared with the manifest and scanned.
#[derive(Debug)]
pub(crate) struct ScannedFile<'a> {
    /// Where it is in the model.
    pub location: &'a str,
    /// Its SHA-256. `None` if it is signed in shards.
    pub sha256: Option<&'a [u8; 32]>,
    /// What was found in it.
    pub report: &'a FileReport,
}

impl ScannedFile<'_> {
    /// Its name without folders.
    fn name(&self) -> &str {
        folder_and_name(self.location).1
    }
}

/// Adds a file to those that are accepted, at a time in seconds since 1970. A safe file is not
/// counted.
///
/// # Errors
/// Why it is refused.
pub(crate) fn accept(
    artifact: &ModelArtifact,
    file: &ScannedFile<'_>,
    accepted: &mut Accepted,
    now_unix_s: u64,
) -> Result<(), Cause> {
    let report = file.report;
    let path = printable(file.location);
    let mut kind = None;
    if report.verdict != Verdict::Safe {
        let exceptions = artifact.exceptions();
        let exception = file
            .sha256
            .and_then(|sha256| exceptions.of(sha256, file.location));
        if let Some(exception) = exception.filter(|it| !it.has_expired(now_unix_s)) {
            tracing::info!(
                path = artifact.path(),
                file = path,
                reason = printable(exception.reason()),
                until = exception.until(),
                "a file of a model is accepted by an exception"
            );
            accepted.add_excepted(exception);
            return Ok(());
        }
        kind = allowed_kind(file.name(), report, artifact.allow());
        if kind.is_none() {
            return Err(refused(artifact, file, exception));
        }
    }
    let is_unlisted = |formats| !is_listed(report, formats, kind);
    if artifact.formats().is_some_and(is_unlisted) {
        return Err(Cause::Files(format!(
            "{path:?} has the format {:?}, which is not among `formats`",
            report.format
        )));
    }
    if kind.is_some() {
        accepted.code = accepted.code.saturating_add(1);
    }
    Ok(())
}

/// Why a file that is not safe is refused. `expired` is its exception that has ended.
fn refused(
    artifact: &ModelArtifact,
    file: &ScannedFile<'_>,
    expired: Option<&FileException>,
) -> Cause {
    let path = printable(file.location);
    let cause = format!("{path:?} is {}", described(file.report));
    if file.report.has_failed() {
        return Cause::Other(cause);
    }
    if let Some(exception) = expired {
        let (reason, until) = (printable(exception.reason()), exception.until());
        return Cause::Ended(format!(
            "{cause}; its exception ({reason:?}) ended after {until}: review the file and set a later `until` in the policy, or replace the file"
        ));
    }
    let of_content = |sha256| artifact.exceptions().of_content(sha256).next();
    let advice = if file.sha256.is_none() && !artifact.exceptions().is_empty() {
        "no exception accepts a file that is signed in shards: sign the model without --shard-bytes"
            .to_owned()
    } else if let Some(exception) = file.sha256.and_then(of_content) {
        let excepted = printable(exception.path());
        format!(
            "its content is accepted at {excepted:?} only: add an exception with its `path`, or remove the file"
        )
    } else if let Some(kind) = allowed_kind(file.name(), file.report, &CodeKind::ALL) {
        let kind = kind.name();
        format!("`allow: [{kind}]` accepts such code of those who vouch for the files")
    } else {
        return Cause::Files(cause);
    };
    Cause::Files(format!("{cause}; {advice}"))
}

/// The verdict on a file, and the evidence that decides it.
fn described(report: &FileReport) -> String {
    let verdict = report.verdict.name();
    match report.decisive() {
        Some(finding) => format!("{verdict}: {}: {}", finding.rule, finding.detail),
        None => verdict.to_owned(),
    }
}

#[cfg(test)]
mod tests;
