//! `model verify`: checks the signature of a model, and that its files are the signed ones.

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;
use tensorgate_artifact::model_signing::{
    BundleFault, Change, Rejection, SignedAt, Signer, Verified,
};
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::clock::present;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_models::files::{
    Checked, Fault, Ignored, check_folder, path_beneath, read_signature,
};
use tensorgate_values::hex;

use super::inputs::{exclusions, named, options, signature};
use super::jobs;
use super::report::print_json;
use super::required::{RequiredSignature, uncovered};
use super::trusted_signer::TrustedSigner;
use crate::text::{file_count, shown};

/// Verify the signature of a model, in the format of OpenSSF Model Signing 1.0.
///
/// Each signed file must be there with the signed content, and no other file may be.
#[derive(Args)]
#[command(
    after_help = "Certificates must be valid now, or at --now. That of a Sigstore identity must have been valid when a log took the signature in. Files that the signature leaves out are listed; load none of them.\n\
Exit codes: 0 verified, 1 the signature or a file is not as it was signed, 2 invalid usage, key or unreadable file.\n\n\
Example: tensorgate model verify models/digits --key release.pub --signature digits.sig"
)]
pub struct Verify {
    /// Folder of the model, or its only file.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The signature, from `model sign` or the Python package `model-signing` [default: `model.sig`
    /// in the model's folder, `FILE.sig` beside a single file].
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    signer: TrustedSigner,
    #[command(flatten)]
    required: RequiredSignature,
    /// Reject a model with files that the signer left out, but for those of git, signatures and
    /// what --ignore-path names.
    #[arg(long)]
    strict: bool,
    /// Accept that this path, relative to the model's folder, is not signed, with everything below
    /// it. Signed files are compared all the same. Repeatable.
    #[arg(long, value_name = "PATH")]
    ignore_path: Vec<String>,
    /// Time at which certificates must be valid, Unix seconds [default: now].
    #[arg(long, value_name = "SECONDS")]
    now: Option<u64>,
    /// Files or shards that are hashed at the same time [default: one a core].
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<NonZeroUsize>,
}

/// What a check has found.
#[derive(Default)]
struct VerifyOutcome {
    verified: Option<Verified>,
    /// Nothing, unless the files were compared.
    checked: Checked,
    /// Why the model is rejected.
    reason: Option<String>,
}

impl Verify {
    /// Verifies and prints.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let outcome = self.check()?;
        let model = shown(&self.model);
        if ui.json {
            print_json(ui, &Line::of(&outcome));
        } else if outcome.reason.is_none() {
            self.print(ui, &outcome);
        }
        match outcome.reason {
            None => Ok(()),
            Some(_) if ui.json => Err(Failure::No),
            Some(reason) => Err(Failure::Failed(format!(
                "{model} is not verified, so do not load it: {reason}"
            ))),
        }
    }

    fn check(&self) -> Result<VerifyOutcome, Failure> {
        let mut outcome = VerifyOutcome::default();
        let trusted = self.signer.read()?;
        let now_s = self.now.map_or_else(present, Ok)?;
        let signature = signature(self.signature.as_deref(), &self.model);
        let ignored = Ignored {
            paths: exclusions(self.ignore_path.iter().cloned())?,
            bundle: path_beneath(&self.model, &signature),
        };
        let verified = match bundle(&signature)? {
            Some(bundle) => trusted.verify(&bundle, now_s),
            None => Err(Rejection::Bundle(BundleFault::TooLarge)),
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(rejection) => {
                let signature = shown(&signature);
                outcome.reason = Some(format!("{signature}: {rejection}"));
                return Ok(outcome);
            }
        };
        if let Err(unmet) = verified.require(&self.required.requirements()) {
            outcome.reason = Some(format!("{}: {unmet}", shown(&signature)));
            outcome.verified = Some(verified);
            return Ok(outcome);
        }
        let options = options(self.jobs);
        let checked = check_folder(&self.model, &verified.manifest, &ignored, &options, None);
        outcome.verified = Some(verified);
        match checked {
            Ok(checked) => {
                let differences = &checked.differences;
                outcome.reason = (!differences.is_empty()).then(|| differences.to_string());
                if self.strict && outcome.reason.is_none() {
                    outcome.reason = uncovered(&checked.uncovered);
                }
                outcome.checked = checked;
                Ok(outcome)
            }
            Err(fault @ Fault::Unreadable { .. }) => {
                let model = shown(&self.model);
                Err(Failure::Input(format!("{model}: {fault}")))
            }
            Err(fault) => {
                outcome.reason = Some(fault.to_string());
                Ok(outcome)
            }
        }
    }

    fn print(&self, ui: &Ui, outcome: &VerifyOutcome) {
        let checked = &outcome.checked;
        let Some(verified) = &outcome.verified else {
            return;
        };
        let signer = match &verified.signer {
            Signer::Key { fingerprint } => format!("the key {fingerprint}"),
            Signer::Certificate { name, fingerprint } => {
                format!("{name:?}, with the certificate {fingerprint}")
            }
            Signer::Identity {
                identity,
                provider,
                fingerprint,
                logged_s,
            } => {
                let logged = time(*logged_s);
                format!(
                    "{identity:?} of {provider:?} before {logged}, with the certificate \
                     {fingerprint}"
                )
            }
        };
        let verdict = ui.paint("32", "verified");
        ui.line(&format!(
            "{}: {verdict}, signed by {signer}",
            shown(&self.model)
        ));
        let signed_at = verified.signed_at.map_or_else(String::new, |it| {
            format!(" at {} ({})", time(it.time_s), it.source.name())
        });
        ui.line(&format!(
            "  signed as {:?}{signed_at}",
            printable(&verified.subject)
        ));
        let files = file_count(checked.signed.len());
        let bytes = checked.signed.iter().map(|file| file.bytes);
        let bytes = bytes.fold(0, u64::saturating_add);
        ui.line(&format!("  {files}, {bytes} bytes"));
        if !checked.excluded.is_empty() {
            ui.line(&format!(
                "  not covered by the signature: {}",
                named(&checked.excluded)
            ));
        }
    }
}

