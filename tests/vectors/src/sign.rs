//! Tokens for tests, signed with the private keys that RFC 7515 (A.2 to A.4), RFC 8037 (A.1) and
//! RFC 6979 (A.2.6) publish. The keys are public and protect only tests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::algorithms::{
    ECDSAP256KeyPairLike as _, ECDSAP384KeyPairLike as _, ES256KeyPair, ES384KeyPair,
    Ed25519KeyPair, EdDSAKeyPairLike as _, RS256KeyPair, RSAKeyPairLike as _,
};
use p256::ecdsa::signature::Signer as _;
use serde::Deserialize;
use serde_json::{Value, json};
use superboring::hash::MessageDigest;
use superboring::pkey::PKey;
use superboring::rsa::Padding;

/// RFC 7515, A.2.1.
const RSA: &str = r#"{"kty": "RSA",
  "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
  "e": "AQAB",
  "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
  "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
  "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
  "dp": "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
  "dq": "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
  "qi": "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"}"#;
/// RFC 7515, A.3.1.
const EC: &str = r#"{"kty": "EC", "crv": "P-256",
  "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
  "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;
/// RFC 6979, A.2.6.
const EC384: &str = r#"{"kty": "EC", "crv": "P-384",
  "x": "7DpOQVtOGaRWhhgCn0J_pdqai8SukuAuBqrlKGswDGTe-PDqkFWGYGSiVFFUgLwT",
  "y": "gBXZty19VyROqO-awMYhiWcIpZNn-d-59UyoSz8cnbEoiyMcOuDU_nNE_SUzJkcg",
  "d": "a509rS4bjBwFsZh1tmWfTeI8O2Z78pe6mqR3QHhxN9iW1XJOTHCoJfhyyepg0u31"}"#;
/// The private number of the key of RFC 7515, A.4.1.
const EC512_D: &str =
    "AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C";
/// RFC 7515, A.4.1.
const EC512: &str = r#"{"kty": "EC", "crv": "P-521",
  "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
  "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
/// RFC 8037, A.1.
const OKP: &str = r#"{"kty": "OKP", "crv": "Ed25519",
  "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}"#;
/// The public members of a key.
const PUBLIC: [&str; 6] = ["kty", "crv", "n", "e", "x", "y"];

/// The key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// RS256; `kid` is `rsa`.
    Rsa,
    /// RS384, by the same key under another name; `kid` is `rs384`.
    Rs384,
    /// RS512; `kid` is `rs512`.
    Rs512,
    /// PS256; `kid` is `ps256`.
    Ps256,
    /// PS384; `kid` is `ps384`.
    Ps384,
    /// PS512; `kid` is `ps512`.
    Ps512,
    /// PS256 without the required salt; for the key `ps256`.
    Ps256WithoutSalt,
    /// ES384; `kid` is `es384`.
    Ec384,
    /// ES512; `kid` is `es512`.
    Ec512,
    /// ES256; `kid` is `ec`.
    Ec,
    /// `EdDSA`; `kid` is `ed`.
    Ed,
    /// No key: the signature is empty.
    None,
    /// HMAC-SHA256 under the RSA key's public DER form, which a careless verifier would accept.
    HmacOfPublicKey,
}

/// Why nothing was signed: a key of this file is invalid.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a published key does not sign")]
pub struct SignFault;

/// The public halves, as an issuer publishes them.
pub fn jwks() -> Value {
    json!({"keys": [public(RSA, "rsa", "RS256"), public(EC, "ec", "ES256"), public(OKP, "ed", "EdDSA")]})
}

/// The same for the less usual algorithms, with one name each, because a key is for one algorithm.
pub fn more_jwks() -> Value {
    let rsa = ["RS384", "RS512", "PS256", "PS384", "PS512"]
        .map(|alg| public(RSA, &alg.to_lowercase(), alg));
    let keys: Vec<Value> = rsa
        .into_iter()
        .chain([
            public(EC384, "es384", "ES384"),
            public(EC512, "es512", "ES512"),
        ])
        .collect();
    json!({"keys": keys})
}

