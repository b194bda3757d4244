//! Validated rules for client credentials, and where API keys and published key sets are. Nothing
//! here is secret: digests, public keys and names.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use serde_big_array::BigArray;
use tensorgate_values::getters;

use crate::request::Operation;

/// A token issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Issuer {
    pub name: String,
    pub issuer: Option<String>,
    pub trust_domain: Option<String>,
    pub audiences: Vec<String>,
    pub audiences_claim: Option<String>,
    pub algorithms: Vec<Algorithm>,
    pub keys: Vec<PublicKey>,
    pub key_set: Option<KeySetUrl>,
    pub max_lifetime_s: u64,
    pub clock_skew_s: u64,
    pub required_claims: BTreeMap<String, Vec<String>>,
    pub scopes: Vec<(Operation, String)>,
    pub claim_headers: Vec<ClaimHeader>,
    pub user_claim: Option<ClaimPath>,
}

/// A claim that is forwarded as a header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimHeader {
    pub claim: ClaimPath,
    pub header: String,
}

getters! { ClaimHeader {
    /// The claim.
    claim: &ClaimPath,
    /// Name of the field, lower-case.
    header: &str,
} }

/// Where a claim is in a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimPath {
    pub name: String,
    pub keys: Vec<String>,
}

getters! { ClaimPath {
    /// Full name of the claim.
    name: &str,
    /// The name as a path of keys, outermost first; at least one.
    keys: &[String],
} }

getters! { Issuer {
    /// Its name in the policy.
    name: &str,
    /// `iss` of its tokens; always there without a trust domain.
    issuer: Option<&str>,
    /// Trust domain of its tokens, if they are JWT-SVIDs, which need no `iss`.
    trust_domain: Option<&str>,
    /// Accepted values of `aud`; at least one.
    audiences: &[String],
    /// Claim that is judged like `aud`, in tokens without `aud` and beside it.
    audiences_claim: Option<&str>,
    /// Accepted signature algorithms; at least one.
    algorithms: &[Algorithm],
    /// Its keys with unique names; at least one, unless they are fetched.
    keys: &[PublicKey],
    /// URL of its keys, if the policy does not list them.
    key_set: Option<&KeySetUrl>,
    /// Maximum lifetime of a token, in seconds.
    max_lifetime_s: u64,
    /// Tolerated clock difference, in seconds.
    clock_skew_s: u64,
    /// Required claims of every token, and values of which the claim must be or contain each.
    required_claims: &BTreeMap<String, Vec<String>>,
    /// Claims that are forwarded as header fields; fields are unique.
    claim_headers: &[ClaimHeader],
    /// The claim that names the end user.
    user_claim: Option<&ClaimPath>,
    /// Operations that need a scope, each once.
    scopes: &[(Operation, String)],
} }

/// A signature algorithm of RFC 7518 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA.
    Rsa(RsaScheme),
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

/// RSA signature scheme. A key has exactly one (RFC 8725, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RsaScheme {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1(Hash),
    /// RSASSA-PSS with MGF1 over the same hash and a salt of its length (RFC 7518, 3.5).
    Pss(Hash),
}

/// Hash of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 10] = [
        Self::Rsa(RsaScheme::Pkcs1(Hash::Sha256)),
        Self::Rsa(RsaScheme::Pkcs1(Hash::Sha384)),
        Self::Rsa(RsaScheme::Pkcs1(Hash::Sha512)),
        Self::Rsa(RsaScheme::Pss(Hash::Sha256)),
        Self::Rsa(RsaScheme::Pss(Hash::Sha384)),
        Self::Rsa(RsaScheme::Pss(Hash::Sha512)),
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa(RsaScheme::Pkcs1(Hash::Sha256)) => "RS256",
            Self::Rsa(RsaScheme::Pkcs1(Hash::Sha384)) => "RS384",
            Self::Rsa(RsaScheme::Pkcs1(Hash::Sha512)) => "RS512",
            Self::Rsa(RsaScheme::Pss(Hash::Sha256)) => "PS256",
            Self::Rsa(RsaScheme::Pss(Hash::Sha384)) => "PS384",
            Self::Rsa(RsaScheme::Pss(Hash::Sha512)) => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with this `alg`, case-sensitive.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// A public key of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    pub kid: Option<String>,
    pub material: KeyMaterial,
}

impl PublicKey {
    /// `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key itself.
    pub const fn material(&self) -> &KeyMaterial {
        &self.material
    }
}

