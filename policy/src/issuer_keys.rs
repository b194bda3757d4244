//! Public keys of an issuer. Contradictory, weak or private keys are faults; keys for other
//! purposes (encryption, unsupported algorithms) are skipped with a warning.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use tensorgate_values::fault::Fault;
use tensorgate_values::{Jwk, KeyEntry, KeySet};

use crate::policy::{Algorithm, KeyMaterial, PublicKey, RsaScheme};
use crate::report::{Path, Report, quote};

/// Maximum keys of a published set. Issuers with many tenants publish hundreds, one a tenant.
pub const MAX_PUBLISHED_KEYS: usize = 256;
/// Maximum length of a `kid`, as in tokens.
const MAX_KID_BYTES: usize = 256;
/// Size of an RSA modulus: less is weak (RFC 7518, 3.3), more is not supported.
const RSA_BITS: core::ops::RangeInclusive<usize> = 2048..=4096;
/// The RSA exponent in use, 65537.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// Usable and skipped keys of a published set.
#[derive(Debug)]
pub struct Published {
    /// Usable keys.
    pub keys: Vec<PublicKey>,
    /// Number of skipped keys.
    pub unused: usize,
    /// Faults of the skipped keys, by their index in the set, with their names.
    pub passed_over: Vec<Fault>,
}

/// Reads a published key set. One invalid key must not exclude valid keys or keep revoked ones, so
/// faults skip a key instead of failing. Different keys with the same name are all skipped; a key
/// that is published twice counts once.
///
/// # Errors
/// The set has too many keys.
pub fn published(set: &KeySet, algorithms: &[Algorithm]) -> Result<Published, TooManyKeys> {
    if set.keys.len() > MAX_PUBLISHED_KEYS {
        return Err(TooManyKeys(set.keys.len()));
    }
    let mut passed_over = Vec::new();
    let mut usable: Vec<(usize, Option<&str>, KeyMaterial)> = Vec::new();
    for (index, entry) in set.keys.iter().enumerate() {
        let kid = entry.key.kid.as_deref();
        let key = judged(index, kid, &mut passed_over, |path| {
            entry_key(path, entry, algorithms)
        });
        let Some(material) = key else { continue };
        let is_same = |(_, name, known): &(usize, Option<&str>, KeyMaterial)| {
            *name == kid && *known == material
        };
        if !usable.iter().any(is_same) {
            usable.push((index, kid, material));
        }
    }
    let mut names = BTreeMap::new();
    for (_, kid, _) in &usable {
        let count = names.entry(*kid).or_insert(0_usize);
        *count = count.saturating_add(1);
    }
    let mut keys = Vec::new();
    for (index, kid, material) in usable {
        if kid.is_some() && names.get(&kid).is_some_and(|count| *count > 1) {
            judged(index, kid, &mut passed_over, |path| {
                path.field("kid").fail::<()>("is the name of several keys")
            });
            continue;
        }
        keys.push(PublicKey {
            kid: kid.map(Into::into),
            material,
        });
    }
    Ok(Published {
        unused: set.keys.len().saturating_sub(keys.len()),
        keys,
        passed_over,
    })
}

/// Judges a key of a set, and adds its faults with its name.
fn judged<T>(
    index: usize,
    kid: Option<&str>,
    faults: &mut Vec<Fault>,
    judge: impl FnOnce(&Path) -> Option<T>,
) -> Option<T> {
    let report = Report::default();
    let result = judge(&report.root().field("keys").index(index));
    faults.extend(report.into_faults().into_iter().map(|mut fault| {
        if let Some(kid) = kid {
            fault.message.push_str(&format!(", kid {}", quote(kid)));
        }
        fault
    }));
    result
}

/// The key of an entry that can verify tokens.
fn entry_key(path: &Path, entry: &KeyEntry, algorithms: &[Algorithm]) -> Option<KeyMaterial> {
    if let Some(fault) = &entry.fault {
        return match &fault.member {
            Some(member) => path.field(member).fail(fault.message),
            None => path.fail(fault.message),
        };
    }
    match key(path, &entry.key, algorithms) {
        Key::Usable(material) => Some(material),
        Key::NotForUs | Key::Faulty => None,
    }
}

