//! Signatures of handler components: they bind a digest to a name and a version.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use tensorgate_policy::policy::{SignedAs, SignedBy};
use tensorgate_policy::{hex, unhex};
use tensorgate_signature::envelope::{open, seal, unverified};
use tensorgate_signature::{PrivateKey, PublicKey, SignatureFault};

/// Suffix of a signature file, as in Sigstore's tools.
pub const SUFFIX: &str = ".sigstore.json";

/// Path of a component's signature.
pub fn signature_of(component: &Path) -> PathBuf {
    let mut file = component.to_owned().into_os_string();
    file.push(SUFFIX);
    PathBuf::from(file)
}

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Predicate type: a signature over a component is not valid for anything else.
const PREDICATE: &str = "urn:tensorgate:component:v1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: Sha256,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sha256 {
    sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    version: String,
}

/// Contents of a verified signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The policy's name of the key.
    pub key: String,
    /// Signed name and version.
    pub signed_as: SignedAs,
}

/// Signs a component's digest, name and version. Returns the content of the signature file.
pub fn sign(sha256: &[u8; 32], signed_as: &SignedAs, key: &PrivateKey) -> String {
    let statement = Statement {
        kind: STATEMENT.to_owned(),
        subject: vec![Subject {
            name: signed_as.name().to_owned(),
            digest: Sha256 {
                sha256: hex(sha256),
            },
        }],
        predicate_type: PREDICATE.to_owned(),
        predicate: Predicate {
            version: signed_as.version().to_owned(),
        },
    };
    // Only texts, so serialization cannot fail.
    seal(&serde_json::to_string(&statement).unwrap_or_default(), key)
}

/// Verifies a signature file for a component's digest and a policy's requirements.
///
/// # Errors
/// Why it is rejected: no trusted key has signed it, or it signs something else.
pub fn verify(
    signature: &[u8],
    sha256: &[u8; 32],
    required: &SignedBy,
) -> Result<Signed, SignatureFault> {
    let mut keys = Vec::new();
    for (name, bytes) in required.keys() {
        let key = PublicKey::new(*bytes);
        keys.push((
            name.as_str(),
            key.map_err(|fault| SignatureFault::Key(name.clone(), fault))?,
        ));
    }
    let (key, payload) = open(signature, keys)?;
    let signed_as = read(&payload, sha256)?;
    match required.signed_as() {
        Some(expected) if *expected != signed_as => Err(SignatureFault::Name {
            signed: signed_as.to_string(),
            expected: expected.to_string(),
        }),
        _ => Ok(Signed {
            key: key.to_owned(),
            signed_as,
        }),
    }
}

/// Reads the statement about a component's digest.
fn read(payload: &[u8], sha256: &[u8; 32]) -> Result<SignedAs, SignatureFault> {
    let form = |what: &str| SignatureFault::Form(what.to_owned());
    let Statement {
        kind,
        subject,
        predicate_type,
        predicate: Predicate { version },
    } = serde_json::from_slice(payload)
        .map_err(|error| SignatureFault::unread("what was signed", &error))?;
    if kind != STATEMENT || predicate_type != PREDICATE {
        return Err(form("what was signed is not about a component"));
    }
    let [Subject { name, digest }] = subject.as_slice() else {
        return Err(form("what was signed is not about exactly one component"));
    };
    if unhex::<32>(digest.sha256.as_bytes()) != Some(*sha256) {
        return Err(SignatureFault::Digest {
            signed: digest.sha256.chars().take(64).collect(),
            expected: hex(sha256),
        });
    }
    SignedAs::parse(&format!("{name}@{version}"))
        .ok_or_else(|| form("what was signed has no name and version that a handler can have"))
}

/// Reads the name and version from a signature without verifying the signer, for tools that only
/// forward both.
///
/// # Errors
/// It is not a signature, or one of other bytes.
pub fn claimed_identity(signature: &[u8], component: &[u8]) -> Result<SignedAs, SignatureFault> {
    let payload = unverified(signature)?;
    let sha256: [u8; 32] = sha2::Sha256::digest(component).into();
    read(&payload, &sha256)
}

#[cfg(test)]
mod tests;
