//! The second gate's policy and everything that it names, made anew at every start: who an issuer's tokens and which certificates prove is
//! known to this process alone, and only until it ends.

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

/// The policy, but for the folder of models.
const POLICY: &str = include_str!("secured/policy.yaml");
/// The client that the policy knows by certificate.
const ENGINE: &str = "uri:spiffe://demo.example/ns/risk/sa/engine";

/// What its clients have.
pub struct Secured {
    /// The policy's file.
    pub policy: PathBuf,
    /// Whose tokens count, and whose do not.
    pub tokens: Tokens,
    /// A caller that shows no certificate.
    pub nobody: Caller,
    /// One whose certificate names a client.
    pub engine: Caller,
    /// One whose certificate named it too, and was taken back.
    pub revoked: Caller,
    /// One whose certificate says the same, from another authority.
    pub impostor: Caller,
}

impl Secured {
    /// Makes everything, in a folder of its owner's. `models`: the folder of the models.
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
            nobody: caller(None)?,
            engine: caller(Some(&engine))?,
            revoked: caller(Some(&revoked))?,
            impostor: caller(Some(&impostor))?,
        })
    }
}
