//! DER encoding of keys and signatures for the proxy's library. Inputs are already validated.

use alloc::vec::Vec;

use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::values::der::{BIT_STRING, INTEGER, SEQUENCE, element};

/// `rsaEncryption` with its NULL (RFC 3279, 2.3.1).
const RSA: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// `id-ecPublicKey` on `prime256v1` (RFC 5480, 2.1).
const P256: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
/// `id-ecPublicKey` on `secp384r1`.
const P384: [u8; 18] = [
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];
/// `id-ecPublicKey` on `secp521r1`.
const P521: [u8; 18] = [
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x23,
];
/// An uncompressed point (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7); `None` for a key type that no proxy supports.
pub fn public_key(key: &KeyMaterial) -> Option<Vec<u8>> {
    let (algorithm, key): (&[u8], Vec<u8>) = match key {
        KeyMaterial::Rsa { n, e, .. } => (&RSA, sequence(&[integer(n), integer(e)])),
        KeyMaterial::P256 { x, y } => (&P256, [&[UNCOMPRESSED], x.as_slice(), y].concat()),
        KeyMaterial::P384 { x, y } => (&P384, [&[UNCOMPRESSED], x.as_slice(), y].concat()),
        KeyMaterial::P521 { x, y } => (&P521, [&[UNCOMPRESSED], x.as_slice(), y].concat()),
        KeyMaterial::Ed25519(_) => return None,
    };
    // No unused bits in the last octet.
    let bits = element(BIT_STRING, &[&[0], key.as_slice()].concat());
    Some(sequence(&[algorithm.to_vec(), bits]))
}

/// `Ecdsa-Sig-Value` (RFC 3279, 2.2.3) of a JWS signature with `octets` each for `r` and `s`;
/// `None` if it is malformed.
pub fn ecdsa_signature(signature: &[u8], octets: usize) -> Option<Vec<u8>> {
    let (r, s) = signature.split_at_checked(octets)?;
    (s.len() == octets).then(|| sequence(&[integer(r), integer(s)]))
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

/// A non-negative integer in its shortest form.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0);
    let digits = start.and_then(|start| bytes.get(start..)).unwrap_or(&[0]);
    let sign: &[u8] = if digits.first().is_some_and(|first| *first >= 0x80) {
        &[0]
    } else {
        &[]
    };
    element(INTEGER, &[sign, digits].concat())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]

    use super::*;
    use alloc::vec;

    #[test]
    fn numbers_are_in_their_shortest_form_and_never_negative() {
        for (bytes, expected) in [
            (vec![], vec![2, 1, 0]),
            (vec![0], vec![2, 1, 0]),
            (vec![0, 0, 1], vec![2, 1, 1]),
            (vec![0x7f], vec![2, 1, 0x7f]),
            (vec![0x80], vec![2, 2, 0, 0x80]),
            (vec![0, 0x80], vec![2, 2, 0, 0x80]),
            (vec![0xff, 0], vec![2, 3, 0, 0xff, 0]),
        ] {
            assert_eq!(integer(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_signature_is_two_numbers_of_its_curves_octets() {
        for length in [0, 31, 32, 63, 65, 96, 128] {
            assert_eq!(ecdsa_signature(&vec![1; length], 32), None, "{length}");
        }
        assert_eq!(ecdsa_signature(&[1; 64], 48), None);
        assert!(ecdsa_signature(&[1; 96], 48).is_some());
        // Two numbers of 66 octets need a length of two octets.
        let long = ecdsa_signature(&[1; 132], 66).unwrap_or_default();
        assert_eq!(long[..5], [0x30, 0x81, 136, 2, 66]);
        let mut signature = vec![0; 64];
        signature[31] = 1;
        signature[32] = 0x80;
        let mut expected = vec![0x30, 38, 2, 1, 1, 2, 33, 0, 0x80];
        expected.resize(40, 0);
        assert_eq!(ecdsa_signature(&signature, 32), Some(expected));
    }
}
