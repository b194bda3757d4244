//! `model sign`: signs the files of a model with a key, or with a key and its certificate chain.

use std::env::VarError;
use std::fs::{Metadata, metadata, symlink_metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tensorgate_artifact::model_signing::{
    ModelSigningKey, is_signature, sign_with_certificates, sign_with_key,
};
use tensorgate_base::secret_file;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::clock::present;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::ui::Ui;
use tensorgate_models::files::{Hashed, SignedFile, path_beneath, read_signature};

use super::inputs::{ModelToHash, certificates, named, signature};
use super::report::print_json;
use super::sign_scan::SignScan;
use crate::text::{file_count, shown};

/// The largest file with a private key, bytes.
const MAX_KEY_BYTES: u64 = 16 << 10;
/// Mode of a signature: readable by all users.
const MODE: u32 = 0o644;

/// Sign the files of a model, in the format of OpenSSF Model Signing 1.0.
///
/// The signature is a file that `model verify` and the Python package `model-signing` verify.
#[derive(Args)]
#[command(
    after_help = "The signature records its time and the model's name, which `model verify` can require.\n\n\
Keys are on P-256, P-384 or P-521, or of Ed25519, which other tools do not read. `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out release.pem` makes one.\n\n\
The signature replaces no file but an earlier signature, or an empty file outside the model.\n\
The signature itself, files of git at the top of the model and what --ignore-path names are not covered.\n\
Exit codes: 0 signed, 1 the signature cannot be written, 2 invalid usage, key or model.\n\n\
Example: tensorgate model sign models/digits --private-key release.pem --signature digits.sig"
)]
pub struct Sign {
    #[command(flatten)]
    model: ModelToHash,
    #[command(flatten)]
    key: KeySource,
    /// Certificates of the key, PEM: the signing certificate first, then its authorities. Without
    /// them, the signature names the key alone. Repeatable.
    #[arg(long, value_name = "FILE")]
    certificate_chain: Vec<PathBuf>,
    /// Write the signature into this file [default: `model.sig` in the model's folder, `FILE.sig`
    /// beside a single file].
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    scan: SignScan,
}

/// Where the private key is.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct KeySource {
    /// Private key in PEM, `PRIVATE KEY` or `EC PRIVATE KEY`, that only its owner may read.
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// Environment variable that holds the private key, for pipelines.
    // A key that is given by mistake begins with hyphens, and no message may have it.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    private_key_env: Option<String>,
}

/// The JSON of a signature. Scripts rely on its shape.
#[derive(Serialize)]
struct Signed<'a> {
    model: &'a str,
    signature: String,
    /// The fingerprint of the key.
    key: String,
    files: usize,
    excluded: &'a [String],
    /// When the signature says that it was made, Unix seconds.
    signed_at_s: u64,
    /// Whether each file was scanned.
    scanned: bool,
}

impl Sign {
    /// Signs and writes the signature.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let key = self.key.read()?;
        let chain = certificates(&self.certificate_chain)?;
        let signature = signature(self.signature.as_deref(), &self.model.model);
        let beneath = path_beneath(&self.model.model, &signature);
        if beneath.as_deref() == Some("") {
            return Err(Failure::Input(
                "the signature would replace the model: give --signature another file".into(),
            ));
        }
        let replaced = replaced(&signature, beneath.is_some())?;
        let before = self.scan.states(&self.model.model)?;
        let Hashed {
            manifest,
            files,
            excluded,
        } = self.model.hash(beneath)?;
        if replaced.is_some_and(|file| is_of_model(&file, &self.model.model, &files)) {
            return Err(Failure::Input(format!(
                "{} is a file of the model: give --signature another file",
                shown(&signature)
            )));
        }
        if let Some(before) = &before {
            self.scan.run(ui, &self.model, &files, before)?;
        }
        let now_s = present()?;
        let manifest = manifest.signed_at(now_s);
        let bundle = if chain.is_empty() {
            sign_with_key(&manifest, &key)
        } else {
            sign_with_certificates(&manifest, &key, chain, now_s)
        };
        let bundle = bundle.map_err(|fault| Failure::Input(fault.to_string()))?;
        replace(&signature, &bundle, Mode::Exact(MODE)).map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}", shown(&signature)))
        })?;
        let files = files.len();
        let signed = Signed {
            model: &manifest.name,
            signature: signature.to_string_lossy().into_owned(),
            key: key.public().fingerprint(),
            files,
            excluded: &excluded,
            signed_at_s: now_s,
            scanned: self.scan.is_wanted(),
        };
        if ui.json {
            print_json(ui, &signed);
            return Ok(());
        }
        ui.line(&shown(&signature));
        ui.note(&format!(
            "signed {} with the key {}",
            file_count(files),
            signed.key
        ));
        if !signed.excluded.is_empty() {
            ui.note(&format!("not covered: {}", named(signed.excluded)));
        }
        if !signed.scanned {
            ui.note("note: sign does not scan: run `tensorgate model scan`, or sign with --scan");
        }
        Ok(())
    }
}

/// The file that the signature will replace, if there is one. It must be a signature, or an empty
/// file outside the model, as `mktemp` makes it.
fn replaced(signature: &Path, is_beneath: bool) -> Result<Option<Metadata>, Failure> {
    let found = match symlink_metadata(signature) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::Failed(format!(
                "cannot write {}: {error}",
                shown(signature)
            )));
        }
    };
    if !is_beneath && found.is_file() && found.len() == 0 {
        return Ok(Some(found));
    }
    let content = read_signature(signature).ok().flatten();
    if content.is_some_and(|content| is_signature(&content)) {
        return Ok(Some(found));
    }
    Err(Failure::Input(format!(
        "{} exists and is no signature of a model: remove it, or give --signature another file",
        shown(signature)
    )))
}

/// Whether a file is one of a model's, under whatever path: by another case of its name, another
/// mount, a hard link, or a link of the model that leads to it.
fn is_of_model(file: &Metadata, model: &Path, files: &[SignedFile]) -> bool {
    let is_same = |path: &Path| {
        let is_it = |other: Metadata| (other.dev(), other.ino()) == (file.dev(), file.ino());
        symlink_metadata(path).is_ok_and(is_it) || metadata(path).is_ok_and(is_it)
    };
    is_same(model) || files.iter().any(|of| is_same(&model.join(&of.path)))
}

impl KeySource {
    /// Reads the key. No message has a part of it.
    fn read(&self) -> Result<ModelSigningKey, Failure> {
        let (text, source) = match (&self.private_key, &self.private_key_env) {
            (Some(file), _) => {
                let bytes = secret_file::read(file, MAX_KEY_BYTES)
                    .map_err(|error| Failure::Input(error.to_string()))?;
                (String::from_utf8(bytes).unwrap_or_default(), shown(file))
            }
            (None, Some(name)) if !is_variable(name) => {
                return Err(Failure::Input(
                    "--private-key-env takes the name of a variable, not its content".into(),
                ));
            }
            (None, Some(name)) => {
                let source = format!("the environment variable {name:?}");
                let text = std::env::var(name).map_err(|error| {
                    let why = match error {
                        VarError::NotPresent => "is not set",
                        VarError::NotUnicode(_) => "is no PEM text",
                    };
                    Failure::Input(format!("{source} {why}"))
                })?;
                (text, source)
            }
            // The parser demands one of them.
            (None, None) => return Err(Failure::Input("give --private-key".into())),
        };
        ModelSigningKey::from_pem(&text)
            .map_err(|fault| Failure::Input(format!("the key in {source} {fault}")))
    }
}

/// Whether a text can be the name of an environment variable.
fn is_variable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(allowed)
}
