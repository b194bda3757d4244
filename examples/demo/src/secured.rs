//! The second gate's policy and all files that it names, generated at every start. The private keys
//! of the issuer and of the clients' certificates exist only in this process.

mod tokens;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_client::tls::Caller;

use crate::generated;
use crate::signed_models::{ModelServer, PRIVATE_KEY, PUBLIC_KEY, Signer};
pub use tokens::{Key, Tokens};

/// The policy, with placeholders for the folder of models and for the address of the server of
/// signed models.
const POLICY: &str = include_str!("secured/policy.yaml");
/// The client that the policy identifies by certificate.
const ENGINE: &str = "uri:spiffe://demo.example/ns/risk/sa/engine";

/// The credentials of its clients.
pub struct Secured {
    /// The path of the policy.
    pub policy: PathBuf,
    /// Where the policy expects the server of signed models.
    pub model_server: SocketAddr,
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
        let signer = Signer::make()?;
        let model_server = ModelServer::free_address();
        let policy = POLICY
            .replace("MODELS", &json!(models).to_string())
            .replace("SERVER", &model_server.to_string());
        generated::write(
            folder,
            &[
                ("gate.yaml", policy.as_str()),
                ("gate.pem", gate.pem.as_str()),
                ("gate.key", gate.key.as_str()),
                ("clients.pem", ours.pem.as_str()),
                ("revoked.pem", ours.revoke(1, &[&revoked])?.as_str()),
                ("corp.jwks.json", tokens.jwks().to_string().as_str()),
                (PUBLIC_KEY, signer.public.as_str()),
                (PRIVATE_KEY, signer.private.as_str()),
            ],
        )?;
        let caller = |leaf: Option<&Leaf>| Caller::new(&ours.pem, leaf.and_then(Leaf::shown));
        Ok(Self {
            policy: folder.join("gate.yaml"),
            model_server,
            tokens,
            anonymous: caller(None)?,
            engine: caller(Some(&engine))?,
            revoked: caller(Some(&revoked))?,
            impostor: caller(Some(&impostor))?,
        })
    }
}
