//! What a log has taken in: that it is about this very payload, signature and certificate.
//!
//! Without this check, an entry about anything else would lend a signature its time
//! (CVE-2026-22703).

use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use tensorgate_values::hex;

use super::fault::IdentityFault;
use crate::model_signing::certificate::{Certificate, Hash};
use crate::model_signing::json::{at_most, base64, check_members, parse};
use crate::model_signing::log_entry::KindVersion;
use tensorgate_signature::envelope::pae;

/// Of several signatures so many are read, to tell them from one.
const MAX_SIGNATURES: usize = 2;

/// An entry: the first two members decide how the rest is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body<S> {
    api_version: String,
    kind: String,
    spec: S,
}

/// A signed envelope in Rekor v1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    /// Of the envelope in the form in which the log got it, which is not known here. Payload and
    /// signature are compared instead.
    envelope_hash: HashText,
    payload_hash: HashText,
    #[serde(deserialize_with = "at_most::<MAX_SIGNATURES, _, _>")]
    signatures: Vec<SignatureText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HashText {
    algorithm: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureText {
    /// Base64.
    signature: String,
    /// The certificate in PEM, base64.
    verifier: String,
}

/// A signed envelope in Rekor v2.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope2 {
    #[serde(rename = "dsseV002")]
    envelope: EnvelopeText2,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvelopeText2 {
    payload_hash: Digest2,
    #[serde(deserialize_with = "at_most::<MAX_SIGNATURES, _, _>")]
    signatures: Vec<Signature2>,
}

/// A digest and a signature over it in Rekor v2: of an envelope, the digest of what is signed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record2 {
    #[serde(rename = "hashedRekordV002")]
    record: RecordText2,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordText2 {
    data: Digest2,
    signature: Signature2,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Digest2 {
    algorithm: String,
    /// Base64.
    digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature2 {
    /// Base64.
    content: String,
    verifier: Verifier2,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Verifier2 {
    /// The kind of key. The certificate says it, too.
    #[serde(default, rename = "keyDetails")]
    _key_details: Option<IgnoredAny>,
    x509_certificate: CertificateText,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CertificateText {
    /// DER, base64.
    raw_bytes: String,
}

/// What an entry must be about.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) certificate: &'a Certificate,
    pub(super) payload: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// Checks that an entry of this kind is about a payload, its signature and the certificate of its
/// signer.
pub(super) fn check(
    body: &[u8],
    expected: &KindVersion,
    signed: Signed<'_>,
) -> Result<(), IdentityFault> {
    check_members(body)?;
    let Body::<IgnoredAny> {
        api_version, kind, ..
    } = parse(body)?;
    if (&kind, &api_version) != (&expected.kind, &expected.version) {
        return Err(IdentityFault::OtherEntry("kind of signature"));
    }
    match (kind.as_str(), api_version.as_str()) {
        ("dsse", "0.0.1") => {
            let body: Body<Envelope> = parse(body)?;
            signed.check_envelope(&body.spec)
        }
        ("dsse", "0.0.2") => {
            let body: Body<Envelope2> = parse(body)?;
            let EnvelopeText2 {
                payload_hash,
                signatures,
            } = body.spec.envelope;
            let [signature] = signatures.as_slice() else {
                return Err(IdentityFault::OtherEntry("number of signatures"));
            };
            signed.check_record(&payload_hash, signed.payload, signature)
        }
        ("hashedrekord", "0.0.2") => {
            let body: Body<Record2> = parse(body)?;
            let RecordText2 { data, signature } = body.spec.record;
            signed.check_record(&data, &pae(signed.payload), &signature)
        }
        _ => Err(IdentityFault::OtherEntry("kind of signature")),
    }
}

impl Signed<'_> {
    fn check_envelope(&self, spec: &Envelope) -> Result<(), IdentityFault> {
        if spec.envelope_hash.algorithm != "sha256" {
            return Err(IdentityFault::OtherEntry("kind of envelope"));
        }
        if spec.payload_hash.algorithm != "sha256"
            || spec.payload_hash.value != hex(&Sha256::digest(self.payload))
        {
            return Err(IdentityFault::OtherEntry("payload"));
        }
        let [logged] = spec.signatures.as_slice() else {
            return Err(IdentityFault::OtherEntry("number of signatures"));
        };
        if base64(&logged.signature).as_deref() != Some(self.signature) {
            return Err(IdentityFault::OtherEntry("signature"));
        }
        let verifier = base64(&logged.verifier).and_then(|pem| String::from_utf8(pem).ok());
        let verifiers = verifier.and_then(|pem| Certificate::from_pem(&pem).ok());
        match verifiers.as_deref() {
            Some([verifier]) if verifier == self.certificate => Ok(()),
            _ => Err(IdentityFault::OtherEntry("certificate")),
        }
    }

    /// Checks an entry of Rekor v2, which has the digest of `hashed`.
    fn check_record(
        &self,
        digest: &Digest2,
        hashed: &[u8],
        logged: &Signature2,
    ) -> Result<(), IdentityFault> {
        let hash = match digest.algorithm.as_str() {
            "SHA2_256" => Hash::Sha256,
            "SHA2_384" => Hash::Sha384,
            "SHA2_512" => Hash::Sha512,
            _ => return Err(IdentityFault::OtherEntry("kind of digest")),
        };
        if base64(&digest.digest) != Some(hash.of(hashed)) {
            return Err(IdentityFault::OtherEntry("payload"));
        }
        if base64(&logged.content).as_deref() != Some(self.signature) {
            return Err(IdentityFault::OtherEntry("signature"));
        }
        let verifier = base64(&logged.verifier.x509_certificate.raw_bytes);
        if verifier.as_deref() != Some(self.certificate.der.as_slice()) {
            return Err(IdentityFault::OtherEntry("certificate"));
        }
        Ok(())
    }
}