/// A set with too many keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} keys are too many, at most {MAX_PUBLISHED_KEYS} are allowed")]
pub struct TooManyKeys(usize);

/// Result for a key.
#[derive(Debug)]
pub enum Key {
    /// It can verify tokens.
    Usable(KeyMaterial),
    /// It is for another purpose.
    NotForUs,
    /// It has faults, which are reported.
    Faulty,
}

/// Checks a key. Faults are reported at its path.
pub fn key(path: &Path, raw: &Jwk, algorithms: &[Algorithm]) -> Key {
    if no_secret(path, raw).is_none() {
        return Key::Faulty;
    }
    let Some(kty) = path
        .field("kty")
        .required(raw.kty.as_deref(), "RSA, EC or OKP")
    else {
        return Key::Faulty;
    };
    if kty == "oct" {
        path.field("kty").error_with_fix(
            "is a shared secret: any verifier of a token could create one",
            "a public key",
        );
        return Key::Faulty;
    }
    if raw
        .kid
        .as_ref()
        .is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID_BYTES)
    {
        path.field("kid").error_with_fix(
            "is empty or too long",
            format!("1 to {MAX_KID_BYTES} bytes"),
        );
        return Key::Faulty;
    }
    let own = match (kty, raw.crv.as_deref()) {
        ("RSA", None) => match rsa_scheme(path, raw, algorithms) {
            Some(scheme) => Algorithm::Rsa(scheme),
            None => return Key::Faulty,
        },
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("EC", Some("P-384")) => Algorithm::Es384,
        ("EC", Some("P-521")) => Algorithm::Es512,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        ("RSA", Some(_)) => {
            path.field("crv").error("an RSA key has no curve");
            return Key::Faulty;
        }
        (kind, curve) => {
            let what = curve.map_or_else(|| quote(kind), |curve| quote(&format!("{kind} {curve}")));
            return not_for_us(path, &format!("{what} is not supported"));
        }
    };
    match purpose(path, raw, own) {
        Some(None) => {}
        Some(Some(other)) => return not_for_us(path, &other),
        None => return Key::Faulty,
    }
    if !algorithms.is_empty() && !algorithms.contains(&own) {
        let message = format!(
            "is for {}, which is not among the issuer's algorithms",
            own.name()
        );
        return not_for_us(path, &message);
    }
    let material = match own {
        Algorithm::Rsa(scheme) => rsa(path, raw, scheme),
        Algorithm::Es256 => coordinate(&path.field("x"), raw.x.as_deref())
            .zip(coordinate(&path.field("y"), raw.y.as_deref()))
            .map(|(x, y)| KeyMaterial::P256 { x, y }),
        Algorithm::Es384 => coordinate(&path.field("x"), raw.x.as_deref())
            .zip(coordinate(&path.field("y"), raw.y.as_deref()))
            .map(|(x, y)| KeyMaterial::P384 { x, y }),
        Algorithm::Es512 => coordinate(&path.field("x"), raw.x.as_deref())
            .zip(coordinate(&path.field("y"), raw.y.as_deref()))
            .map(|(x, y)| KeyMaterial::P521 { x, y }),
        Algorithm::EdDsa => {
            if raw.y.is_some() {
                path.field("y").error("an Ed25519 key has no y");
                return Key::Faulty;
            }
            octet_key(&path.field("x"), raw.x.as_deref()).map(KeyMaterial::Ed25519)
        }
    };
    material.map_or(Key::Faulty, Key::Usable)
}

fn not_for_us(path: &Path, message: &str) -> Key {
    path.warn(format!("the key is not used: {message}"), "remove it");
    Key::NotForUs
}

