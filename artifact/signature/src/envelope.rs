//! A Sigstore bundle with a DSSE envelope. The signature covers the pre-authentication encoding of
//! type and payload. The payload is parsed only after verification.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::key::{PrivateKey, PublicKey};
use crate::signature_fault::{MAX_SIGNATURE_BYTES, SignatureFault};

/// Media type of a bundle.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Type of the payload: an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// All members of a bundle that is made with a key. Others are rejected, because they would not be
/// verified.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: KeyHint,
    /// Empty, because there is no transparency log; readers require the list.
    tlog_entries: [(); 0],
}

/// Identifies the key. The value is not trusted: the policy names the keys.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    hint: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: String,
}

/// Signs a payload and returns the bundle.
pub fn seal(payload: &str, key: &PrivateKey) -> String {
    let signature = key.sign(&pae(payload.as_bytes()));
    let bundle = Bundle {
        media_type: BUNDLE_TYPE.to_owned(),
        verification_material: Material {
            public_key: KeyHint {
                hint: key.public().hint(),
            },
            tlog_entries: [],
        },
        dsse_envelope: Envelope {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![Signature {
                sig: STANDARD.encode(signature),
            }],
        },
    };
    // Only texts and lists, so serialization cannot fail.
    serde_json::to_string(&bundle).unwrap_or_default()
}

/// The payload of a bundle, and the key that signed it.
pub fn open<'k>(
    bundle: &[u8],
    keys: impl IntoIterator<Item = (&'k str, PublicKey)>,
) -> Result<(&'k str, Vec<u8>), SignatureFault> {
    let (payload, signature) = parts(bundle)?;
    let signed = pae(&payload);
    let mut tried = Vec::new();
    for (name, key) in keys {
        if key.verifies(&signed, &signature) {
            return Ok((name, payload));
        }
        tried.push(name);
    }
    Err(SignatureFault::Unsigned(tried.join(", ")))
}

/// The payload of a bundle, without verification.
pub fn unverified(bundle: &[u8]) -> Result<Vec<u8>, SignatureFault> {
    Ok(parts(bundle)?.0)
}

/// Payload and signature.
fn parts(bundle: &[u8]) -> Result<(Vec<u8>, [u8; 64]), SignatureFault> {
    let form = |what: &str| SignatureFault::Form(what.to_owned());
    if bundle.len() > MAX_SIGNATURE_BYTES {
        return Err(SignatureFault::TooLarge);
    }
    let bundle: Bundle = serde_json::from_slice(bundle)
        .map_err(|error| SignatureFault::unread("no bundle made with a key", &error))?;
    let Bundle {
        media_type,
        verification_material:
            Material {
                public_key: KeyHint { hint: _ },
                tlog_entries: [],
            },
        dsse_envelope:
            Envelope {
                payload,
                payload_type,
                signatures,
            },
    } = bundle;
    if media_type != BUNDLE_TYPE {
        return Err(form("another media type than Sigstore's bundle v0.3"));
    }
    if payload_type != PAYLOAD_TYPE {
        return Err(form("another payload than an in-toto statement"));
    }
    let [Signature { sig }] = signatures.as_slice() else {
        return Err(form("not exactly one signature"));
    };
    let signature = STANDARD.decode(sig).ok();
    let signature = signature.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
    let signature = signature.ok_or_else(|| form("not a signature of Ed25519"))?;
    let payload = STANDARD
        .decode(payload)
        .map_err(|_| form("a payload that is not base64"))?;
    Ok((payload, signature))
}

/// DSSE's pre-authentication encoding.
pub fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}
