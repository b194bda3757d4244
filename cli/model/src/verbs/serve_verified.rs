//! `model serve-verified`: copies a model that is signed and safe to where a server loads it.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tensorgate_artifact::model_signing::{
    Exclusions, MAX_BUNDLE_BYTES, SignedAt, Signer, Verified,
};
use tensorgate_base::files::regular_at_most;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::clock::{present, today};
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_models::files::open_folder::parent;
use tensorgate_models::files::{Ignored, check_folder, path_beneath, read_signature};
use tensorgate_values::{CodeKind, ModelFormat};

use super::copy_scan::CopyScan;
use super::inputs::{exclusions, options, signature};
use super::report::print_json;
use super::required::{RequiredSignature, uncovered};
use super::scan_options::ScanOptions;
use super::trusted_signer::{Trusted, TrustedSigner};
use crate::scan::exceptions::MAX_FILE_BYTES as MAX_EXCEPTIONS_BYTES;
use crate::scan::settings::Settings;
use crate::served_model::receipt::{Inputs, Receipt};
use crate::served_model::store::Store;
use crate::text::{file_count, shown};

/// The longest name of a model, bytes.
const MAX_NAME_BYTES: usize = 100;
/// How KServe names what it asks for.
const FILE_URI: &str = "file://";

/// Copy a model to where a server loads it, if its signature is valid and each file is safe.
///
/// SRC is compared with its signature while it is copied, and the copy is scanned. Then the copy
/// becomes visible as DST/NAME in one step, read-only. If anything fails, DST is left as it is; a
/// model under NAME that was changed since is removed. A later start with the same signature and
/// options finds the copy and does not read it again.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 DST/NAME is the verified model, 1 it is not, 2 invalid usage or input.\n\nExample: tensorgate model serve-verified /source/resnet /models --name resnet --key signer.pem"
)]
pub struct ServeVerified {
    /// The signed model: a folder or a file, or its `file://` URI.
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// A folder that nothing else writes.
    #[arg(value_name = "DST")]
    destination: PathBuf,
    /// The name under which the model becomes visible in DST.
    #[arg(long, value_name = "NAME", default_value = "model", value_parser = name)]
    name: String,
    /// The signature [default: `model.sig` in SRC, `SRC.sig` if SRC is a file].
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    signer: TrustedSigner,
    #[command(flatten)]
    required: RequiredSignature,
    /// Accept that this path, relative to SRC, is not signed, with everything below it. It is not
    /// copied. Other files that the signer left out are rejected, but for those of git. Signed
    /// files are compared and copied all the same. Repeatable.
    #[arg(long, value_name = "PATH")]
    ignore_path: Vec<String>,
    /// Formats that files may have, with commas between them, as `model scan` prints them [default:
    /// all].
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = format)]
    formats: Vec<ModelFormat>,
    /// Accept files with code of these kinds, with commas between them: `triton-python` (`*.py`,
    /// and a `config.pbtxt` that names the Python backend) and `torchscript`. The server runs this
    /// code, so trust those who sign.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = code_kind)]
    allow: Vec<CodeKind>,
    #[command(flatten)]
    scan: ScanOptions,
}

/// The JSON of a model that is served. Scripts rely on its shape.
#[derive(Serialize)]
struct ServedLine<'a> {
    model: String,
    /// `copied` or `unchanged`.
    state: &'static str,
    files: usize,
    bytes: u64,
    signer: &'a Signer,
    /// The model's name in the signature.
    subject: &'a str,
    /// `null` if the signature has no time.
    signed_at: Option<SignedAt>,
}

impl ServeVerified {
    /// Verifies, copies, scans and publishes.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let source = source(&self.source)?;
        refuse_overlap(&source, &self.destination)?;
        let settings = self.scan.settings()?;
        let trusted = self.signer.read()?;
        let ignored = exclusions(self.ignore_path.iter().cloned())?;
        let store = Store::open(&self.destination, &self.name).map_err(Failure::Failed)?;
        let current = store.current();
        let is_verified = current.is_some();
        let run = Run {
            ui,
            signature: signature(self.signature.as_deref(), &source),
            options: &self,
            source,
            settings,
            trusted,
            ignored,
            store,
        };
        let served = run.serve(current);
        if served.is_err() {
            run.clean_up(is_verified);
        }
        served
    }
}

/// One run, whose options were read.
struct Run<'a> {
    ui: &'a Ui,
    options: &'a ServeVerified,
    source: PathBuf,
    signature: PathBuf,
    settings: Settings,
    trusted: Trusted,
    /// Paths that need not be signed.
    ignored: Exclusions,
    store: Store,
}