/// A key in the form of its type. Lengths are correct; the verifier checks that points lie on their
/// curves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyMaterial {
    /// 2048 to 4096 bits.
    Rsa {
        /// Its only signature scheme.
        scheme: RsaScheme,
        /// The modulus, big-endian, without leading zeros.
        n: Vec<u8>,
        /// The exponent, big-endian: 65537.
        e: Vec<u8>,
    },
    /// A point of P-256, big-endian.
    P256 {
        /// Its x.
        x: [u8; 32],
        /// Its y.
        y: [u8; 32],
    },
    /// A point of P-384, big-endian.
    P384 {
        /// Its x.
        #[serde(with = "BigArray")]
        x: [u8; 48],
        /// Its y.
        #[serde(with = "BigArray")]
        y: [u8; 48],
    },
    /// A point of P-521, big-endian.
    P521 {
        /// Its x.
        #[serde(with = "BigArray")]
        x: [u8; 66],
        /// Its y.
        #[serde(with = "BigArray")]
        y: [u8; 66],
    },
    /// An Ed25519 key.
    Ed25519([u8; 32]),
}

impl KeyMaterial {
    /// The only algorithm that the key verifies.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { scheme, .. } => Algorithm::Rsa(*scheme),
            Self::P256 { .. } => Algorithm::Es256,
            Self::P384 { .. } => Algorithm::Es384,
            Self::P521 { .. } => Algorithm::Es512,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }
}

/// Rule for tokens of a client: all parts must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtRule {
    pub issuer: String,
    pub subject: Option<String>,
    pub claims: BTreeMap<String, Vec<String>>,
    pub scopes: Vec<String>,
}

getters! { JwtRule {
    /// A name of [`super::Policy::issuers`].
    issuer: &str,
    /// `sub`.
    subject: Option<&str>,
    /// Further claims, and values of which the claim must be or contain each.
    claims: &BTreeMap<String, Vec<String>>,
    /// Required scopes.
    scopes: &[String],
} }

/// Name in a certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PeerName {
    /// The only URI subject alternative name.
    Uri(String),
    /// The first DNS subject alternative name, lower-case.
    Dns(String),
}

/// Rule for metadata of another filter of the same proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetadataRule {
    pub filter: String,
    pub claim: Vec<String>,
    pub value: String,
    pub issuer: Option<String>,
}

getters! { MetadataRule {
    /// Namespace of the dynamic metadata.
    filter: &str,
    /// Keys that lead to the claim, outermost first; at least one.
    claim: &[String],
    /// Required text.
    value: &str,
    /// Required text of `iss` beside it, if any.
    issuer: Option<&str>,
} }

impl MetadataRule {
    /// Path of `iss` beside the claim.
    pub fn issuer_path(&self) -> Vec<String> {
        let beside = self
            .claim
            .split_last()
            .map_or(&[][..], |(_, beside)| beside);
        beside.iter().cloned().chain(["iss".into()]).collect()
    }
}

/// Addresses with a common prefix. IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2) count as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Network {
    pub address: IpAddr,
    pub prefix_bits: u8,
}

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |left: u128, right: u128, bits: u8| {
            let shift = u32::from(bits.saturating_sub(self.prefix_bits));
            // A shift by all bits leaves nothing on either side.
            left.checked_shr(shift) == right.checked_shr(shift)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

/// Revoked credentials.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Revoked {
    pub jti: BTreeSet<String>,
    pub keys: Vec<[u8; 32]>,
    pub certificates: BTreeSet<[u8; 32]>,
    pub serials: Option<Serials>,
}

/// Serial numbers of certificates, each of one authority or of any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serials(
    #[serde(serialize_with = "tensorgate_values::hex_keys::serialize")]
    pub  BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>,
);

impl Serials {
    /// Whether a certificate is listed: by serial number (big-endian without leading zeros) and the
    /// id of the authority's key. A certificate without that id matches any authority.
    pub fn hold(&self, serial: &[u8], authority_key: Option<&[u8]>) -> bool {
        self.0.get(serial).is_some_and(|authorities| {
            authorities.iter().any(|authority| {
                let both = authority.as_deref().zip(authority_key);
                both.is_none_or(|(listed, its)| listed == its)
            })
        })
    }
}

getters! { Revoked {
    /// Tokens, by `jti`, of any issuer.
    jti: &BTreeSet<String>,
    /// API keys, by SHA-256 digest, in order.
    keys: &[[u8; 32]],
    /// Client certificates, by SHA-256 fingerprint.
    certificates: &BTreeSet<[u8; 32]>,
    /// Client certificates by serial number; `None` without such a list, so that numbers need not
    /// be read.
    serials: Option<&Serials>,
} }

/// TLS of the listener; files are relative to the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    pub cert: String,
    pub key: String,
    pub client_ca: Option<String>,
    pub client_crl: Option<String>,
    pub forwarders: Vec<PeerName>,
}

getters! { Tls {
    /// Certificate chain.
    cert: &str,
    /// Private key.
    key: &str,
    /// Authorities of client certificates.
    client_ca: Option<&str>,
    /// Trusted proxies in front that may forward client certificates.
    forwarders: &[PeerName],
    /// Revocation lists of the authorities.
    client_crl: Option<&str>,
} }