fn public(private: &str, kid: &str, alg: &str) -> Value {
    let key: Value = serde_json::from_str(private).unwrap_or_default();
    let mut public = json!({"kid": kid, "alg": alg, "use": "sig"});
    for name in PUBLIC {
        if let (Some(value), Some(members)) = (key.get(name), public.as_object_mut()) {
            members.insert(name.into(), value.clone());
        }
    }
    public
}

/// A compact token over two texts, which may be anything.
///
/// # Errors
///
/// A key of this file is invalid.
pub fn token(header: &str, claims: &str, signer: Signer) -> Result<String, SignFault> {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = sign(signed.as_bytes(), signer)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn rsa(
    signed: &[u8],
    hash: MessageDigest,
    padding: Padding,
    salt_bytes: Option<i32>,
) -> Result<Vec<u8>, SignFault> {
    let pair = RS256KeyPair::from_jwk(RSA).map_err(|_| SignFault)?;
    let key = PKey::from_rsa(pair.key_pair().as_ref().clone()).map_err(|_| SignFault)?;
    let mut signer = superboring::sign::Signer::new(hash, &key).map_err(|_| SignFault)?;
    signer.set_rsa_padding(padding).map_err(|_| SignFault)?;
    if let Some(bytes) = salt_bytes {
        signer
            .set_rsa_pss_saltlen(superboring::sign::RsaPssSaltlen::custom(bytes))
            .map_err(|_| SignFault)?;
    }
    signer.update(signed).map_err(|_| SignFault)?;
    signer.sign_to_vec().map_err(|_| SignFault)
}

/// A signature in the form of JWS. It is deterministic, except for PSS, whose salt is random.
///
/// # Errors
///
/// A key of this file is invalid.
pub fn sign(signed: &[u8], signer: Signer) -> Result<Vec<u8>, SignFault> {
    Ok(match signer {
        Signer::Rsa => rsa(signed, MessageDigest::sha256(), Padding::PKCS1, None)?,
        Signer::Rs384 => rsa(signed, MessageDigest::sha384(), Padding::PKCS1, None)?,
        Signer::Rs512 => rsa(signed, MessageDigest::sha512(), Padding::PKCS1, None)?,
        Signer::Ps256 => rsa(signed, MessageDigest::sha256(), Padding::PKCS1_PSS, None)?,
        Signer::Ps384 => rsa(signed, MessageDigest::sha384(), Padding::PKCS1_PSS, None)?,
        Signer::Ps512 => rsa(signed, MessageDigest::sha512(), Padding::PKCS1_PSS, None)?,
        Signer::Ps256WithoutSalt => {
            rsa(signed, MessageDigest::sha256(), Padding::PKCS1_PSS, Some(0))?
        }
        Signer::Ec384 => {
            let pair = ES384KeyPair::from_jwk(EC384).map_err(|_| SignFault)?;
            let signature: p384::ecdsa::Signature = pair.key_pair().as_ref().sign(signed);
            signature.to_bytes().to_vec()
        }
        Signer::Ec512 => {
            let number = URL_SAFE_NO_PAD.decode(EC512_D).map_err(|_| SignFault)?;
            let key = p521::ecdsa::SigningKey::from_slice(&number).map_err(|_| SignFault)?;
            let signature: p521::ecdsa::Signature = key.sign(signed);
            signature.to_bytes().to_vec()
        }
        Signer::Ec => {
            let pair = ES256KeyPair::from_jwk(EC).map_err(|_| SignFault)?;
            let signature: p256::ecdsa::Signature = pair.key_pair().as_ref().sign(signed);
            signature.to_bytes().to_vec()
        }
        Signer::Ed => {
            let pair = Ed25519KeyPair::from_jwk(OKP).map_err(|_| SignFault)?;
            pair.key_pair().as_ref().sk.sign(signed, None).to_vec()
        }
        Signer::None => Vec::new(),
        Signer::HmacOfPublicKey => {
            let pair = RS256KeyPair::from_jwk(RSA).map_err(|_| SignFault)?;
            let der = pair.public_key().to_der().map_err(|_| SignFault)?;
            let mut mac = superboring::hmac::Hmac::init(&der, &MessageDigest::sha256())
                .map_err(|_| SignFault)?;
            mac.update(signed).map_err(|_| SignFault)?;
            mac.finalize().map_err(|_| SignFault)?
        }
    })
}
