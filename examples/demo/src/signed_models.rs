//! Models that must be signed, and the server that has them all. It would answer a request for each
//! of them: only the gate knows which of them are as they were signed.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use jwt_simple::algorithms::ES256KeyPair;
use tensorgate_client::run::free_port;
use tokio::process::{Child, Command};

use crate::processes::{end, ours, run, started};

/// The file with the first digest of each model version, below the state folder. The host rejects
/// other files under an old version.
const FIRST_DIGESTS: &str = "audit/model-versions.json";
/// The folder of the models, below that of the policy.
const FOLDER: &str = "models";
/// The file of the public key, below that of the policy.
pub const PUBLIC_KEY: &str = "release.pub";
/// The file of the private key, below that of the policy.
pub const PRIVATE_KEY: &str = "release.key";

/// A model as it was signed.
pub const SIGNED: &str = "signed";
/// A model of which one byte was changed after it was signed.
pub const TAMPERED: &str = "tampered";
/// A model without a signature.
pub const UNSIGNED: &str = "unsigned";
/// A signed model with a pickle that has another name.
pub const RENAMED_PICKLE: &str = "renamed-pickle";

/// A signed model whose chat template builds the name of an attribute.
pub const HOSTILE_TEMPLATE: &str = "hostile-template";
/// A signed model whose configuration names code to import.
pub const FOREIGN_CODE: &str = "foreign-code";

/// The file that the server loads.
const WEIGHTS: &str = "1/model.onnx";
/// The position of a byte in a weight of the digits model: its value changes by little.
const TAMPERED_BYTE: usize = 4_000;
/// A pickle that calls `os.system("id")` when it is loaded.
const PICKLE: &[u8] = b"\x80\x02cos\nsystem\nU\x02id\x85R.";

/// The two files beside the weights of these models.
const TEMPLATE: &[u8] = b"{{ messages | sum(attribute='_' ~ '_class_' ~ '_') }}";
const SETTINGS: &[u8] = br#"{"name": "m", "implementation": "elsewhere.Model"}"#;

/// The keys of a signer, PEM.
pub struct Signer {
    /// The private key.
    pub private: String,
    /// The public key.
    pub public: String,
}

impl Signer {
    /// Generates the keys.
    pub fn make() -> Result<Self> {
        let key = ES256KeyPair::generate();
        Ok(Self {
            private: key.to_pem()?,
            public: key.public_key().to_pem()?,
        })
    }
}

/// A running server of the models.
pub struct ModelServer(Child);

impl ModelServer {
    /// An address for it.
    pub fn free_address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], free_port()))
    }

    /// Writes and signs the models, and starts the server. `state`: the state folder of the gate.
    /// `folder`: of the policy, with the key of the signer. `models`: of the model to copy.
    pub async fn start(
        state: &Path,
        folder: &Path,
        models: &Path,
        address: SocketAddr,
    ) -> Result<Self> {
        // Each run of the demo may have other models.
        remove(&state.join(FIRST_DIGESTS))?;
        let weights = models.join("digits").join(WEIGHTS);
        let weights =
            fs::read(&weights).with_context(|| format!("reading {}", weights.display()))?;
        let copies = folder.join(FOLDER);
        let executable = [
            (RENAMED_PICKLE, "weights.safetensors", PICKLE),
            (HOSTILE_TEMPLATE, "chat_template.jinja", TEMPLATE),
            (FOREIGN_CODE, "model-settings.json", SETTINGS),
        ];
        let names = executable.map(|(name, ..)| name);
        for name in [SIGNED, TAMPERED, UNSIGNED].iter().chain(&names) {
            write(&copies.join(name).join(WEIGHTS), &weights)?;
        }
        for (name, file, bytes) in executable {
            write(&copies.join(name).join(file), bytes)?;
        }
        for name in [SIGNED, TAMPERED].iter().chain(&names) {
            sign(&copies.join(name), &folder.join(PRIVATE_KEY)).await?;
        }
        let mut tampered = weights;
        let byte = tampered.get_mut(TAMPERED_BYTE);
        *byte.context("the model is too short")? ^= 1;
        write(&copies.join(TAMPERED).join(WEIGHTS), &tampered)?;

        let mut command = Command::new(ours("tensorgate-embedded")?);
        command.arg("--models").arg(&copies);
        command.args(["--listen", &address.to_string()]);
        let server = started(command, &state.join("models.log"), address).await?;
        Ok(Self(server))
    }

    /// Stops it; an error if it does not end cleanly.
    pub async fn stop(self) -> Result<()> {
        end(self.0)
            .await
            .context("stopping the server of signed models")
    }
}

/// Signs the files of a folder as they are.
async fn sign(model: &Path, key: &Path) -> Result<()> {
    let mut command = Command::new(ours("tensorgate")?);
    command.args(["model", "sign"]).arg(model);
    command.arg("--private-key").arg(key);
    command.arg("--signature").arg(model.join("model.sig"));
    run(command).await.map(drop)
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("removing {}", file.display())),
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| fs::write(file, bytes))
        .with_context(|| format!("writing {}", file.display()))
}
