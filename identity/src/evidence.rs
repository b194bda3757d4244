//! What came as proof of who calls, and what it came to. No judgement: [`crate::Identifier`] judges.

use alloc::string::String;
use core::net::IpAddr;

use tensorgate_policy::request::{Credential, Identity, Operations, Proofs};

use crate::claim_headers::Fields;

/// Everything that a proxy knows of a caller.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// What came in the request's own header fields.
    pub credential: Credential<'a>,
    /// The certificate that it has shown and that the proxy has verified.
    pub certificate: Option<Certificate<'a>>,
    /// What stands at each of [`crate::Identifier::metadata_places`], in their order.
    pub metadata: &'a [Option<String>],
    /// The caller's address; `None` if the proxy does not know it.
    pub source: Option<IpAddr>,
}

/// A certificate that the proxy has verified.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    /// `x-forwarded-client-cert` as the proxy itself made it; where [`crate::Identifier::hears_of_certificates`], behind what came to it. Whoever passes on
    /// a client's own otherwise gives identities away.
    pub header: &'a str,
    /// What the proxy says of it elsewhere. The header's names are not quoted: a name with `;` in it would be several there, and is one here.
    pub names: PeerNames,
}

/// The first name of each kind among a certificate's subject alternative names, and which certificate it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// The first URI.
    pub uri: Option<String>,
    /// The first DNS name.
    pub dns: Option<String>,
    /// Its SHA-256, hex digits in lower case. Looked at only where [`crate::Identifier::hears_of_certificates`].
    pub sha256: String,
}

impl<'a> Evidence<'a> {
    /// A credential and nothing else.
    pub const fn of(credential: Credential<'a>) -> Self {
        Self {
            credential,
            certificate: None,
            metadata: &[],
            source: None,
        }
    }
}

/// Who calls, and by which credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Who.
    pub identity: Identity,
    /// The log's name of the credential that was judged: `key:<first 16 hex digits of its sha-256>`, `jwt:<issuer>:<sub>`,
    /// `mtls:<uri or dns name>`, `metadata:<filter>`. `None` where none came that has a name, such as a token that is not an issuer's.
    pub credential: Option<String>,
    /// By what, of all that came; none unless it is a client.
    pub proofs: Proofs,
    /// Operations that the credential does not extend to.
    pub withheld: Operations,
    /// What a token says of its client that goes on as header fields.
    pub claims: Fields,
    /// The issuer whose key set has not the token's key, and may have it after another look.
    pub awaits: Option<String>,
    /// When the credential counts no more, Unix seconds; `None` for one that does not end by itself. A request was let in before; a stream goes on.
    pub until_unix_s: Option<u64>,
}

impl Identified {
    /// Without a proof; whatever credential there was extends to all that its client is granted.
    pub fn new(identity: Identity, credential: Option<String>) -> Self {
        Self {
            identity,
            credential,
            proofs: Proofs::NONE,
            withheld: Operations::default(),
            claims: Fields::new(),
            awaits: None,
            until_unix_s: None,
        }
    }

    pub(crate) fn refused(cause: &'static str) -> Self {
        Self::new(Identity::Refused(cause), None)
    }
}
