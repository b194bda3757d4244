//! A bundle with a DSSE envelope in it. What is signed is the pre-authentication encoding of type and payload; the payload is parsed once a
//! key has verified it, never before.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::component::SignatureFault;
use crate::key::{PrivateKey, PublicKey};

/// Largest signature file, bytes. One of ours is about 800.
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;

const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Every member that a bundle made with a key has. Others are refused: what nobody here has checked is not to be taken for checked.
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
    /// None: there is no log. Readers of the format want the list to be there.
    tlog_entries: [(); 0],
}

/// Says which key it was. Nothing is decided by it: the policy names the keys.
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

/// A bundle around a payload, signed.
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
    // Texts and lists of texts: there is nothing in it that JSON could not say.
    serde_json::to_string(&bundle).unwrap_or_default()
}

/// The payload of a bundle, and by which of the keys it is signed.
pub fn open<'k>(
    bundle: &[u8],
    keys: impl IntoIterator<Item = (&'k str, PublicKey)>,
) -> Result<(&'k str, Vec<u8>), SignatureFault> {
    let (payload, signature) = parts(bundle)?;
    let signed = pae(&payload);
    let mut asked = Vec::new();
    for (name, key) in keys {
        if key.verifies(&signed, &signature) {
            return Ok((name, payload));
        }
        asked.push(name);
    }
    Err(SignatureFault::Unsigned(asked.join(", ")))
}

/// The payload of a bundle, which nobody has verified.
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
fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}
