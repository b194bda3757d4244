//! Public keys of an issuer. Contradictory, weak or private keys are faults; keys for other
//! purposes (encryption, unsupported algorithms) are skipped with a warning.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::report::{Path, Report, quote};
use super::weak_rsa;
use crate::fault::Fault;
use crate::policy::{Algorithm, KeyMaterial, PublicKey, RsaScheme};
use crate::raw::{Jwk, Jwks, KeySet};

/// Maximum keys of one issuer. Issuers publish two or three during a rotation.
const MAX_KEYS: usize = 64;
/// Maximum length of a `kid`, as in tokens.
const MAX_KID_BYTES: usize = 256;
/// Size of an RSA modulus: less is weak (RFC 7518, 3.3), more is not supported.
const RSA_BITS: core::ops::RangeInclusive<usize> = 2048..=4096;
/// The RSA exponent in use, 65537.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// All usable keys; `None` if one is invalid or none is left.
pub(super) fn jwks(
    report: &mut Report,
    path: &Path,
    raw: &Jwks,
    algorithms: &[Algorithm],
) -> Option<Vec<PublicKey>> {
    if raw.file.is_some() {
        // The loader replaces the file's name by its keys.
        let message = if raw.keys.is_empty() {
            "the file has not been read"
        } else {
            "names a file beside keys"
        };
        report.error_with_fix(&path.field("file"), message, "a file or keys, not both");
        return None;
    }
    let keys_path = path.field("keys");
    report.not_empty(&keys_path, &raw.keys, "the issuer's public keys")?;
    if raw.keys.len() > MAX_KEYS {
        report.error_with_fix(
            &keys_path,
            format!("{} keys are too many", raw.keys.len()),
            format!("at most {MAX_KEYS}"),
        );
        return None;
    }
    let mut good = Some(());
    let mut kids = BTreeMap::new();
    let mut keys = Vec::new();
    for (index, raw) in raw.keys.iter().enumerate() {
        let path = keys_path.index(index);
        match key(report, &path, raw, algorithms) {
            Key::Usable(material) => {
                if let Some(first) = raw
                    .kid
                    .as_deref()
                    .and_then(|kid| kids.insert(kid, path.clone()))
                {
                    report.error(
                        &path.field("kid"),
                        format!("the same name stands at {}", first.as_str()),
                    );
                    good = None;
                }
                keys.push(PublicKey {
                    kid: raw.kid.clone(),
                    material,
                });
            }
            Key::NotForUs => {}
            Key::Faulty => good = None,
        }
    }
    good?;
    if keys.is_empty() {
        report.error(&keys_path, "no key is left to verify with");
        return None;
    }
    for algorithm in algorithms {
        if !keys
            .iter()
            .any(|key| key.material.algorithm() == *algorithm)
        {
            report.warn(
                &keys_path,
                format!("no key is for {}", algorithm.name()),
                "take it from algorithms",
            );
        }
    }
    Some(keys)
}

/// Usable and skipped keys of a published set.
#[derive(Debug)]
pub struct Published {
    /// Usable keys.
    pub keys: Vec<PublicKey>,
    /// Faults of the skipped keys, by their index in the set.
    pub passed_over: Vec<Fault>,
}

/// Reads a published key set. One invalid key must not exclude valid keys or keep revoked ones, so
/// faults skip a key instead of failing. Keys with the same name are all skipped.
///
/// # Errors
/// The set has too many keys.
pub fn published(set: &KeySet, algorithms: &[Algorithm]) -> Result<Published, TooManyKeys> {
    if set.keys.len() > MAX_KEYS {
        return Err(TooManyKeys(set.keys.len()));
    }
    let mut report = Report::default();
    let path = Path::root().field("keys");
    let mut usable = Vec::new();
    for (index, raw) in set.keys.iter().enumerate() {
        let path = path.index(index);
        if let Key::Usable(material) = key(&mut report, &path, raw, algorithms) {
            usable.push((path, raw.kid.as_ref(), material));
        }
    }
    let mut names = BTreeMap::new();
    for (_, kid, _) in &usable {
        let count = names.entry(*kid).or_insert(0_usize);
        *count = count.saturating_add(1);
    }
    let mut keys = Vec::new();
    for (path, kid, material) in usable {
        if kid.is_some() && names.get(&kid).is_some_and(|count| *count > 1) {
            report.error(&path.field("kid"), "several keys have this name");
            continue;
        }
        keys.push(PublicKey {
            kid: kid.cloned(),
            material,
        });
    }
    Ok(Published {
        keys,
        passed_over: report.into_faults(),
    })
}

