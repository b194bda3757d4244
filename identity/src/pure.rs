//! Signature verification in Rust, with `jwt-simple`'s keys, which reject weak ones, and its
//! primitives.
//!
//! `jwt-simple` has its own token parser, which is not used: [`crate::jws`] is the only, strict
//! parser. Of RustCrypto's `rsa` only the public operation is used. RUSTSEC-2023-0071 concerns the
//! timing of private-key operations, and there are no private keys here.

use alloc::vec::Vec;

use jwt_simple::algorithms::{
    ECDSAP256PublicKeyLike as _, ECDSAP384PublicKeyLike as _, ES256PublicKey, ES384PublicKey,
    Ed25519PublicKey, EdDSAPublicKeyLike as _, RS256PublicKey, RSAPublicKeyLike as _,
};
use p256::ecdsa::signature::Verifier as _;
use superboring::hash::MessageDigest;
use superboring::pkey::PKey;
use superboring::rsa::Padding;
use superboring::sign;
use tensorgate_policy::policy::{Hash, KeyMaterial, RsaScheme};

use crate::attempts::Attempts;
use crate::key_sets::KeySource;
use crate::verifier::{Verifier, VerifyFault};

/// Fault of an invalid key: a point off its curve, or an Ed25519 key of small order.
const NO_KEY: VerifyFault = VerifyFault("the issuer's key is not one");

/// Verifies signatures without the proxy.
#[derive(Clone, Copy, Debug, Default)]
pub struct PureVerifier;

/// Without a proxy no failures are counted.
impl Attempts for PureVerifier {}

/// It fetches nothing.
impl KeySource for PureVerifier {}

impl Verifier for PureVerifier {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        match key {
            KeyMaterial::Rsa { scheme, n, e } => rsa(*scheme, n, e, signed, signature),
            KeyMaterial::P256 { x, y } => es256(x, y, signed, signature),
            KeyMaterial::P384 { x, y } => es384(x, y, signed, signature),
            KeyMaterial::P521 { x, y } => es512(x, y, signed, signature),
            KeyMaterial::Ed25519(key) => ed25519(key, signed, signature),
        }
    }
}

/// Checks a key: RSA is not weak, a point is on its curve, an Ed25519 key is not of small order.
///
/// # Errors
/// It is not valid.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn check_key(key: &KeyMaterial) -> Result<(), VerifyFault> {
    match key {
        KeyMaterial::Rsa { n, e, .. } => rsa_key(n, e).map(drop),
        KeyMaterial::P256 { x, y } => es256_key(x, y).map(drop),
        KeyMaterial::P384 { x, y } => es384_key(x, y).map(drop),
        KeyMaterial::P521 { x, y } => es512_key(x, y).map(drop),
        KeyMaterial::Ed25519(key) => ed25519_key(key).map(drop),
    }
}

/// The RS256 type differs from others in its name only; it rejects weak keys.
fn rsa_key(n: &[u8], e: &[u8]) -> Result<RS256PublicKey, VerifyFault> {
    RS256PublicKey::from_components(n, e).map_err(|_| NO_KEY)
}

fn es256_key(x: &[u8; 32], y: &[u8; 32]) -> Result<ES256PublicKey, VerifyFault> {
    ES256PublicKey::from_bytes(&point(x, y)).map_err(|_| NO_KEY)
}

fn es384_key(x: &[u8; 48], y: &[u8; 48]) -> Result<ES384PublicKey, VerifyFault> {
    ES384PublicKey::from_bytes(&point(x, y)).map_err(|_| NO_KEY)
}

/// `jwt-simple` has no ES512; this is the crate beside those of its other curves.
#[cfg(not(target_family = "wasm"))]
fn es512_key(x: &[u8; 66], y: &[u8; 66]) -> Result<p521::ecdsa::VerifyingKey, VerifyFault> {
    p521::ecdsa::VerifyingKey::from_sec1_bytes(&point(x, y)).map_err(|_| NO_KEY)
}

fn ed25519_key(key: &[u8; 32]) -> Result<Ed25519PublicKey, VerifyFault> {
    Ed25519PublicKey::from_bytes(key).map_err(|_| NO_KEY)
}

/// An uncompressed point (SEC 1, 2.3.3).
pub(crate) fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    const UNCOMPRESSED: u8 = 4;
    [&[UNCOMPRESSED], x, y].concat()
}

fn rsa(
    scheme: RsaScheme,
    n: &[u8],
    e: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, VerifyFault> {
    let (padding, hash) = match scheme {
        RsaScheme::Pkcs1(hash) => (Padding::PKCS1, hash),
        // The default salt length is the hash length, as RFC 7518 requires.
        RsaScheme::Pss(hash) => (Padding::PKCS1_PSS, hash),
    };
    let hash = match hash {
        Hash::Sha256 => MessageDigest::sha256(),
        Hash::Sha384 => MessageDigest::sha384(),
        Hash::Sha512 => MessageDigest::sha512(),
    };
    let key = rsa_key(n, e)?;
    let fault = |_| VerifyFault("rsa failed");
    let key = PKey::from_rsa(key.public_key().as_ref().clone()).map_err(fault)?;
    let mut check = sign::Verifier::new(hash, &key).map_err(fault)?;
    check.set_rsa_padding(padding).map_err(fault)?;
    check.update(signed).map_err(fault)?;
    // A signature with another length than the modulus is an error there and invalid here.
    Ok(check.verify(signature).unwrap_or(false))
}

fn es256(x: &[u8; 32], y: &[u8; 32], signed: &[u8], signature: &[u8]) -> Result<bool, VerifyFault> {
    let key = es256_key(x, y)?;
    Ok(p256::ecdsa::Signature::from_slice(signature)
        .is_ok_and(|signature| key.public_key().as_ref().verify(signed, &signature).is_ok()))
}

fn es384(x: &[u8; 48], y: &[u8; 48], signed: &[u8], signature: &[u8]) -> Result<bool, VerifyFault> {
    let key = es384_key(x, y)?;
    Ok(p384::ecdsa::Signature::from_slice(signature)
        .is_ok_and(|signature| key.public_key().as_ref().verify(signed, &signature).is_ok()))
}

#[cfg(not(target_family = "wasm"))]
fn es512(x: &[u8; 66], y: &[u8; 66], signed: &[u8], signature: &[u8]) -> Result<bool, VerifyFault> {
    let key = es512_key(x, y)?;
    Ok(p521::ecdsa::Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify(signed, &signature).is_ok()))
}

/// In a filter for WebAssembly the proxy checks ES512, as every Envoy can. The code for the curve
/// would be a large part of the filter.
#[cfg(target_family = "wasm")]
const fn es512(_: &[u8; 66], _: &[u8; 66], _: &[u8], _: &[u8]) -> Result<bool, VerifyFault> {
    Err(VerifyFault("this proxy has no function for ES512"))
}

fn ed25519(key: &[u8; 32], signed: &[u8], signature: &[u8]) -> Result<bool, VerifyFault> {
    let key = ed25519_key(key)?;
    Ok(ed25519_compact::Signature::from_slice(signature)
        .is_ok_and(|signature| key.public_key().as_ref().verify(signed, &signature).is_ok()))
}
