//! Evidence of a caller's identity, and the result. [`crate::Identifier`] evaluates it.

use alloc::string::String;
use core::net::IpAddr;

use tensorgate_policy::SmolStr;
use tensorgate_policy::request::{Credential, Identity, Operations, Proofs};

use crate::claim_headers::Fields;
use crate::claims::EndUser;
use crate::confirmation::Confirmation;

/// A text of another system, such as a key of OpenAI's.
pub(crate) const NEITHER: &str = "neither a key of this gate nor a token";

/// Everything that a proxy knows about a caller.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// Credential in the request's header fields.
    pub credential: Credential<'a>,
    /// The client certificate that the proxy verified.
    pub certificate: Option<Certificate<'a>>,
    /// Values at [`crate::Identifier::metadata_paths`], in order.
    pub metadata: &'a [Option<String>],
    /// The caller's address; `None` if unknown.
    pub source: Option<IpAddr>,
}

/// A certificate that the proxy verified.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    /// `x-forwarded-client-cert` as the proxy wrote it, after received elements if
    /// [`crate::Identifier::needs_certificate_digest`]. A proxy that forwards a client's own value
    /// would allow forged identities.
    pub header: &'a str,
    /// Names from the proxy's properties. The header's names are not quoted: a name with `;` looks
    /// like several there, but is one here.
    pub names: PeerNames,
}

/// First subject alternative name of each kind, and the digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// The first URI.
    pub uri: Option<String>,
    /// The first DNS name.
    pub dns: Option<String>,
    /// SHA-256 in lower-case hex. Used only if [`crate::Identifier::needs_certificate_digest`].
    pub sha256: String,
}

impl<'a> Evidence<'a> {
    /// Evidence with a credential only.
    pub const fn of(credential: Credential<'a>) -> Self {
        Self {
            credential,
            certificate: None,
            metadata: &[],
            source: None,
        }
    }
}

/// Result of identification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The identity.
    pub identity: Identity,
    /// Log name of the evaluated credential: `key:<first 16 hex digits of its sha-256>`,
    /// `jwt:<issuer>:<sub>`, `mtls:<uri or dns name>`, `metadata:<filter>`. `None` if it has no
    /// name.
    pub credential: Option<SmolStr>,
    /// The kinds of proof; none unless a client was identified.
    pub proofs: Proofs,
    /// Operations that the credential does not allow.
    pub withheld: Operations,
    /// Claims to forward as header fields.
    pub claims: Fields,
    /// The end user that the token names.
    pub user: Option<EndUser>,
    /// What the token is bound to. [`crate::Identifier`] has checked it.
    pub confirmation: Confirmation,
    /// The issuer whose key set lacks the token's key, if another fetch may help.
    pub awaits: Option<String>,
    /// The client of a revoked key, for the audit log only. The caller is not identified by it, and
    /// no response depends on it.
    pub revoked_client: Option<SmolStr>,
    /// Expiry of the credential, in Unix seconds; `None` without expiry. Streams check it later.
    pub until_unix_s: Option<u64>,
}

impl Identified {
    /// An identity without proof or restrictions.
    pub fn new(identity: Identity, credential: Option<SmolStr>) -> Self {
        Self {
            identity,
            credential,
            proofs: Proofs::NONE,
            withheld: Operations::default(),
            claims: Fields::new(),
            user: None,
            confirmation: Confirmation::Nothing,
            awaits: None,
            revoked_client: None,
            until_unix_s: None,
        }
    }

    pub(crate) fn refused(cause: &'static str) -> Self {
        Self::new(Identity::Refused(cause), None)
    }
}
