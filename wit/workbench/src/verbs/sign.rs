//! The `handler sign` verb: signs a component's digest, name and version, and prints the policy
//! lines that require the signature.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::ui::Ui;
use tensorgate_componentize::surface;
use tensorgate_policy::hex;
use tensorgate_policy::policy::SignedAs;
use tensorgate_settings::component::{self, signature_of};
use tensorgate_signature::PrivateKey;

use crate::project::{component_at, read_component};

/// Largest key file, bytes.
const MAX_KEY_BYTES: u64 = 4 << 10;
/// Mode of a signature: readable by all users.
const MODE: u32 = 0o644;

/// Sign a component's digest, name and version, into a file beside the component.
#[derive(Args)]
#[command(
    after_help = "The key is an Ed25519 key from `openssl genpkey -algorithm ed25519 -out release.pem`, readable only by its owner; \
with `-` it is read from standard input. The signature is a Sigstore bundle, COMPONENT.sigstore.json. Prints the policy lines that accept \
exactly this component from this key.\n\n\
Example: tensorgate handler sign --key release.pem --as scale@1.4.0 scale"
)]
pub struct Sign {
    /// Component file, or project folder.
    #[arg(default_value = ".")]
    component: PathBuf,
    /// Private key, PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name and version of the component.
    #[arg(long = "as", value_name = "NAME@VERSION", value_parser = signed_as)]
    signed_as: SignedAs,
    /// Name of the key in the policy (default: the name of its file).
    #[arg(long, value_name = "NAME")]
    key_name: Option<String>,
}

impl Sign {
    /// Signs the component.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let file = component_at(&self.component)?;
        let bytes = read_component(&file).map_err(Failure::Input)?;
        let fit = surface(&bytes).is_ok_and(|surface| surface.component);
        if !fit {
            return Err(Failure::Input(format!(
                "{} is not a WebAssembly component",
                file.display()
            )));
        }
        let key = read_key(&self.key)?;
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let signature = component::sign(&sha256, &self.signed_as, &key);
        let beside = signature_of(&file);
        replace(&beside, &signature, Mode::Exact(MODE)).map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}", beside.display()))
        })?;
        let (sha256, ed25519) = (hex(&sha256), key.public().to_hex());
        if ui.json {
            ui.json_line(&serde_json::json!({
                "component": file.display().to_string(),
                "sha256": sha256,
                "signature": beside.display().to_string(),
                "signed_as": self.signed_as.to_string(),
                "ed25519": ed25519,
            }));
            return Ok(());
        }
        let stem = self.key.file_stem().and_then(|stem| stem.to_str());
        let key_name = (self.key_name.as_deref())
            .or(stem.filter(|stem| *stem != "-"))
            .unwrap_or("release");
        let component = file.file_name().unwrap_or_default().display();
        ui.line(&beside.display().to_string());
        ui.note("add to the policy:");
        ui.note(&format!(
            "keys:\n  {key_name:?}: {{ed25519: \"{ed25519}\"}}\nhandlers:\n  {:?}:\n    component: {component}\n    sha256: \"{sha256}\"\n    \
signed_by: [{key_name:?}]\n    signed_as: {}",
            self.signed_as.name(),
            self.signed_as
        ));
        Ok(())
    }
}

fn signed_as(text: &str) -> Result<SignedAs, String> {
    SignedAs::parse(text).ok_or_else(|| "expected the form scale@1.4.0".into())
}

/// Reads a private key, which only its owner may be able to read. Messages never contain any part
/// of it.
fn read_key(path: &Path) -> Result<PrivateKey, Failure> {
    let bad = |why: String| Failure::Input(format!("key {}: {why}", path.display()));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .take(MAX_KEY_BYTES)
            .read_to_string(&mut text)
    } else {
        let file = File::open(path).map_err(|error| bad(error.to_string()))?;
        let data = file.metadata().map_err(|error| bad(error.to_string()))?;
        let mode = data.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(bad(format!(
                "mode {mode:04o}: only the owner may have access (0600 or 0400)"
            )));
        }
        file.take(MAX_KEY_BYTES).read_to_string(&mut text)
    };
    read.map_err(|error| bad(error.to_string()))?;
    PrivateKey::from_pem(&text).map_err(|fault| bad(fault.to_string()))
}
