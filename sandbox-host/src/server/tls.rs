//! TLS of the host's TCP ports. A gateway needs a certificate of the configured authority that has
//! one of the configured names. The files are read again when they are replaced.

use std::path::PathBuf;
use std::sync::Arc;

use tensorgate_base::renewed::{Refresh, Renewed};
use tensorgate_base::secret_file::{self, SecretFileError};
use tensorgate_net::peer_name::is_peer_name;
use tensorgate_net::pem::{self, MAX_FILE_BYTES, TlsError};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;

use super::refusal::Refusal;

/// The ALPN name of HTTP/2, which gRPC needs.
pub(super) const HTTP2: &[u8] = b"h2";

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// A file of certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// The file of the key cannot be used.
    #[error(transparent)]
    Key(#[from] SecretFileError),
    /// The name of a gateway is neither a SPIFFE ID nor a DNS name.
    #[error("--gateway {0:?} is neither a SPIFFE ID (spiffe://domain/path) nor a DNS name")]
    Name(String),
    /// There is no name, so no gateway could connect.
    #[error("give the name in each gateway's certificate with --gateway")]
    NoName,
}

/// The files of the host's identity and of the authority of gateways.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and its intermediates.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// The certificates of the authorities that sign gateways' certificates.
    pub client_ca: PathBuf,
}

/// What the files contain.
struct Loaded {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// The identity of the host, and who may connect.
pub struct ServerTls {
    loaded: Renewed<Loaded>,
    gateways: Vec<Arc<str>>,
}

impl ServerTls {
    /// Reads the files. `gateways` are the exact names that certificates of gateways have.
    ///
    /// # Errors
    /// Returns an error if a file or a name cannot be used.
    pub fn read(files: TlsFiles, gateways: &[String]) -> Result<Self, ServerTlsError> {
        if gateways.is_empty() {
            return Err(ServerTlsError::NoName);
        }
        if let Some(name) = gateways.iter().find(|name| !is_peer_name(name)) {
            return Err(ServerTlsError::Name(name.clone()));
        }
        let paths = vec![
            files.cert.clone(),
            files.key.clone(),
            files.client_ca.clone(),
        ];
        Ok(Self {
            loaded: Renewed::from_files("certificates", paths, move || files.load())?,
            gateways: gateways.iter().map(|name| name.as_str().into()).collect(),
        })
    }

    /// Reads the files again if they were replaced, or in any case if `forced`.
    pub fn refresh(&self, forced: bool) -> Refresh {
        self.loaded.refresh(forced)
    }

    /// The settings for the next connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.current().config)
    }

    /// The allowed name of a verified certificate.
    pub(super) fn gateway(&self, leaf: &CertificateDer<'_>) -> Result<Arc<str>, Refusal> {
        let names = names(leaf);
        let is_shown = |gateway: &&Arc<str>| names.iter().any(|name| **name == ***gateway);
        let found = self.gateways.iter().find(is_shown).cloned();
        found.ok_or(Refusal::Name(names))
    }

    /// Whether a certificate that was verified at a handshake would still be: it has not expired,
    /// and its authority is still there.
    pub(super) fn is_still_valid(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return false;
        };
        let loaded = self.loaded.current();
        let now = UnixTime::now();
        let verified = loaded.verifier.verify_client_cert(leaf, intermediates, now);
        verified.is_ok()
    }
}

impl TlsFiles {
    fn load(&self) -> Result<Loaded, ServerTlsError> {
        let failed = |path: &PathBuf, cause: &dyn std::fmt::Display| TlsError {
            path: path.clone(),
            cause: cause.to_string(),
        };
        let mut roots = RootCertStore::empty();
        for authority in pem::certificates(&self.client_ca)? {
            (roots.add(authority)).map_err(|error| failed(&self.client_ca, &error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| failed(&self.client_ca, &error))?;
        let chain = pem::certificates(&self.cert)?;
        let key = secret_file::read(&self.key, MAX_FILE_BYTES)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| failed(&self.key, &error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&self.cert, &error))?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, key)
            .map_err(|error| failed(&self.cert, &error))?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        // A resumed session shows no certificate, which may have expired, and whose authority may
        // have been removed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded {
            config: Arc::new(config),
            verifier,
        })
    }
}