/// A published private key is compromised, and a policy must not contain one.
fn no_secret(path: &Path, raw: &Jwk) -> Option<()> {
    let secrets = [
        ("d", raw.d),
        ("p", raw.p),
        ("q", raw.q),
        ("dp", raw.dp),
        ("dq", raw.dq),
        ("qi", raw.qi),
        ("oth", raw.oth),
        ("k", raw.k),
    ];
    let mut valid = Some(());
    for (name, _) in secrets.into_iter().filter(|(_, secret)| secret.0) {
        valid = path.field(name).fail_with_fix(
            "is private key material: treat this key as stolen, and replace it",
            "public keys only",
        );
    }
    valid
}

/// Values of `use` for signatures (RFC 7517, 4.2; SPIFFE Trust Domain and Bundle, 4.2.2).
const SIGNING_USES: [&str; 2] = ["sig", "jwt-svid"];

/// Purpose of a key. `None`: contradictory. `Some(Some(…))`: another purpose.
fn purpose(path: &Path, raw: &Jwk, own: Algorithm) -> Option<Option<String>> {
    // Some issuers write an empty list where they state no operations.
    let verifies = raw
        .key_ops
        .as_ref()
        .filter(|ops| !ops.is_empty())
        .map(|ops| ops.iter().any(|op| op == "verify"));
    let signs = raw
        .usage
        .as_deref()
        .map(|usage| SIGNING_USES.contains(&usage));
    if let (Some(usage), Some(verifies)) = (raw.usage.as_deref(), verifies)
        && signs != Some(verifies)
    {
        return path
            .field("key_ops")
            .fail(format!("contradicts use {}", quote(usage)));
    }
    match raw.alg.as_deref() {
        Some(alg) if alg == own.name() => {
            if signs == Some(false) || verifies == Some(false) {
                return path.field("alg").fail(format!(
                    "{alg} is a signature algorithm, and use or key_ops name another purpose"
                ));
            }
            Some(None)
        }
        Some(alg) if Algorithm::from_name(alg).is_some() => path
            .field("alg")
            .fail_with_fix(format!("{alg} does not fit this type of key"), own.name()),
        Some(alg) => Some(Some(format!("it is for {}", quote(alg)))),
        None if signs == Some(false) || verifies == Some(false) => {
            Some(Some("its use or key_ops do not allow verifying".into()))
        }
        None => Some(None),
    }
}

/// Signature scheme of an RSA key: its own, or else the issuer's if there is exactly one.
fn rsa_scheme(path: &Path, raw: &Jwk, algorithms: &[Algorithm]) -> Option<RsaScheme> {
    const USUAL: RsaScheme = RsaScheme::Pkcs1(crate::policy::Hash::Sha256);
    let scheme = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rsa(scheme) => Some(*scheme),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => None,
    };
    if let Some(alg) = &raw.alg {
        // An algorithm of another type, or an unknown one, is reported with the purposes.
        let declared = Algorithm::from_name(alg);
        return Some(declared.as_ref().and_then(scheme).unwrap_or(USUAL));
    }
    let mut possible = algorithms.iter().filter_map(scheme);
    match (possible.next(), possible.next()) {
        (None, _) => Some(USUAL),
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => path.field("alg").fail_with_fix(
            "is missing, and the issuer has several algorithms for RSA keys",
            "the one algorithm that the key is for",
        ),
    }
}

fn rsa(path: &Path, raw: &Jwk, scheme: RsaScheme) -> Option<KeyMaterial> {
    let n = octets(&path.field("n"), raw.n.as_deref());
    let e = octets(&path.field("e"), raw.e.as_deref());
    let (n, e) = (n?, e?);
    let bits = n.first().map_or(0, |first| {
        let unused = usize::try_from(first.leading_zeros()).unwrap_or(0);
        n.len().saturating_mul(8).saturating_sub(unused)
    });
    if !RSA_BITS.contains(&bits) {
        let fault = if bits < *RSA_BITS.start() {
            "weak"
        } else {
            "not supported"
        };
        return path.field("n").fail_with_fix(
            format!("an RSA key of {bits} bits is {fault}"),
            format!("{} to {} bits", RSA_BITS.start(), RSA_BITS.end()),
        );
    }
    if n.last().is_none_or(|last| last & 1 == 0) {
        return path.field("n").fail("is even, which no RSA modulus is");
    }
    if is_marked(&n) {
        return path.field("n").fail_with_fix(
            "this modulus can be factored by anyone (CVE-2017-15361)",
            "generate a new key with other software",
        );
    }
    if e != RSA_EXPONENT {
        return path.field("e").fail_with_fix("is not 65537", "AQAB");
    }
    Some(KeyMaterial::Rsa { scheme, n, e })
}

