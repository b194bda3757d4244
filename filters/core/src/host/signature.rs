//! Messages of Envoy's foreign function `verify_signature`, which uses BoringSSL and costs a tenth
//! of verification in the VM.
//!
//! The request (`envoy.source.extensions.common.wasm.VerifySignatureArguments`): 1 hash function, 2
//! public key (DER), 3 signature, 4 text. The response: 1 whether it verifies, 2 the error.

use tensorgate_identity::der;
use tensorgate_policy::policy::{Hash, KeyMaterial, RsaScheme};

/// Name of the function.
pub const FUNCTION: &str = "verify_signature";

/// OpenSSL's name of the key's hash; `None` for PSS and Ed25519, which the function does not
/// support.
const fn hash(key: &KeyMaterial) -> Option<&'static [u8]> {
    match key {
        KeyMaterial::Rsa { scheme, .. } => match scheme {
            RsaScheme::Pkcs1(Hash::Sha256) => Some(b"sha256"),
            RsaScheme::Pkcs1(Hash::Sha384) => Some(b"sha384"),
            RsaScheme::Pkcs1(Hash::Sha512) => Some(b"sha512"),
            RsaScheme::Pss(_) => None,
        },
        KeyMaterial::P256 { .. } => Some(b"sha256"),
        KeyMaterial::P384 { .. } => Some(b"sha384"),
        KeyMaterial::P521 { .. } => Some(b"sha512"),
        KeyMaterial::Ed25519(_) => None,
    }
}

/// Tag and wire type (length-delimited) of a field.
const fn tag(field: u8) -> u8 {
    field << 3 | 2
}

/// The request to send; `None` if the proxy does not support such a signature.
pub fn request(key: &KeyMaterial, signed: &[u8], signature: &[u8]) -> Option<SignatureCall> {
    let hash = hash(key)?;
    let public_key = der::public_key(key)?;
    let octets = match key {
        KeyMaterial::P256 { x, .. } => Some(x.len()),
        KeyMaterial::P384 { x, .. } => Some(x.len()),
        KeyMaterial::P521 { x, .. } => Some(x.len()),
        KeyMaterial::Rsa { .. } | KeyMaterial::Ed25519(_) => None,
    };
    let signature = match octets.map(|octets| der::ecdsa_signature(signature, octets)) {
        Some(Some(signature)) => signature,
        Some(None) => return Some(SignatureCall::Malformed),
        None => signature.to_vec(),
    };
    let mut message = Vec::new();
    for (field, value) in [
        (1, hash),
        (2, public_key.as_slice()),
        (3, signature.as_slice()),
        (4, signed),
    ] {
        message.push(tag(field));
        varint(&mut message, value.len());
        message.extend_from_slice(value);
    }
    Some(SignatureCall::Call(message))
}

/// How to verify a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureCall {
    /// Call the proxy with this request.
    Call(Vec<u8>),
    /// The signature is malformed.
    Malformed,
}

/// Whether a response means a valid signature. An empty message, or one with an error, does not.
pub fn is_verified(answer: &[u8]) -> bool {
    // Field 1, a varint, true; proto3 leaves a false one out.
    answer == [1 << 3, 1]
}

fn varint(message: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = value.to_le_bytes().first().copied().unwrap_or(0) & 0x7f;
        value >>= 7;
        if value == 0 {
            message.push(low);
            return;
        }
        message.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_call_has_hash_key_signature_and_text() {
        let key = KeyMaterial::P256 {
            x: [1; 32],
            y: [2; 32],
        };
        let der = der::public_key(&key).unwrap_or_default();
        let signature = der::ecdsa_signature(&[3; 64], 32).unwrap_or_default();
        let signed = vec![b'a'; 300];
        let mut expected = b"\x0a\x06sha256\x12\x5b".to_vec();
        expected.extend_from_slice(&der);
        expected.extend_from_slice(b"\x1a\x46");
        expected.extend_from_slice(&signature);
        expected.extend_from_slice(b"\x22\xac\x02");
        expected.extend_from_slice(&signed);
        let asked = request(&key, &signed, &[3; 64]);
        assert_eq!(asked, Some(SignatureCall::Call(expected)));
    }

    #[test]
    fn unsupported_algorithms_are_not_sent_to_the_proxy() {
        let pss = KeyMaterial::Rsa {
            scheme: RsaScheme::Pss(Hash::Sha256),
            n: vec![1; 256],
            e: vec![1, 0, 1],
        };
        for key in [KeyMaterial::Ed25519([1; 32]), pss] {
            assert_eq!(request(&key, b"a", &[0; 64]), None, "{key:?}");
        }
        let key = KeyMaterial::P256 {
            x: [1; 32],
            y: [2; 32],
        };
        for length in [0, 63, 65, 72] {
            let asked = request(&key, b"a", &vec![0; length]);
            assert_eq!(asked, Some(SignatureCall::Malformed), "{length}");
        }
    }

    #[test]
    fn only_an_explicit_success_counts() {
        for (answer, expected) in [
            (&[8, 1][..], true),
            (&[], false),
            (&[8, 0], false),
            (&[8, 1, 18, 1, b'x'], false),
            (&[18, 1, b'x'], false),
            (&[8, 1, 8, 0], false),
            (&[8], false),
        ] {
            assert_eq!(is_verified(answer), expected, "{answer:?}");
        }
    }
}