/// The names in a certificate that can be allowed: its SPIFFE ID if it has exactly one URI
/// (X.509-SVID, 2), and its DNS names. A URI without a scheme is none: it could read like a DNS
/// name, which its authority may not have checked.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok(leaf) = EndEntityCert::try_from(leaf) else {
        return Vec::new();
    };
    let mut uris: Vec<_> = leaf.valid_uri_names().collect();
    if uris.len() > 1 {
        uris.clear();
    }
    uris.retain(|uri| uri.contains(':'));
    let names = uris.into_iter().chain(leaf.valid_dns_names());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tensorgate_client::pki::Authority;

    use super::*;

    #[test]
    fn a_name_of_a_gateway_is_a_spiffe_id_or_a_dns_name() {
        for (name, expected) in [
            ("spiffe://cluster.local/ns/istio-system/sa/gateway", true),
            ("gateway.example", true),
            ("spiffe://cluster.local", false),
            ("spiffe:///path", false),
            ("spiffe://a/b c", false),
            ("*.example", false),
            ("https://gateway.example", false),
            ("", false),
        ] {
            assert_eq!(is_peer_name(name), expected, "{name}");
        }
    }

    #[test]
    fn a_certificate_stays_valid_until_its_authority_leaves_the_file() {
        let folder = std::env::temp_dir().join(format!("tg-tls-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir(&folder).unwrap();
        let (old, new) = (
            Authority::new("old").unwrap(),
            Authority::new("new").unwrap(),
        );
        let own = old.issue(1, &["dns:host"]).unwrap();
        let files = TlsFiles {
            cert: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_ca: folder.join("ca.crt"),
        };
        fs::write(&files.cert, &own.pem).unwrap();
        fs::write(&files.key, &own.key).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&files.client_ca, &old.pem).unwrap();
        let tls = ServerTls::read(files.clone(), &["gateway".to_owned()]).unwrap();
        let chain = |authority: &Authority, year| {
            let leaf = authority.issue_until(year, 2, &["dns:gateway"]).unwrap();
            [CertificateDer::from(leaf.der)]
        };
        let (by_old, by_new) = (chain(&old, 4096), chain(&new, 4096));
        assert!(tls.is_still_valid(&by_old) && !tls.is_still_valid(&by_new));
        assert!(!tls.is_still_valid(&chain(&old, 2000)), "expired");
        assert!(!tls.is_still_valid(&[]));
        fs::write(&files.client_ca, "no certificate").unwrap();
        assert!(matches!(tls.refresh(false), Refresh::Failed(_)));
        assert!(tls.is_still_valid(&by_old), "the previous file is in force");
        fs::write(&files.client_ca, &new.pem).unwrap();
        assert_eq!(tls.refresh(false), Refresh::Renewed);
        assert!(!tls.is_still_valid(&by_old) && tls.is_still_valid(&by_new));
        // The key of another certificate.
        let other = new.issue(3, &["dns:host"]).unwrap();
        fs::remove_file(&files.key).unwrap();
        fs::write(&files.key, format!("{}\n", other.key)).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(tls.refresh(false), Refresh::Failed(_)));
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
        let Refresh::Failed(cause) = tls.refresh(false) else {
            unreachable!("others can read the key");
        };
        assert!(cause.contains("only its owner"), "{cause}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_certificate_with_several_uris_has_no_spiffe_id() {
        let authority = Authority::new("names").unwrap();
        for (given, expected) in [
            (&["uri:spiffe://a/b"][..], &["spiffe://a/b"][..]),
            (
                &["uri:spiffe://a/b", "dns:c.example"][..],
                &["spiffe://a/b", "c.example"][..],
            ),
            (
                &["uri:spiffe://a/b", "uri:spiffe://a/c", "dns:d.example"][..],
                &["d.example"][..],
            ),
            (&["ip:127.0.0.1"][..], &[][..]),
            // No other kind of name passes for a DNS name.
            (&["uri:gateway.example"][..], &[][..]),
        ] {
            let leaf = authority.issue(1, given).unwrap();
            assert_eq!(
                names(&CertificateDer::from(leaf.der)),
                expected,
                "{given:?}"
            );
        }
    }
}