/// A number (RFC 7518, 2: Base64urlUInt). It has no leading zeros there, but Java's `BigInteger`
/// writes one before a high first bit, which is the sign. More zeros are a fault.
fn octets(path: &Path, text: Option<&str>) -> Option<Vec<u8>> {
    let mut bytes = decode(path, text)?;
    if bytes.first() == Some(&0) {
        bytes.remove(0);
    }
    if bytes.first().is_none_or(|first| *first == 0) {
        return path.fail("is empty or begins with more than one zero byte");
    }
    Some(bytes)
}

/// Most leading zero bytes that a coordinate may lack. One key in 2^24 lacks more, on P-521, whose
/// first byte is 0 or 1, one in 2^16.
const MAX_MISSING_ZEROS: usize = 2;

/// A coordinate of a point (RFC 7518, 6.2.1.2). Its length is fixed there, but some issuers leave
/// out leading zeros, and Java's `BigInteger` writes one before a high first bit.
fn coordinate<const BYTES: usize>(path: &Path, text: Option<&str>) -> Option<[u8; BYTES]> {
    let bytes = decode(path, text)?;
    let number = match bytes.split_first() {
        Some((0, rest)) if rest.len() == BYTES => rest,
        _ => bytes.as_slice(),
    };
    let missing = BYTES
        .checked_sub(number.len())
        .filter(|zeros| *zeros <= MAX_MISSING_ZEROS);
    let Some(missing) = missing else {
        return wrong_length(path, bytes.len(), BYTES);
    };
    let mut coordinate = [0; BYTES];
    coordinate.get_mut(missing..)?.copy_from_slice(number);
    Some(coordinate)
}

/// A key of so many bytes (RFC 8037, 2), which is no number.
fn octet_key<const BYTES: usize>(path: &Path, text: Option<&str>) -> Option<[u8; BYTES]> {
    let bytes = decode(path, text)?;
    let length = bytes.len();
    let key = bytes.try_into().ok();
    key.or_else(|| wrong_length(path, length, BYTES))
}

fn wrong_length<T>(path: &Path, length: usize, expected: usize) -> Option<T> {
    path.fail_with_fix(
        format!("has {length} bytes, which is not a coordinate"),
        format!("{expected} bytes"),
    )
}

/// Some issuers pad, against RFC 7515, 2. Correct padding changes no byte.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn decode(path: &Path, text: Option<&str>) -> Option<Vec<u8>> {
    let text = path.required(text, "base64url without padding")?;
    let bytes = BASE64URL.decode(text).ok();
    if bytes.is_none() {
        path.error("is not base64url");
    }
    bytes
}

/// Small primes modulo which 65537 has few powers.
const PRIMES: [u32; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];
const GENERATOR: u32 = 65_537;

/// Whether a big-endian modulus has this property.
fn is_marked(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let modulo = |number: u32| number.checked_rem(*prime).unwrap_or(0);
        // A remainder is below 2^8, and a product of two below 2^25.
        let rest = modulus.iter().fold(0, |rest: u32, byte| {
            modulo(rest.wrapping_shl(8).wrapping_add(u32::from(*byte)))
        });
        let powers = core::iter::successors(Some(1), |power: &u32| {
            Some(modulo(power.wrapping_mul(GENERATOR)))
        });
        let mut powers = (1..*prime).zip(powers);
        powers.any(|(_, power)| power == rest)
    })
}
