//! The JSON of a signer. It is the same for each verb that verifies a signature.

use serde::Serialize;
use tensorgate_artifact::model_signing::Signer;

/// A verified signer. Scripts rely on its shape.
#[derive(Debug, Serialize)]
pub struct SignerLine<'a> {
    /// `key` or `certificate`.
    pub kind: &'static str,
    /// The digest of the key or of the certificate.
    pub fingerprint: &'a str,
    /// The name in the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

impl<'a> SignerLine<'a> {
    /// The line of a signer.
    pub fn new(signer: &'a Signer) -> Self {
        match signer {
            Signer::Key { fingerprint } => Self {
                kind: "key",
                fingerprint,
                name: None,
            },
            Signer::Certificate { name, fingerprint } => Self {
                kind: "certificate",
                fingerprint,
                name: Some(name),
            },
        }
    }
}
