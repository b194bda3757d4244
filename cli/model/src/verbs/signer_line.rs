//! The JSON of a signer. It is the same for each verb that verifies a signature.

use serde::Serialize;
use tensorgate_artifact::model_signing::Signer;

/// A verified signer. Scripts rely on its shape.
#[derive(Debug, Serialize)]
pub struct SignerLine<'a> {
    /// `key`, `certificate` or `identity`.
    pub kind: &'static str,
    /// The digest of the key or of the certificate.
    pub fingerprint: &'a str,
    /// The name in the certificate, or the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// Who vouches for an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'a str>,
    /// When a log took the signature of an identity in, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logged_s: Option<u64>,
}

impl<'a> SignerLine<'a> {
    /// The line of a signer.
    pub fn new(signer: &'a Signer) -> Self {
        match signer {
            Signer::Key { fingerprint } => Self {
                kind: "key",
                fingerprint,
                name: None,
                provider: None,
                logged_s: None,
            },
            Signer::Certificate { name, fingerprint } => Self {
                kind: "certificate",
                fingerprint,
                name: Some(name),
                provider: None,
                logged_s: None,
            },
            Signer::Identity {
                identity,
                provider,
                fingerprint,
                logged_s,
            } => Self {
                kind: "identity",
                fingerprint,
                name: Some(identity),
                provider: Some(provider),
                logged_s: Some(*logged_s),
            },
        }
    }
}