/// A set with too many keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} keys are too many: at most {MAX_KEYS}")]
pub struct TooManyKeys(usize);

/// Result for a key.
enum Key {
    Usable(KeyMaterial),
    NotForUs,
    Faulty,
}

fn key(report: &mut Report, path: &Path, raw: &Jwk, algorithms: &[Algorithm]) -> Key {
    if no_secret(report, path, raw).is_none() {
        return Key::Faulty;
    }
    let Some(kty) = report.required(&path.field("kty"), raw.kty.as_deref(), "RSA, EC or OKP")
    else {
        return Key::Faulty;
    };
    if kty == "oct" {
        report.error_with_fix(
            &path.field("kty"),
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
        report.error_with_fix(
            &path.field("kid"),
            "is empty or too long",
            format!("1 to {MAX_KID_BYTES} bytes"),
        );
        return Key::Faulty;
    }
    let own = match (kty, raw.crv.as_deref()) {
        ("RSA", None) => match rsa_scheme(report, path, raw, algorithms) {
            Some(scheme) => Algorithm::Rsa(scheme),
            None => return Key::Faulty,
        },
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("EC", Some("P-384")) => Algorithm::Es384,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        ("RSA", Some(_)) => {
            report.error(&path.field("crv"), "an RSA key has no curve");
            return Key::Faulty;
        }
        (kind, curve) => {
            let what = curve.map_or_else(|| quote(kind), |curve| quote(&format!("{kind} {curve}")));
            return not_for_us(report, path, &format!("{what} is not supported"));
        }
    };
    match purpose(report, path, raw, own) {
        Some(None) => {}
        Some(Some(other)) => return not_for_us(report, path, &other),
        None => return Key::Faulty,
    }
    if !algorithms.is_empty() && !algorithms.contains(&own) {
        let message = format!("is for {}, which the issuer may not use", own.name());
        return not_for_us(report, path, &message);
    }
    let material = match own {
        Algorithm::Rsa(scheme) => rsa(report, path, raw, scheme),
        Algorithm::Es256 => coordinate(report, &path.field("x"), raw.x.as_deref())
            .zip(coordinate(report, &path.field("y"), raw.y.as_deref()))
            .map(|(x, y)| KeyMaterial::P256 { x, y }),
        Algorithm::Es384 => coordinate(report, &path.field("x"), raw.x.as_deref())
            .zip(coordinate(report, &path.field("y"), raw.y.as_deref()))
            .map(|(x, y)| KeyMaterial::P384 { x, y }),
        Algorithm::EdDsa => {
            if raw.y.is_some() {
                report.error(&path.field("y"), "an Ed25519 key has no y");
                return Key::Faulty;
            }
            coordinate(report, &path.field("x"), raw.x.as_deref()).map(KeyMaterial::Ed25519)
        }
    };
    material.map_or(Key::Faulty, Key::Usable)
}

fn not_for_us(report: &mut Report, path: &Path, message: &str) -> Key {
    report.warn(path, format!("passed over: {message}"), "remove it");
    Key::NotForUs
}

/// A published private key is compromised, and a policy must not contain one.
fn no_secret(report: &mut Report, path: &Path, raw: &Jwk) -> Option<()> {
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
    let mut good = Some(());
    for (name, _) in secrets.into_iter().filter(|(_, secret)| secret.0) {
        report.error_with_fix(
            &path.field(name),
            "is a secret: hold this key for stolen",
            "public keys only",
        );
        good = None;
    }
    good
}

/// Purpose of a key. `None`: contradictory. `Some(Some(…))`: another purpose.
fn purpose(report: &mut Report, path: &Path, raw: &Jwk, own: Algorithm) -> Option<Option<String>> {
    let verifies = raw
        .key_ops
        .as_ref()
        .map(|ops| ops.iter().any(|op| op == "verify"));
    if let (Some(usage), Some(verifies)) = (raw.usage.as_deref(), verifies)
        && (usage == "sig") != verifies
    {
        report.error(
            &path.field("key_ops"),
            format!("contradicts use {}", quote(usage)),
        );
        return None;
    }
    let signs = raw.usage.as_deref().map(|usage| usage == "sig");
    match raw.alg.as_deref() {
        Some(alg) if alg == own.name() => {
            if signs == Some(false) || verifies == Some(false) {
                report.error(
                    &path.field("alg"),
                    format!("{alg} signs, and the key says that it is for something else"),
                );
                return None;
            }
            Some(None)
        }
        Some(alg) if Algorithm::from_name(alg).is_some() => {
            report.error_with_fix(
                &path.field("alg"),
                format!("{alg} is of another kind of key"),
                own.name(),
            );
            None
        }
        Some(alg) => Some(Some(format!("it is for {}", quote(alg)))),
        None if signs == Some(false) || verifies == Some(false) => {
            Some(Some("it is not for verifying".into()))
        }
        None => Some(None),
    }
}

/// Signature scheme of an RSA key: its own, or else the issuer's if there is exactly one.
fn rsa_scheme(
    report: &mut Report,
    path: &Path,
    raw: &Jwk,
    algorithms: &[Algorithm],
) -> Option<RsaScheme> {
    const USUAL: RsaScheme = RsaScheme::Pkcs1(crate::policy::Hash::Sha256);
    let scheme = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rsa(scheme) => Some(*scheme),
        _ => None,
    };
    if let Some(alg) = &raw.alg {
        // An algorithm of another type, or an unknown one, is reported with the purposes.
        let said = Algorithm::from_name(alg);
        return Some(said.as_ref().and_then(scheme).unwrap_or(USUAL));
    }
    let mut possible = algorithms.iter().filter_map(scheme);
    match (possible.next(), possible.next()) {
        (None, _) => Some(USUAL),
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => {
            report.error_with_fix(
                &path.field("alg"),
                "is missing, and the issuer has several for RSA keys",
                "the one algorithm that the key is for",
            );
            None
        }
    }
}

