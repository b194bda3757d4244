//! Parser for a compact JWS (RFC 7515, 7.1). Its contents are untrusted until the signature is
//! verified.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
// Strict: no padding and no unused bits, so a token has one spelling.
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tensorgate_policy::policy::{Algorithm, KeyMaterial, PublicKey};

use crate::attempts::Attempt;
use crate::json::{Json, Object};
use crate::verifier::{Verifier, VerifyFault};

/// Maximum length of a token. A policy's limit on headers is at most four times this.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Maximum length of the header part: an `x5c` of four certificates of RSA keys with 2048 bits.
const MAX_HEADER_CHARS: usize = 12 << 10;
/// Maximum length of a signature: RSA with 4096 bits.
const MAX_SIGNATURE_CHARS: usize = 683;
/// Maximum length of a key's name, as in policies.
const MAX_KID_BYTES: usize = 256;
/// Header members that contain a key, change the signed data or declare another kind of token (RFC
/// 7515, 4.1; RFC 7797; RFC 7516, 4.1). They are rejected, because a token could vouch for itself.
///
/// Members that only name a key (`jku`, `x5u`, `x5c`, `x5t`, `x5t#S256`) are ignored like unknown
/// ones, because many issuers add them. No key is ever taken from a token or from where it points.
const REFUSED: [&str; 7] = ["crit", "b64", "jwk", "enc", "zip", "epk", "cty"];
/// Types of tokens (RFC 7519, 5.1; RFC 9068, 2.1; SPIFFE JWT-SVID, 2.3), in any case (RFC 2045,
/// 5.1).
const TYPES: [&str; 3] = ["jwt", "at+jwt", "jose"];
/// Maximum number of keys that a token without `kid` is tried against. Issuers publish two or three
/// during a rotation.
pub const MAX_TRIED_KEYS: usize = 4;