/// A time in seconds since 1970 for people.
fn time(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.map_or_else(|| seconds.to_string(), rfc3339)
}

/// The bundle of a signature. `None` if it is too large.
fn bundle(signature: &Path) -> Result<Option<Vec<u8>>, Failure> {
    read_signature(signature).map_err(|error| {
        let fix = match error.kind() {
            ErrorKind::NotFound => "; name the signature with --signature",
            _ => "",
        };
        Failure::Input(format!("cannot read {}: {error}{fix}", shown(signature)))
    })
}

/// The JSON of a check. Scripts rely on its shape.
#[derive(Serialize)]
struct Line<'a> {
    verdict: &'static str,
    /// Why the model is rejected.
    reason: Option<&'a str>,
    /// Who has signed, whether or not the files are the signed ones.
    signer: Option<&'a Signer>,
    /// The model's name in the signature.
    subject: Option<&'a str>,
    /// `null` if the signature has no time.
    signed_at: Option<SignedAt>,
    /// The files to load, of a model that is verified.
    files: Vec<FileLine<'a>>,
    excluded: &'a [String],
    /// Those of `excluded` that --strict rejects.
    uncovered: &'a [String],
    differences: Vec<DifferenceLine<'a>>,
    /// With those that are too many to list.
    difference_count: usize,
}

#[derive(Serialize)]
struct FileLine<'a> {
    path: &'a str,
    bytes: u64,
    /// `null` if shards were hashed.
    sha256: Option<String>,
}

#[derive(Serialize)]
struct DifferenceLine<'a> {
    name: &'a str,
    change: &'static str,
}

impl<'a> Line<'a> {
    fn of(outcome: &'a VerifyOutcome) -> Self {
        let VerifyOutcome {
            verified,
            checked,
            reason,
        } = outcome;
        let signer = verified.as_ref().map(|it| &it.signer);
        let signed = checked.signed.iter().filter(|_| reason.is_none());
        let files = signed.map(|file| FileLine {
            path: &file.path,
            bytes: file.bytes,
            sha256: file.sha256.as_ref().map(|digest| hex(digest)),
        });
        let subject = verified.as_ref().map(|it| it.subject.as_str());
        let signed_at = verified.as_ref().and_then(|it| it.signed_at);
        let differences = checked.differences.named.iter();
        let differences = differences.map(|(name, change)| DifferenceLine {
            name,
            change: match change {
                Change::Content => "content",
                Change::Missing => "missing",
                Change::Unsigned => "unsigned",
            },
        });
        Self {
            verdict: if reason.is_none() {
                "verified"
            } else {
                "rejected"
            },
            reason: reason.as_deref(),
            signer,
            subject,
            signed_at,
            files: files.collect(),
            excluded: &checked.excluded,
            uncovered: &checked.uncovered,
            differences: differences.collect(),
            difference_count: checked.differences.count,
        }
    }
}
