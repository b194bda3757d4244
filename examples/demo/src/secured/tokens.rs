//! Tokens of an issuer, and forged ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use jwt_simple::algorithms::{
    ECDSAP256KeyPairLike as _, ECDSAP256PublicKeyLike as _, ES256KeyPair, Ed25519KeyPair,
    EdDSAKeyPairLike as _, EdDSAPublicKeyLike as _,
};
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};
use sha2::Sha256;

/// The signing key.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// The issuer's key for ES256; `kid` is `ec`.
    Es256,
    /// The issuer's key for EdDSA; `kid` is `ed`.
    EdDsa,
    /// An ES256 key that no issuer has.
    Mallory,
    /// HMAC-SHA256 with the issuer's public key as the secret.
    HmacOfPublic,
    /// No key: the signature is empty.
    None,
}

/// The issuer's keys, and an attacker's.
pub struct Tokens {
    es256: ES256KeyPair,
    eddsa: Ed25519KeyPair,
    mallory: ES256KeyPair,
}

impl Tokens {
    /// Generates the keys.
    pub fn make() -> Self {
        Self {
            es256: ES256KeyPair::generate(),
            eddsa: Ed25519KeyPair::generate(),
            mallory: ES256KeyPair::generate(),
        }
    }

    /// The issuer's public keys.
    pub fn jwks(&self) -> Value {
        let x = self.eddsa.public_key().public_key().to_bytes();
        json!({"keys": [
            public(&self.es256, "ec"),
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "use": "sig", "x": URL_SAFE_NO_PAD.encode(x)},
        ]})
    }

    /// The public half of the attacker's key, to embed in a token.
    pub fn mallorys(&self) -> Value {
        public(&self.mallory, "mine")
    }

    /// A compact token (RFC 7515, 7.1).
    pub fn token(&self, header: &Value, claims: &Value, key: Key) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.sign(signed.as_bytes(), key);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn sign(&self, signed: &[u8], key: Key) -> Vec<u8> {
        let es256 = |pair: &ES256KeyPair| {
            let signature: p256::ecdsa::Signature = pair.key_pair().as_ref().sign(signed);
            signature.to_bytes().to_vec()
        };
        match key {
            Key::Es256 => es256(&self.es256),
            Key::Mallory => es256(&self.mallory),
            Key::EdDsa => self
                .eddsa
                .key_pair()
                .as_ref()
                .sk
                .sign(signed, None)
                .to_vec(),
            Key::HmacOfPublic => {
                let public = self.es256.public_key().public_key().to_bytes_uncompressed();
                // HMAC takes keys of any length (RFC 2104).
                Hmac::<Sha256>::new_from_slice(&public)
                    .map(|mac| mac.chain_update(signed).finalize().into_bytes().to_vec())
                    .unwrap_or_default()
            }
            Key::None => Vec::new(),
        }
    }
}

/// A public key as a JWK (RFC 7518, 6.2.1). The coordinates follow the byte that marks an
/// uncompressed point.
fn public(pair: &ES256KeyPair, kid: &str) -> Value {
    let point = pair.public_key().public_key().to_bytes_uncompressed();
    let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
}
