//! Why a signature by an identity is rejected.

use crate::model_signing::chain::ChainFault;
use crate::model_signing::json::JsonFault;

/// Why a time stamp counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeStampFault {
    /// Not base64, or not a response that is supported.
    #[error("is not a response of RFC 3161 with one signer, SHA-2 and `signingCertificateV2`")]
    Form,
    /// The signed digest is not that of the content.
    #[error("has another content than its authority has signed")]
    Content,
    /// About something else.
    #[error("is about another signature")]
    OtherSignature,
    /// No such authority.
    #[error("is of no time stamp authority that the trusted root names and trusts at that time")]
    UnknownAuthority,
    /// The authority's certificate was not valid, or is for something else.
    #[error("is of an authority that may not stamp it: {0}")]
    Chain(#[from] ChainFault),
    /// The signature is not one of the authority.
    #[error("is not signed by the authority that it names")]
    Signature,
}

/// Why a signature by a Sigstore identity is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// An entry of another kind.
    #[error(
        "the log entry is a {0:?}; verified are \"dsse 0.0.1\", and of Rekor v2 \"dsse 0.0.2\" and \
         \"hashedrekord 0.0.2\""
    )]
    Kind(String),
    /// No time that others than the signer have signed.
    #[error(
        "the log entry has no signed time, as all of Rekor v2, and the bundle has no time stamp"
    )]
    NoTime,
    /// A member that would not be verified.
    #[error("the log entry of Rekor v2 has {0}, which such an entry does not have")]
    Unverified(&'static str),
    /// No time stamp counts, and the entry has no time.
    #[error("the time stamp {0}")]
    TimeStamp(#[from] TimeStampFault),
    /// A part of the entry is missing or cannot be read.
    #[error("the log entry's {0} is missing or not as the format requires")]
    Field(&'static str),
    /// No such log.
    #[error(
        "the trusted root has no log with the ID {0} and a key on P-256, P-384 or P-521 or of \
         Ed25519"
    )]
    UnknownLog(String),
    /// Outside of the time in which a log is trusted.
    #[error("the trusted root does not trust the log {id} at {time}")]
    LogTime {
        /// SHA-256 of its key.
        id: String,
        /// The time of the entry.
        time: String,
    },
    /// The signature over the entry's time does not match.
    #[error("the log's promise is not signed by the log {0}, or is about another entry or time")]
    Promise(String),
    /// The hashes do not lead to the root.
    #[error("the inclusion proof does not lead from the entry to the root of the log's tree")]
    Inclusion,
    /// The checkpoint is about another tree.
    #[error("the log's checkpoint is about another tree than the inclusion proof")]
    OtherTree,
    /// The checkpoint is one of another log.
    #[error("the log's checkpoint is about {found:?}, and the log is {log:?}")]
    Origin {
        /// The name in the checkpoint.
        found: String,
        /// The log's name: its URL without the scheme.
        log: String,
    },
    /// The checkpoint is not signed by the log.
    #[error("the log's checkpoint is not signed by the log {0}")]
    Checkpoint(String),
    /// No authority is trusted at this time.
    #[error("the trusted root has no certificate authority that is trusted at {0}")]
    NoAuthority(String),
    /// The certificate is not one of an authority, or was not valid when it signed.
    #[error("at the time of the signature, {0}")]
    Chain(#[from] ChainFault),
    /// No list of signed certificate timestamps, or one that cannot be read.
    #[error(
        "the signing certificate has no list of signed certificate timestamps, or one that is not \
         as RFC 6962 says"
    )]
    CertificateTimestamps,
    /// No log of certificates that is trusted had it.
    #[error(
        "none of the signing certificate's timestamps is from a certificate log that the trusted \
         root trusts at that time"
    )]
    NoCertificateLog,
    /// A timestamp that its log has not signed.
    #[error("a timestamp of the signing certificate is not signed by the certificate log {0}")]
    CertificateTimestamp(String),
    /// A certificate that may sign others.
    #[error("the signing certificate is one of an authority, which signs certificates only")]
    Authority,
    /// Not exactly one name.
    #[error("the signing certificate does not have exactly one name, a mail address or a URI")]
    Name,
    /// Another identity.
    #[error("the model is signed by {found:?}, and {trusted:?} is trusted")]
    Identity {
        /// Who has signed.
        found: String,
        /// Who is trusted.
        trusted: String,
    },
    /// No provider.
    #[error("the signing certificate does not name the provider of the identity")]
    NoProvider,
    /// Another provider.
    #[error("{found:?} vouches for the signer's identity, and {trusted:?} is trusted")]
    Provider {
        /// Who vouches for it.
        found: String,
        /// Who is trusted.
        trusted: String,
    },
    /// What the log has is not the expected JSON.
    #[error("the log entry is not as its kind requires: {0}")]
    Body(#[from] JsonFault),
    /// About another signature.
    #[error("the log entry is about another {0}")]
    OtherEntry(&'static str),
}