fn rsa(report: &mut Report, path: &Path, raw: &Jwk, scheme: RsaScheme) -> Option<KeyMaterial> {
    let n = octets(report, &path.field("n"), raw.n.as_deref());
    let e = octets(report, &path.field("e"), raw.e.as_deref());
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
        report.error_with_fix(
            &path.field("n"),
            format!("an RSA key of {bits} bits is {fault}"),
            format!("{} to {} bits", RSA_BITS.start(), RSA_BITS.end()),
        );
        return None;
    }
    if n.last().is_none_or(|last| last & 1 == 0) {
        report.error(&path.field("n"), "an even number is no RSA modulus");
        return None;
    }
    if weak_rsa::is_marked(&n) {
        report.error_with_fix(
            &path.field("n"),
            "this modulus can be factored by anyone (CVE-2017-15361)",
            "a key made elsewhere",
        );
        return None;
    }
    if e != RSA_EXPONENT {
        report.error_with_fix(&path.field("e"), "is not 65537", "AQAB");
        return None;
    }
    Some(KeyMaterial::Rsa { scheme, n, e })
}

/// A number without leading zeros (RFC 7518, 2: Base64urlUInt).
fn octets(report: &mut Report, path: &Path, text: Option<&str>) -> Option<Vec<u8>> {
    let bytes = decode(report, path, text)?;
    if bytes.first().is_none_or(|first| *first == 0) {
        report.error(path, "is empty or begins with a zero byte");
        return None;
    }
    Some(bytes)
}

fn coordinate<const BYTES: usize>(
    report: &mut Report,
    path: &Path,
    text: Option<&str>,
) -> Option<[u8; BYTES]> {
    let bytes = decode(report, path, text)?;
    let length = bytes.len();
    let coordinate = bytes.try_into().ok();
    if coordinate.is_none() {
        report.error_with_fix(
            path,
            format!("{length} bytes are no coordinate"),
            format!("{BYTES} bytes"),
        );
    }
    coordinate
}

fn decode(report: &mut Report, path: &Path, text: Option<&str>) -> Option<Vec<u8>> {
    let text = report.required(path, text, "base64url without padding")?;
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    if bytes.is_none() {
        report.error(path, "is not base64url without padding");
    }
    bytes
}
