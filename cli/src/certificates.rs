//! TLS files of the listener, checked before Envoy reads them.
//!
//! Envoy would accept some unusable files silently. The worst is an empty revocation list: Envoy
//! treats it as no list and admits every revoked certificate. The checks also find a key of another
//! certificate and a file without authorities. This module only decides which files Envoy may get;
//! it never writes them.
//!
//! Accepted content is re-encoded from the parsed form, so Envoy cannot interpret a file
//! differently than this reader.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_identity::x509::list::{self, List};
use tensorgate_net::pem::{self, MAX_FILE_BYTES, TlsError};
use tensorgate_policy::policy::Tls;
use tensorgate_policy::{Fault, Severity};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{PemObject as _, SectionKind};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, RootCertStore};

/// Largest file of revocation lists, bytes: about two hundred thousand certificates.
const MAX_LISTS_BYTES: u64 = 8 << 20;
/// Base64 characters per line (RFC 7468, section 2).
const LINE: usize = 64;

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {}: {cause}", file.display())]
pub struct UnusableFile {
    /// The policy key that names the file.
    pub path: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with the file.
    pub cause: String,
    /// How to fix it.
    pub fix: &'static str,
}

impl From<UnusableFile> for Fault {
    fn from(unfit: UnusableFile) -> Self {
        Self {
            severity: Severity::Error,
            path: unfit.path.into(),
            message: format!("{}: {}", unfit.file.display(), unfit.cause),
            fix: Some(unfit.fix.into()),
        }
    }
}

/// The gate's own certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and its intermediate certificates.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// Authorities that client certificates are verified against, and their revocation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// Certificates of the authorities, PEM.
    pub ca: String,
    /// Revocation lists of the authorities, PEM; `None` if the policy names no list file.
    pub crl: Option<String>,
    lists: Vec<List>,
    /// Subject names of the authorities, in the form of [`List::issuer`].
    names: Vec<Vec<u8>>,
}

/// One of the listener's files.
struct ListenerFile<'a> {
    root: &'a Path,
    name: &'a str,
    path: &'static str,
}

impl ListenerFile<'_> {
    fn file(&self) -> PathBuf {
        self.root.join(self.name)
    }

    fn unusable(&self, cause: impl ToString, fix: &'static str) -> UnusableFile {
        UnusableFile {
            path: self.path,
            file: self.file(),
            cause: cause.to_string(),
            fix,
        }
    }
}

const CERT: &str = "listen.tls.cert";
const KEY: &str = "listen.tls.key";
const CA: &str = "listen.tls.client_ca";
const CRL: &str = "listen.tls.client_crl";

const OWN_FIX: &str = "the gate's certificate, PEM, followed by its intermediate certificates";
const KEY_FIX: &str = "the key of the certificate, PEM without a password: RSA of at least 2048 bits, P-256, P-384 or Ed25519";
const CA_FIX: &str = "the certificates of the clients' authorities, PEM, and nothing else";
const CRL_FIX: &str = "one list per authority, PEM; a list may be empty: `openssl ca -gencrl`";

/// Every fault in the files of a listener. File names are relative to `root`.
pub fn faults(tls: &Tls, root: &Path) -> Vec<UnusableFile> {
    let mut faults = Vec::new();
    faults.extend(identity(tls, root).err());
    if let Some(Err(unfit)) = authorities(tls, root) {
        faults.extend(unfit);
    }
    faults
}

/// Reads the gate's own certificate and key.
///
/// # Errors
/// One of the two files cannot be used, or the key belongs to another certificate.
pub fn identity(tls: &Tls, root: &Path) -> Result<Identity, UnusableFile> {
    let cert = ListenerFile {
        root,
        name: tls.cert(),
        path: CERT,
    };
    let key = ListenerFile {
        root,
        name: tls.key(),
        path: KEY,
    };
    let chain =
        pem::certificates(&cert.file()).map_err(|error| cert.unusable(error.cause, OWN_FIX))?;
    for certificate in &chain {
        ParsedCertificate::try_from(certificate).map_err(|error| cert.unusable(error, OWN_FIX))?;
    }
    let secret =
        pem::private_key(&key.file()).map_err(|error| key.unusable(error.cause, KEY_FIX))?;
    let encoded = Identity {
        chain: chain.iter().map(|one| pem("CERTIFICATE", one)).collect(),
        key: pem(key_label(&secret), secret.secret_der()),
    };
    match CertifiedKey::from_der(chain, secret, &ring::default_provider()) {
        Ok(_) => Ok(encoded),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let cause = format!("is not the key of {}", cert.file().display());
            Err(key.unusable(cause, KEY_FIX))
        }
        Err(error) => Err(key.unusable(error, KEY_FIX)),
    }
}

/// Reads the authorities of client certificates; `None` if the policy names none.
pub fn authorities(tls: &Tls, root: &Path) -> Option<Result<Authorities, Vec<UnusableFile>>> {
    let ca = ListenerFile {
        root,
        name: tls.client_ca()?,
        path: CA,
    };
    let crl = tls.client_crl().map(|name| ListenerFile {
        root,
        name,
        path: CRL,
    });
    let read = authorities_of(&ca);
    let lists = crl.as_ref().map(lists_of).transpose();
    Some(match (read, lists) {
        (Ok((ca, names)), Ok(lists)) => {
            let (crl, lists) = lists.unzip();
            Ok(Authorities {
                ca,
                crl,
                names,
                lists: lists.unwrap_or_default(),
            })
        }
        (read, lists) => Err(read.err().into_iter().chain(lists.err()).collect()),
    })
}

