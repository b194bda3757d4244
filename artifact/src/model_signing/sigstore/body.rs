//! What a log has taken in: that it is about this very payload, signature and certificate.
//!
//! Without this check, an entry about anything else would lend a signature its time
//! (CVE-2026-22703).

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;

use super::fault::IdentityFault;
use crate::model_signing::certificate::Certificate;
use crate::model_signing::json::{at_most, base64, check_members, parse};

/// Of several signatures so many are read, to tell them from one.
const MAX_SIGNATURES: usize = 2;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
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

/// Checks that an entry is about a payload, its signature and the certificate of its signer.
pub(super) fn check(
    body: &[u8],
    certificate: &Certificate,
    payload: &[u8],
    signature: &[u8],
) -> Result<(), IdentityFault> {
    check_members(body)?;
    let Body {
        api_version,
        kind,
        spec,
    } = parse(body)?;
    if (kind.as_str(), api_version.as_str()) != ("dsse", "0.0.1") {
        return Err(IdentityFault::OtherEntry("kind of signature"));
    }
    if spec.envelope_hash.algorithm != "sha256" {
        return Err(IdentityFault::OtherEntry("kind of envelope"));
    }
    if spec.payload_hash.algorithm != "sha256"
        || spec.payload_hash.value != hex(&Sha256::digest(payload))
    {
        return Err(IdentityFault::OtherEntry("payload"));
    }
    let [logged] = spec.signatures.as_slice() else {
        return Err(IdentityFault::OtherEntry("number of signatures"));
    };
    if base64(&logged.signature).as_deref() != Some(signature) {
        return Err(IdentityFault::OtherEntry("signature"));
    }
    let verifier = base64(&logged.verifier).and_then(|pem| String::from_utf8(pem).ok());
    let verifiers = verifier.and_then(|pem| Certificate::from_pem(&pem).ok());
    match verifiers.as_deref() {
        Some([verifier]) if verifier == certificate => Ok(()),
        _ => Err(IdentityFault::OtherEntry("certificate")),
    }
}
