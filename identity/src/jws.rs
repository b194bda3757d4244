//! A compact JWS (RFC 7515, 7.1) taken apart. It says what a token claims to be; nothing in it is believed before its signature is checked.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
// Strict: no padding, no bits behind the last octet, so that a token has one spelling.
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tensorgate_policy::policy::{Algorithm, KeyMaterial, PublicKey};

use crate::attempts::Attempt;
use crate::json::{Json, Object};
use crate::verifier::{Verifier, VerifyFault};

/// A whole token, characters. A policy's bound on header fields is at most four times this.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;
/// The first part, characters: an algorithm, a type, a key's name.
const MAX_HEADER_CHARS: usize = 2048;
/// A signature, characters: RSA's, of 4096 bits.
const MAX_SIGNATURE_CHARS: usize = 683;
/// A key's name, bytes; a policy's are held to the same.
const MAX_KID_BYTES: usize = 256;
/// Members that bring or point to a key, change what is signed, or say that the token is of another kind
/// (RFC 7515, 4.1; RFC 7797; RFC 7516, 4.1). Whoever honoured one would let the token vouch for itself.
const REFUSED: [&str; 10] = [
    "crit", "b64", "jku", "jwk", "x5u", "x5c", "enc", "zip", "epk", "cty",
];

/// A token's parts.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What is signed.
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

/// Any JWS's parts, the octets that it carries unread.
struct Compact<'a> {
    signed: &'a [u8],
    algorithm: Algorithm,
    kid: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Parts<'_> {
    /// What the token's failures are counted under.
    pub fn attempt(&self, token: &str) -> Attempt {
        let claim = |name| self.claims.get(name).and_then(Json::text);
        Attempt::token(token, [claim("iss"), self.kid.as_deref(), claim("sub")])
    }
}

/// Takes a token apart.
///
/// # Errors
/// The log's cause.
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
    // A fourth part would stand in the claims, whose alphabet has no dot.
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

/// Why no key of several is the one to check a signature with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// None is of that name, or without a name of that algorithm.
    Unknown,
    /// The one of that name is of another algorithm.
    OtherAlgorithm,
    /// No name, and several are of that algorithm.
    Several,
}

/// The key that a signature names; without a name, the only one of its algorithm.
pub fn choose<'k, M>(
    keys: impl Iterator<Item = (M, &'k PublicKey)>,
    kid: Option<&str>,
    algorithm: Algorithm,
) -> Result<(M, &'k KeyMaterial), NoKey> {
    let mut fitting = keys.filter(|(_, key)| match kid {
        Some(kid) => key.kid() == Some(kid),
        None => key.material().algorithm() == algorithm,
    });
    match (fitting.next(), fitting.next()) {
        // The header's algorithm chooses nothing: it must be that of the key.
        (Some((mark, key)), None) if key.material().algorithm() == algorithm => {
            Ok((mark, key.material()))
        }
        (Some(_), None) => Err(NoKey::OtherAlgorithm),
        (None, _) => Err(NoKey::Unknown),
        (Some(_), Some(_)) => Err(NoKey::Several),
    }
}

/// What a compact JWS carries, if it is read as tokens are, whatever it carries, and one of these keys has signed it. Says nothing of issuers, dates or
/// audiences: what carries claims is judged by [`crate::Identifier`].
///
/// # Errors
/// The log's cause.
pub fn verify_jws<V: Verifier + ?Sized>(
    jws: &str,
    keys: &[PublicKey],
    verifier: &mut V,
) -> Result<Vec<u8>, &'static str> {
    let jws = compact(jws)?;
    let keys = keys.iter().map(|key| ((), key));
    let ((), key) =
        choose(keys, jws.kid.as_deref(), jws.algorithm).map_err(|fault| match fault {
            NoKey::Unknown => "no key is the one",
            NoKey::OtherAlgorithm => "the key is of another algorithm",
            NoKey::Several => "it names no key, and several fit",
        })?;
    match verifier.verify(key, jws.signed, &jws.signature) {
        Ok(true) => Ok(jws.payload),
        Ok(false) => Err("the signature is wrong"),
        Err(VerifyFault(cause)) => Err(cause),
    }
}

fn header(header: &Object) -> Result<(Algorithm, Option<String>), &'static str> {
    if REFUSED.iter().any(|name| header.get(name).is_some()) {
        return Err("token's header brings a key, an extension or another kind of token");
    }
    if let Some(kind) = header.get("typ") {
        let kind = kind.text().ok_or("token's typ is not a text")?;
        let bare = kind
            .get(..APPLICATION.len())
            .filter(|start| start.eq_ignore_ascii_case(APPLICATION))
            .and_then(|_| kind.get(APPLICATION.len()..))
            .unwrap_or(kind);
        if !["jwt", "at+jwt"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(bare))
        {
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

/// What a media type may leave out here (RFC 7515, 4.1.9).
const APPLICATION: &str = "application/";