impl Authorities {
    /// A copy with the current revocation lists; `None` if no list can be used.
    pub fn with_lists(&self, tls: &Tls, root: &Path) -> Option<Self> {
        let name = tls.client_crl()?;
        let path = CRL;
        let (crl, lists) = lists_of(&ListenerFile { root, name, path }).ok()?;
        Some(Self {
            crl: Some(crl),
            lists,
            ..self.clone()
        })
    }

    /// The number of revoked certificates.
    pub fn revoked(&self) -> usize {
        self.lists
            .iter()
            .fold(0, |sum, list| sum.saturating_add(list.revoked))
    }

    /// Whether these authorities may replace others while the gate runs.
    ///
    /// No list may be older than the list in force. Every authority that stays trusted must keep
    /// its list, because Envoy would otherwise reject all of its clients.
    ///
    /// # Errors
    /// A change that would admit a revoked certificate again, or reject every client of an
    /// authority.
    pub fn may_follow(&self, before: &Self, tls: &Tls, root: &Path) -> Result<(), UnusableFile> {
        let crl = ListenerFile {
            root,
            name: tls.client_crl().unwrap_or_default(),
            path: CRL,
        };
        for old in &before.lists {
            let now = self.lists.iter().filter(|list| list.issuer == old.issuer);
            let mut now = now.peekable();
            if now.peek().is_none() {
                if !self.names.contains(&old.issuer) {
                    continue;
                }
                return Err(crl.unusable(
                    "an authority that had a list no longer has one",
                    "one list per authority; remove a retired authority from client_ca first",
                ));
            }
            if now.all(|list| list.is_older_than(old)) {
                let cause = format!(
                    "contains an older list than the one in force, which is of {}",
                    old.since
                );
                return Err(crl.unusable(
                    cause,
                    "the authority's latest list; to go back to an older one, restart `tensorgate up`",
                ));
            }
        }
        Ok(())
    }
}

/// Certificates of the authorities, and their subject names.
fn authorities_of(ca: &ListenerFile<'_>) -> Result<(String, Vec<Vec<u8>>), UnusableFile> {
    let mut roots = RootCertStore::empty();
    let mut encoded = String::new();
    for (kind, der) in sections(ca, MAX_FILE_BYTES, CA_FIX)? {
        match kind {
            SectionKind::Certificate => {}
            SectionKind::Crl => {
                let fix = "put it into a file of its own and name that as client_crl";
                return Err(ca.unusable("contains a revocation list", fix));
            }
            _ => return Err(ca.unusable("contains something that is not a certificate", CA_FIX)),
        }
        encoded.push_str(&pem("CERTIFICATE", &der));
        roots
            .add(der.into())
            .map_err(|error| ca.unusable(error, CA_FIX))?;
    }
    if roots.is_empty() {
        return Err(ca.unusable("contains no certificate", CA_FIX));
    }
    let names = roots.roots.iter().map(|root| root.subject.to_vec());
    Ok((encoded, names.collect()))
}

fn lists_of(crl: &ListenerFile<'_>) -> Result<(String, Vec<List>), UnusableFile> {
    let (mut encoded, mut lists) = (String::new(), Vec::new());
    for (kind, der) in sections(crl, MAX_LISTS_BYTES, CRL_FIX)? {
        if kind != SectionKind::Crl {
            return Err(crl.unusable("contains something that is not a revocation list", CRL_FIX));
        }
        let list = list::from_der(&der).ok_or_else(|| {
            crl.unusable("contains a revocation list that cannot be read", CRL_FIX)
        })?;
        if list.delta {
            return Err(crl.unusable("contains a delta revocation list", CRL_FIX));
        }
        encoded.push_str(&pem("X509 CRL", &der));
        lists.push(list);
    }
    if lists.is_empty() {
        let cause = "contains no revocation list: Envoy would admit every revoked certificate";
        return Err(crl.unusable(cause, CRL_FIX));
    }
    Ok((encoded, lists))
}

/// Every section of a PEM file. A truncated section makes the file unusable. So does a section of a
/// kind that the reader does not know and would skip.
fn sections(
    named: &ListenerFile<'_>,
    max_bytes: u64,
    fix: &'static str,
) -> Result<Vec<(SectionKind, Vec<u8>)>, UnusableFile> {
    const BEGIN: &[u8] = b"-----BEGIN";
    let bytes = pem::bytes(&named.file(), max_bytes)
        .map_err(|error: TlsError| named.unusable(error.cause, fix))?;
    let read: Result<Vec<_>, _> = <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| named.unusable(error, fix))?;
    let sections = bytes
        .windows(BEGIN.len())
        .filter(|window| *window == BEGIN)
        .count();
    if sections != read.len() {
        return Err(named.unusable("contains a PEM section that cannot be read", fix));
    }
    Ok(read)
}

fn key_label(key: &tokio_rustls::rustls::pki_types::PrivateKeyDer<'_>) -> &'static str {
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        // The enum is non-exhaustive; the parser returns no further variant.
        _ => "PRIVATE KEY",
    }
}

/// DER as text (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let digits = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is a character boundary.
        let (line, more) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
pub(crate) mod tests;