impl Run<'_> {
    /// Makes the model visible, unless that is the current one.
    fn serve(&self, current: Option<Receipt>) -> Result<(), Failure> {
        let bundle = read_bundle(&self.signature, &self.source)?;
        // At each start, because certificates expire.
        let verified = (self.trusted.verify(&bundle, present()?))
            .map_err(|rejection| rejected(&self.signature, &rejection))?;
        (verified.require(&self.options.required.requirements()))
            .map_err(|unmet| rejected(&self.signature, &unmet))?;
        let inputs = self.inputs(&bundle)?;
        if let Some(receipt) = current.filter(|it| it.covers(&inputs, &today())) {
            self.report(&receipt, &verified, "unchanged");
            return Ok(());
        }
        let receipt = self.copy(&verified, inputs)?;
        self.store.publish(&receipt).map_err(Failure::Failed)?;
        self.report(&receipt, &verified, "copied");
        Ok(())
    }

    /// Makes a copy that is the signed model and safe. It is not visible yet.
    fn copy(&self, verified: &Verified, inputs: String) -> Result<Receipt, Failure> {
        let source = &self.source;
        let ignored = Ignored {
            paths: self.ignored.clone(),
            bundle: path_beneath(source, &self.signature),
        };
        let staging = self.store.stage().map_err(Failure::Failed)?;
        let options = options(None);
        let copy_to = Some(staging.folder.as_fd());
        let checked = check_folder(source, &verified.manifest, &ignored, &options, copy_to)
            .map_err(|fault| rejected(source, &fault))?;
        if !checked.differences.is_empty() {
            return Err(rejected(source, &checked.differences));
        }
        if let Some(cause) = uncovered(&checked.uncovered) {
            return Err(rejected(source, &cause));
        }
        let files = self.store.seal(&staging).map_err(Failure::Failed)?;
        let scan = CopyScan {
            copy: &staging.path,
            signed: &checked.signed,
            options: &self.options.scan,
            settings: &self.settings,
            formats: &self.options.formats,
            allow: Some(self.options.allow.as_slice()),
        };
        let until = scan.run(self.ui, std::slice::from_ref(&staging.path), files.len())?;
        Ok(Receipt::new(inputs, until, files))
    }

    /// The digest of everything but the model that the verdict depends on.
    fn inputs(&self, bundle: &[u8]) -> Result<String, Failure> {
        let ServeVerified {
            formats,
            allow,
            ignore_path,
            required,
            scan,
            ..
        } = self.options;
        let mut inputs = Inputs::default();
        inputs.add("version", env!("CARGO_PKG_VERSION").as_bytes());
        inputs.add("bundle", bundle);
        inputs.add("signer", self.trusted.text.as_bytes());
        if let Some(subject) = &required.subject {
            inputs.add("subject", subject.as_bytes());
        }
        if let Some(not_before_s) = required.not_before {
            inputs.add("not-before", &not_before_s.to_be_bytes());
        }
        if let Some(file) = &scan.exceptions {
            let exceptions = regular_at_most(file, MAX_EXCEPTIONS_BYTES).ok().flatten();
            let exceptions = exceptions.ok_or_else(|| {
                Failure::Failed(format!("{} cannot be read any more", shown(file)))
            })?;
            inputs.add("exceptions", &exceptions);
        }
        for path in ignore_path {
            inputs.add("ignore-path", path.as_bytes());
        }
        for format in formats {
            inputs.add("format", format.name().as_bytes());
        }
        for kind in allow {
            inputs.add("allow", kind.name().as_bytes());
        }
        if let Some(max_bytes) = scan.max_bytes {
            inputs.add("max-bytes", &max_bytes.to_be_bytes());
        }
        if scan.requires_isolation() {
            inputs.add("isolation", b"required");
        }
        Ok(inputs.digest())
    }

    /// Removes what a failed run left, and a visible model that is not as a run left it. A verified
    /// model stays.
    fn clean_up(&self, is_verified: bool) {
        let removed = if is_verified {
            self.store.discard().map(|()| false)
        } else {
            self.store.withdraw()
        };
        match removed {
            Ok(false) => {}
            Ok(true) => self.ui.note(&format!(
                "{} is removed: it was changed, or was not verified",
                shown(&self.store.model())
            )),
            Err(fault) => self.ui.note(&fault),
        }
    }

    /// Prints what is served.
    fn report(&self, receipt: &Receipt, verified: &Verified, state: &'static str) {
        let model = shown(&self.store.model());
        let files = receipt.files.len();
        let bytes = receipt.files.iter().map(|file| file.bytes);
        let bytes = bytes.fold(0, u64::saturating_add);
        if self.ui.json {
            let line = ServedLine {
                model,
                state,
                files,
                bytes,
                signer: &verified.signer,
                subject: &verified.subject,
                signed_at: verified.signed_at,
            };
            print_json(self.ui, &line);
            return;
        }
        let signer = match &verified.signer {
            Signer::Key { fingerprint } => format!("key {fingerprint}"),
            Signer::Certificate { name, fingerprint } => {
                format!("certificate {} {fingerprint}", printable(name))
            }
            Signer::Identity {
                identity,
                fingerprint,
                ..
            } => format!("identity {} {fingerprint}", printable(identity)),
        };
        self.ui.line(&format!(
            "{model}: {state}, {}, {bytes} bytes, signed by {signer}",
            file_count(files)
        ));
    }
}