/// Seconds between two fetches that tokens cause, unless the regular interval is shorter.
const COOL_DOWN_S: u64 = 10;

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySetUrl {
    pub tls: bool,
    pub server: Server,
    pub port: u16,
    pub path: String,
    pub ca: Option<String>,
    pub refresh_s: u64,
    pub stale_s: u64,
}

/// A server, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Server {
    /// A DNS name, lower-case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

getters! { KeySetUrl {
    /// Whether it uses TLS; plain text is for loopback only.
    tls: bool,
    /// Its server.
    server: &Server,
    /// The server's port.
    port: u16,
    /// Path and query.
    path: &str,
    /// CA file of the server's certificate, relative to the policy; the system's if absent.
    ca: Option<&str>,
    /// Fetch interval, in seconds.
    refresh_s: u64,
    /// Validity of keys after the last fetch, in seconds.
    stale_s: u64,
} }

impl KeySetUrl {
    /// Server and port for a request; default ports are omitted.
    pub fn authority(&self) -> String {
        let server = match &self.server {
            Server::Name(name) => name.clone(),
            Server::Address(IpAddr::V4(address)) => format!("{address}"),
            Server::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == if self.tls { 443 } else { 80 } {
            server
        } else {
            format!("{server}:{}", self.port)
        }
    }

    /// The whole URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Seconds between two fetches that tokens cause.
    pub fn cool_down_s(&self) -> u64 {
        COOL_DOWN_S.min(self.refresh_s)
    }
}

/// Maximum length of a header field's name that may hold keys; longer names are skipped.
pub const MAX_KEY_HEADER_BYTES: usize = 32;

/// Locations of API keys; at least one. A request has its key in at most one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLocations {
    pub headers: Cow<'static, [Cow<'static, str>]>,
    pub bearer: bool,
    pub any_format: bool,
    pub cookie: Option<String>,
    pub query: Option<String>,
}

getters! { KeyLocations {
    /// Whether `authorization: Bearer` may hold one.
    bearer: bool,
    /// Whether any key of the policy may have a format other than tensorgate's.
    any_format: bool,
    /// The cookie that holds one.
    cookie: Option<&str>,
    /// The query parameter that holds one.
    query: Option<&str>,
} }

impl KeyLocations {
    /// Default locations: `x-api-key`, and `authorization` with `Bearer tg_…`.
    pub const USUAL: Self = Self {
        headers: Cow::Borrowed(&[Cow::Borrowed("x-api-key")]),
        bearer: true,
        any_format: false,
        cookie: None,
        query: None,
    };

    /// Header fields whose whole value is a key, lower-case, except `authorization`; each at most
    /// [`MAX_KEY_HEADER_BYTES`] long.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|name| &**name)
    }
}

impl Default for KeyLocations {
    fn default() -> Self {
        Self::USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_belongs_to_its_authority_unless_none_is_named() {
        let one = |bytes: &[u8]| Some(bytes.to_vec());
        let listed = [
            (alloc::vec![1], alloc::vec![None]),
            (alloc::vec![2], alloc::vec![one(b"a"), one(b"b")]),
        ];
        let serials = Serials(listed.into());
        for (serial, authority_key, expected) in [
            (&[1][..], None, true),
            (&[1], Some(&b"x"[..]), true),
            (&[2], Some(b"a"), true),
            (&[2], Some(b"b"), true),
            (&[2], Some(b"c"), false),
            (&[2], Some(b""), false),
            (&[2], None, true),
            (&[3], None, false),
            (&[], None, false),
            (&[0, 1], None, false),
        ] {
            let is_listed = serials.hold(serial, authority_key);
            assert_eq!(is_listed, expected, "{serial:?} {authority_key:?}");
        }
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        for (network, prefix_bits, address, expected) in [
            ("10.0.0.0", 8, "10.255.255.255", true),
            ("10.0.0.0", 8, "11.0.0.0", false),
            ("10.0.0.0", 8, "9.255.255.255", false),
            ("10.0.0.0", 8, "::ffff:10.1.2.3", true),
            ("10.0.0.0", 8, "::10.1.2.3", false),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("10.0.0.1", 32, "10.0.0.0", false),
            ("0.0.0.0", 0, "255.1.2.3", true),
            ("0.0.0.0", 0, "2001:db8::1", false),
            ("2001:db8::", 32, "2001:db8:ffff::1", true),
            ("2001:db8::", 32, "2001:db9::", false),
            ("2001:db8::", 127, "2001:db8::1", true),
            ("2001:db8::", 127, "2001:db8::2", false),
            ("::1", 128, "::1", true),
            ("::", 0, "::1", true),
            ("::", 0, "::ffff:10.0.0.1", false),
        ] {
            let network = Network {
                address: network.parse().unwrap_or(IpAddr::from([0; 4])),
                prefix_bits,
            };
            let found = address.parse().map(|address| network.contains(address));
            assert_eq!(found, Ok(expected), "{address} in {network:?}");
        }
    }
}
