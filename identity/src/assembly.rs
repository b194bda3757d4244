//! Signature verification by `ring`, whose assembly is several times as fast as code in Rust. Its
//! results are those of [`PureVerifier`], which still verifies Ed25519, because the two differ
//! about points of small order, and ES512, which `ring` does not have.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use tensorgate_policy::policy::{Hash, KeyMaterial, RsaScheme};

use crate::pure::{PureVerifier, check_key, point};
use crate::verifier::{Verifier, VerifyFault};

/// Verifies signatures with `ring`, where that gives the same results.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingVerifier;

impl Verifier for RingVerifier {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        let with = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            let key = UnparsedPublicKey::new(algorithm, key);
            key.verify(signed, signature).is_ok()
        };
        let is_valid = match key {
            KeyMaterial::Rsa { scheme, n, e } => RsaPublicKeyComponents { n, e }
                .verify(parameters(*scheme), signed, signature)
                .is_ok(),
            KeyMaterial::P256 { x, y } => with(&ECDSA_P256_SHA256_FIXED, &point(x, y)),
            KeyMaterial::P384 { x, y } => with(&ECDSA_P384_SHA384_FIXED, &point(x, y)),
            KeyMaterial::P521 { .. } | KeyMaterial::Ed25519(_) => {
                return PureVerifier.verify(key, signed, signature);
            }
        };
        if !is_valid {
            // ring does not tell whether the signature or the key is wrong.
            check_key(key)?;
        }
        Ok(is_valid)
    }
}

const fn parameters(scheme: RsaScheme) -> &'static RsaParameters {
    match scheme {
        RsaScheme::Pkcs1(Hash::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        RsaScheme::Pkcs1(Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        RsaScheme::Pkcs1(Hash::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        RsaScheme::Pss(Hash::Sha256) => &RSA_PSS_2048_8192_SHA256,
        RsaScheme::Pss(Hash::Sha384) => &RSA_PSS_2048_8192_SHA384,
        RsaScheme::Pss(Hash::Sha512) => &RSA_PSS_2048_8192_SHA512,
    }
}