/// Why something is not the signed and safe model.
fn rejected(path: &Path, cause: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{}: {cause}", shown(path)))
}

/// The bundle of a signature. The folder that it may be in is not trusted.
fn read_bundle(file: &Path, source: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |cause: String| {
        let file = shown(file);
        Failure::Failed(format!("cannot read the signature {file}: {cause}"))
    };
    read_signature(file)
        .map_err(|error| failed(unread(&error, source)))?
        .ok_or_else(|| failed(format!("it is larger than {MAX_BUNDLE_BYTES} bytes")))
}

/// Why a signature cannot be read, and what to do.
fn unread(error: &io::Error, source: &Path) -> String {
    // SRC may be a single file.
    let is_missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    if !is_missing.contains(&error.kind()) {
        return error.to_string();
    }
    if std::fs::symlink_metadata(source).is_err() {
        return format!("there is no {}: correct SRC", shown(source));
    }
    format!(
        "{error}: sign the model with `tensorgate model sign`, or name the file with --signature"
    )
}

/// Refuses a DST in SRC: what is written there would be an unsigned part of the model.
fn refuse_overlap(source: &Path, destination: &Path) -> Result<(), Failure> {
    // It may not be there yet.
    let resolved = destination
        .canonicalize()
        .or_else(|_| parent(destination).canonicalize());
    match (source.canonicalize(), resolved) {
        (Ok(source), Ok(resolved)) if resolved.starts_with(&source) => {
            Err(Failure::Input(format!(
                "DST {} is in SRC, and nothing that is written there is signed: name a folder outside of the model",
                shown(destination)
            )))
        }
        _ => Ok(()),
    }
}

/// The path of SRC, which may be a URI.
fn source(source: &Path) -> Result<PathBuf, Failure> {
    let Some(text) = source.to_str().filter(|text| text.contains("://")) else {
        return Ok(source.to_owned());
    };
    let path = text.strip_prefix(FILE_URI);
    let path = path.filter(|path| path.starts_with('/') && !path.contains(['%', '?', '#']));
    path.map(PathBuf::from).ok_or_else(|| {
        Failure::Input(format!(
            "SRC is {:?}: name a folder, or file:///ITS/PATH without escapes; download the model first if it is elsewhere",
            printable(text)
        ))
    })
}

/// The value of `--name`.
fn name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = text.bytes().all(is_allowed) && !text.starts_with(['.', '-']);
    if is_name && !text.is_empty() && text.len() <= MAX_NAME_BYTES {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits, `-`, `_` and `.`, beginning with a letter or digit".into())
    }
}

/// A value of `--formats`.
fn format(text: &str) -> Result<ModelFormat, String> {
    ModelFormat::from_name(text).ok_or_else(|| expected(&ModelFormat::ALL.map(ModelFormat::name)))
}

/// A value of `--allow`.
fn code_kind(text: &str) -> Result<CodeKind, String> {
    CodeKind::from_name(text).ok_or_else(|| expected(&CodeKind::ALL.map(CodeKind::name)))
}

/// What is wrong with a value that is none of these.
fn expected(known: &[&str]) -> String {
    format!("expected one of: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_or_the_uri_of_a_file() {
        let path = |text: &str| source(Path::new(text)).ok();
        for (text, expected) in [
            ("models/a", Some("models/a")),
            ("file:///source/a b", Some("/source/a b")),
            ("file://host/a", None),
            ("file:///a%2f..", None),
            ("s3://bucket/a", None),
        ] {
            assert_eq!(path(text), expected.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_component_that_is_not_hidden() {
        for (text, expected) in [
            ("resnet-50_v1.5", true),
            ("", false),
            (".model.new", false),
            ("..", false),
            ("a/b", false),
            ("-x", false),
        ] {
            assert_eq!(name(text).is_ok(), expected, "{text}");
        }
    }
}