/// Parts of a token.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The signed data.
    pub signed: &'a [u8],
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`.
    pub kid: Option<String>,
    /// The claims.
    pub claims: Object,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Parts of any JWS with undecoded payload.
struct Compact<'a> {
    signed: &'a [u8],
    algorithm: Algorithm,
    kid: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Parts<'_> {
    /// The key for counting the token's failures.
    pub fn attempt(&self, token: &str) -> Attempt {
        let claim = |name| self.claims.get(name).and_then(Json::text);
        Attempt::token(token, [claim("iss"), self.kid.as_deref(), claim("sub")])
    }
}

/// Parses a token.
///
/// # Errors
/// The cause, for the log.
pub fn parse(token: &str) -> Result<Parts<'_>, &'static str> {
    let Compact {
        signed,
        algorithm,
        kid,
        payload,
        signature,
    } = compact(token)?;
    Ok(Parts {
        signed,
        algorithm,
        kid,
        claims: Object::parse(&payload).ok_or("token's claims are not one plain JSON object")?,
        signature,
    })
}

fn compact(token: &str) -> Result<Compact<'_>, &'static str> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err("token is too long");
    }
    let form = "token is not three parts of base64url";
    let (signed, signature) = token.rsplit_once('.').ok_or(form)?;
    let (header, claims) = signed.split_once('.').ok_or(form)?;
    if header.len() > MAX_HEADER_CHARS || signature.len() > MAX_SIGNATURE_CHARS {
        return Err("token's header or signature is too long");
    }
    if header.is_empty() || signature.is_empty() {
        return Err(form);
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| form);
    // A fourth part is rejected, because base64url has no dot.
    let (header, payload, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
    let header = Object::parse(&header).ok_or("token's header is not one plain JSON object")?;
    let (algorithm, kid) = self::header(&header)?;
    Ok(Compact {
        signed: signed.as_bytes(),
        algorithm,
        kid,
        payload,
        signature,
    })
}

/// Why no key can be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// No key has this name, or, without a name, this algorithm.
    Unknown,
    /// The key with this name has another algorithm.
    OtherAlgorithm,
}

/// The keys that may have made a signature: the one that it names, or else the first
/// [`MAX_TRIED_KEYS`] different ones of its algorithm; at least one. Where no key has a name, a
/// signature with a name may be by the only key of its algorithm.
pub fn candidates<'k, M>(
    keys: impl Iterator<Item = (M, &'k PublicKey)> + Clone,
    kid: Option<&str>,
    algorithm: Algorithm,
) -> Result<Vec<(M, &'k KeyMaterial)>, NoKey> {
    let is_nameless = kid.is_some() && keys.clone().all(|(_, key)| key.kid().is_none());
    let kid = kid.filter(|_| !is_nameless);
    let mut found: Vec<(M, &'k KeyMaterial)> = Vec::new();
    for (mark, key) in keys {
        let material = key.material();
        let fits = match kid {
            Some(kid) => key.kid() == Some(kid),
            // A key that is published twice is tried once.
            None => {
                material.algorithm() == algorithm
                    && found.iter().all(|(_, known)| *known != material)
            }
        };
        if fits && found.len() < MAX_TRIED_KEYS {
            found.push((mark, material));
        }
    }
    let fault = match (kid, found.as_slice()) {
        (None, [_]) => None,
        (None, [_, _, ..]) if !is_nameless => None,
        // The header's algorithm must equal the key's and never selects one.
        (Some(_), [(_, key)]) if key.algorithm() == algorithm => None,
        (Some(_), [_]) => Some(NoKey::OtherAlgorithm),
        // Names are unique, so several keys of one name are none.
        (_, [_, _, ..] | []) => Some(NoKey::Unknown),
    };
    fault.map_or(Ok(found), Err)
}

/// The payload of a compact JWS with the strictness of tokens, if one of these keys signed it.
/// Issuers, dates and audiences are not checked; [`crate::Identifier`] does that for tokens.
///
/// # Errors
/// The cause, for the log.
pub fn verify_jws<V: Verifier + ?Sized>(
    jws: &str,
    keys: &[PublicKey],
    verifier: &mut V,
) -> Result<Vec<u8>, &'static str> {
    let jws = compact(jws)?;
    let keys = keys.iter().map(|key| ((), key));
    let keys =
        candidates(keys, jws.kid.as_deref(), jws.algorithm).map_err(|fault| match fault {
            NoKey::Unknown => "no key is the one",
            NoKey::OtherAlgorithm => "the key is of another algorithm",
        })?;
    let mut cause = "the signature is wrong";
    for ((), key) in keys {
        match verifier.verify(key, jws.signed, &jws.signature) {
            Ok(true) => return Ok(jws.payload),
            Ok(false) => {}
            Err(VerifyFault(fault)) => cause = fault,
        }
    }
    Err(cause)
}

fn header(header: &Object) -> Result<(Algorithm, Option<String>), &'static str> {
    if REFUSED.iter().any(|name| header.get(name).is_some()) {
        return Err("token's header has a key, an extension or another type of token");
    }
    // Both are texts where they are stated (RFC 7515, 4.1). `null` is a fault, not their absence.
    if let Some(kind) = header.get("typ") {
        let kind = kind.text().ok_or("token's typ is not a text")?;
        let bare = kind
            .get(..APPLICATION.len())
            .filter(|start| start.eq_ignore_ascii_case(APPLICATION))
            .and_then(|_| kind.get(APPLICATION.len()..))
            .unwrap_or(kind);
        if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(bare)) {
            return Err("token is of another type");
        }
    }
    let algorithm = header
        .get("alg")
        .and_then(|alg| Algorithm::from_name(alg.text()?))
        .ok_or("token's algorithm is none that is checked here")?;
    let kid = match header.get("kid") {
        None => None,
        Some(kid) => Some(
            kid.text()
                .filter(|kid| (1..=MAX_KID_BYTES).contains(&kid.len()))
                .ok_or("token's kid is not a key's name")?
                .into(),
        ),
    };
    Ok((algorithm, kid))
}

/// Optional prefix of media types here (RFC 7515, 4.1.9).
const APPLICATION: &str = "application/";
