//! The second gate's policy and all files that it names, generated at every start. The private keys
//! of the issuer and of the certificates exist only in this process.

mod tokens;

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_client::tls::Caller;

pub use tokens::{Key, Tokens};

/// The policy, with a placeholder for the folder of models.
const POLICY: &str = include_str!("secured/policy.yaml");
/// The client that the policy identifies by certificate.
const ENGINE: &str = "uri:spiffe://demo.example/ns/risk/sa/engine";

/// The credentials of its clients.
pub struct Secured {
    /// The path of the policy.
    pub policy: PathBuf,
    /// Valid and forged tokens.
    pub tokens: Tokens,
    /// A caller without a certificate.
    pub anonymous: Caller,
    /// A caller whose certificate identifies a client.
    pub engine: Caller,
    /// A caller whose certificate identified the same client, and was revoked.
    pub revoked: Caller,
    /// A caller whose certificate has the same name, from another authority.
    pub impostor: Caller,
}

impl Secured {
    /// Generates everything, in a folder with access for its owner only. `models`: the folder of
    /// the models.
    pub fn make(folder: &Path, models: &Path) -> Result<Self> {
        let (ours, other) = (Authority::new("demo clients")?, Authority::new("others")?);
        let gate = ours.issue(1, &["ip:127.0.0.1"])?;
        let (engine, revoked) = (ours.issue(2, &[ENGINE])?, ours.issue(3, &[ENGINE])?);
        let impostor = other.issue(2, &[ENGINE])?;
        let tokens = Tokens::make();
        let policy = folder.join("gate.yaml");
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("making {}", folder.display()))?;
        for (name, text) in [
            (
                "gate.yaml",
                POLICY.replace("MODELS", &json!(models).to_string()),
            ),
            ("gate.pem", gate.pem),
            ("gate.key", gate.key),
            ("clients.pem", ours.pem.clone()),
            ("revoked.pem", ours.revoke(1, &[&revoked])?),
            ("corp.jwks.json", tokens.jwks().to_string()),
        ] {
            let file = folder.join(name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&file)
                .and_then(|mut opened| opened.write_all(text.as_bytes()))
                .with_context(|| format!("writing {}", file.display()))?;
        }
        let caller = |leaf: Option<&Leaf>| Caller::new(&ours.pem, leaf.and_then(Leaf::shown));
        Ok(Self {
            policy,
            tokens,
            anonymous: caller(None)?,
            engine: caller(Some(&engine))?,
            revoked: caller(Some(&revoked))?,
            impostor: caller(Some(&impostor))?,
        })
    }
}
