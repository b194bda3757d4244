//! What a component's signature says: that these bytes are this version of this handler.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use tensorgate_policy::policy::{SignedAs, SignedBy};
use tensorgate_policy::{hex, unhex};

use crate::envelope::{open, seal};
use crate::key::{PrivateKey, PublicKey};

/// What a signature's file is called: the component's name and this, which is what Sigstore's tools call theirs.
pub const SUFFIX: &str = ".sigstore.json";

/// Where a component's signature lies.
pub fn signature_of(component: &Path) -> PathBuf {
    let mut file = component.to_owned().into_os_string();
    file.push(SUFFIX);
    PathBuf::from(file)
}

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// A signature over a component says nothing of anything else that the same key signs.
const PREDICATE: &str = "urn:tensorgate:component:v1";

/// Characters of somebody else's text in one of ours.
const MAX_TOLD: usize = 200;

/// Why a signature does not let a component in. Every text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The file is larger than any signature.
    #[error("the signature is larger than {} bytes", crate::MAX_SIGNATURE_BYTES)]
    TooLarge,
    /// The file is another one than `sign` makes.
    #[error("not a signature: {0}")]
    Form(String),
    /// A key of the policy that none is.
    #[error("key {0} {1}")]
    Key(String, crate::KeyFault),
    /// No key that counts has signed it.
    #[error("signed by none of the keys that count ({0})")]
    Unsigned(String),
    /// Signed, but not of these bytes.
    #[error("signs another component: sha256 {signed}, the policy says {expected}")]
    Digest {
        /// What was signed, hex.
        signed: String,
        /// What is to run, hex.
        expected: String,
    },
    /// Signed, but as something else.
    #[error("signs {signed}, the policy says {expected}")]
    Name {
        /// What was signed.
        signed: String,
        /// What is to run.
        expected: String,
    },
}

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

/// What a verified signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The policy's name for the key.
    pub key: String,
    /// Under which name and version.
    pub signed_as: SignedAs,
}

/// A signature over a component's digest, its name and its version: the content of its file.
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
    // Texts: there is nothing in it that JSON could not say.
    seal(&serde_json::to_string(&statement).unwrap_or_default(), key)
}

/// Whether a signature's file lets the component of a digest in, by what a policy asks for.
///
/// # Errors
/// Why not: no key that counts has signed it, or signed something else.
pub fn verify(
    signature: &[u8],
    sha256: &[u8; 32],
    asked: &SignedBy,
) -> Result<Signed, SignatureFault> {
    let mut keys = Vec::new();
    for (name, bytes) in asked.keys() {
        let key = PublicKey::new(*bytes);
        keys.push((
            name.as_str(),
            key.map_err(|fault| SignatureFault::Key(name.clone(), fault))?,
        ));
    }
    let (key, payload) = open(signature, keys)?;
    let signed_as = read(&payload, sha256)?;
    match asked.signed_as() {
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

/// A statement about the component of a digest.
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

impl SignatureFault {
    /// What a reader of JSON says, cut off where a name of a file's own would go on for ever.
    pub(crate) fn unread(what: &str, error: &serde_json::Error) -> Self {
        let error: String = error.to_string().chars().take(MAX_TOLD).collect();
        Self::Form(format!("{what}: {error}"))
    }
}

/// What a signature says of a component that it is for, whoever signed it: for those who pass both on, and trust neither.
///
/// # Errors
/// If it is no signature, or one of other bytes.
pub fn says(signature: &[u8], component: &[u8]) -> Result<SignedAs, SignatureFault> {
    let payload = crate::envelope::unverified(signature)?;
    let sha256: [u8; 32] = sha2::Sha256::digest(component).into();
    read(&payload, &sha256)
}
