//! TLS to a backend: trust anchors and the host's own identity. Replaced files are read again
//! before the next connection. Files that cannot be used leave the previous ones in force and are
//! logged once. An agent of the SPIFFE Workload API sends updates by itself.

mod workload_api;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensorgate_policy::policy::{BackendTls, Trust};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use webpki::{
    CertRevocationList, ExpirationPolicy, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use crate::pem::{TlsError, certificates, private_key};
use workload_api::Agent;

/// The TLS settings for one backend.
#[derive(Debug)]
pub struct Tls(Source);

/// The source of the settings.
#[derive(Debug)]
enum Source {
    Files(Arc<FileSource>),
    Agent(Agent),
}

/// Settings from files.
#[derive(Debug)]
struct FileSource {
    files: Files,
    spiffe: Option<String>,
    protocol: &'static [u8],
    read: Mutex<LoadedConfig>,
}

#[derive(Debug)]
struct Files {
    ca: PathBuf,
    identity: Option<(PathBuf, PathBuf)>,
}

/// The settings that were read last.
#[derive(Debug)]
struct LoadedConfig {
    stamps: Vec<Stamp>,
    /// Whether the latest files could be used. If not, the previous settings are in force.
    usable: bool,
    config: Arc<ClientConfig>,
}

/// Identifies a version of a file. `None` if the file does not exist.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Tls {
    /// Reads a backend's files below a folder, or connects to an agent instead. `protocol` is the
    /// ALPN name. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used. A missing agent is no error: it may start later,
    /// and nothing is sent before.
    pub fn new(root: &Path, rule: &BackendTls, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let spiffe = rule.spiffe().map(str::to_owned);
        let (ca, identity) = match rule.trust() {
            Trust::Files { ca, identity } => (ca, identity),
            Trust::WorkloadApi(address) => {
                let agent = Agent::new(address, spiffe.as_deref().unwrap_or_default(), protocol);
                let failed = |cause| TlsError {
                    path: address.into(),
                    cause,
                };
                return agent.map_err(failed).map(Source::Agent).map(Self);
            }
        };
        let files = Files::under(root, ca, identity.as_ref());
        let stamps = files.stamps();
        let config = files.read(spiffe.as_deref(), protocol)?;
        Ok(Self(Source::Files(Arc::new(FileSource {
            files,
            spiffe,
            protocol,
            read: Mutex::new(LoadedConfig {
                stamps,
                usable: true,
                config,
            }),
        }))))
    }

    /// Checks whether [`Self::new`] could use the files of a rule. An agent has none.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used.
    pub fn check(root: &Path, rule: &BackendTls) -> Result<(), TlsError> {
        match rule.trust() {
            Trust::Files { ca, identity } => {
                let files = Files::under(root, ca, identity.as_ref());
                files.read(rule.spiffe(), b"h2").map(drop)
            }
            Trust::WorkloadApi(_) => Ok(()),
        }
    }

    /// The settings for the next connection. Files are read on a separate thread. An agent without
    /// settings is awaited; the caller must set a timeout.
    ///
    /// # Errors
    /// Returns an error if the source is gone.
    pub async fn config(self: &Arc<Self>) -> io::Result<Arc<ClientConfig>> {
        let agent = match &self.0 {
            Source::Agent(agent) => agent,
            Source::Files(kept) => {
                let reading = Arc::clone(kept);
                let read = tokio::task::spawn_blocking(move || reading.config());
                return read.await.map_err(io::Error::other);
            }
        };
        let config = agent.config().await;
        config.ok_or_else(|| io::Error::other("no identity from the SPIFFE agent yet"))
    }

    /// Reads replaced files again, including those that could not be used before. Files that cannot
    /// be used leave the previous settings in force.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used.
    pub fn reload(&self) -> Result<(), TlsError> {
        match &self.0 {
            Source::Files(kept) => kept.reread(),
            Source::Agent(_) => Ok(()),
        }
    }
}

impl FileSource {
    fn config(&self) -> Arc<ClientConfig> {
        let mut read = self.lock();
        let stamps = self.files.stamps();
        if read.stamps != stamps
            && let Err(error) = self.renew(&mut read)
        {
            tracing::error!(
                %error,
                "cannot use the new certificates for a backend: the previous ones stay in force"
            );
        }
        read.stamps = stamps;
        Arc::clone(&read.config)
    }

    fn reread(&self) -> Result<(), TlsError> {
        let mut read = self.lock();
        let stamps = self.files.stamps();
        let result = if read.usable && read.stamps == stamps {
            Ok(())
        } else {
            self.renew(&mut read)
        };
        read.stamps = stamps;
        result
    }

    // The stamps are taken before: a file that changes while it is read differs the next time.
    fn renew(&self, read: &mut LoadedConfig) -> Result<(), TlsError> {
        let renewed = self.files.read(self.spiffe.as_deref(), self.protocol);
        read.usable = renewed.is_ok();
        read.config = renewed?;
        tracing::info!(ca = %self.files.ca.display(), "certificates for a backend reloaded");
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, LoadedConfig> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn under(root: &Path, ca: &str, identity: Option<&(String, String)>) -> Self {
        Self {
            ca: root.join(ca),
            identity: identity.map(|(cert, key)| (root.join(cert), root.join(key))),
        }
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        std::iter::once(&self.ca).chain(identity)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &PathBuf| {
            let data = fs::metadata(path).ok()?;
            // The time of the last change of any kind. A change of the file mode counts too.
            Some((data.ino(), data.size(), data.ctime(), data.ctime_nsec()))
        };
        self.all().map(stamp).collect()
    }

    fn read(
        &self,
        spiffe: Option<&str>,
        protocol: &'static [u8],
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let failed = |path: &Path, cause: &dyn std::fmt::Display| TlsError {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let mut authorities = Authorities::none();
        for authority in certificates(&self.ca)? {
            authorities
                .roots
                .add(authority)
                .map_err(|error| failed(&self.ca, &error))?;
        }
        let mut shown = None;
        if let Some((cert, key)) = &self.identity {
            shown = Some((certificates(cert)?, private_key(key)?));
        }
        let cert = self.identity.as_ref().map_or(&self.ca, |(cert, _)| cert);
        client_config(authorities, spiffe, shown, protocol)
            .map(Arc::new)
            .map_err(|error| failed(cert, &error))
    }
}

/// Trust anchors.
#[derive(Debug)]
struct Authorities {
    roots: RootCertStore,
    /// Certificate revocation lists, for servers with a SPIFFE ID.
    revoked: Vec<CertRevocationList<'static>>,
}

impl Authorities {
    fn none() -> Self {
        Self {
            roots: RootCertStore::empty(),
            revoked: Vec::new(),
        }
    }
}

/// Builds the client configuration: servers are verified against these authorities, by host name or
/// by SPIFFE ID. `shown` is the client certificate.
fn client_config(
    authorities: Authorities,
    spiffe: Option<&str>,
    shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    protocol: &'static [u8],
) -> Result<ClientConfig, Error> {
    let revocable = !authorities.revoked.is_empty();
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match spiffe {
        Some(id) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(SpiffeVerifier::new(
                id,
                authorities,
                &provider,
            ))),
        None => builder.with_root_certificates(authorities.roots),
    };
    let mut config = match shown {
        Some((chain, private_key)) => builder.with_client_auth_cert(chain, private_key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    if revocable {
        // A resumed session shows no certificate, which may have been revoked since, or whose list
        // may have expired.
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// The SPIFFE ID of a certificate, which must have exactly one URI (X.509-SVID, 2).
fn spiffe_id(leaf: &CertificateDer<'_>) -> Option<String> {
    let leaf = webpki::EndEntityCert::try_from(leaf).ok()?;
    let mut names = leaf.valid_uri_names();
    let name = names.next()?;
    names.next().is_none().then(|| name.to_owned())
}

/// Verifies a server by the SPIFFE ID in its certificate (X.509-SVID). Its address is not checked
/// then.
#[derive(Debug)]
struct SpiffeVerifier {
    id: String,
    authorities: Authorities,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SpiffeVerifier {
    fn new(id: &str, authorities: Authorities, provider: &CryptoProvider) -> Self {
        Self {
            id: id.to_owned(),
            authorities,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Checks that no authority of the chain has revoked the certificate. Authorities without a
    /// list revoke none. An expired list is an error.
    fn check_revocation(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let leaf = webpki::EndEntityCert::try_from(end_entity)?;
        // One list at a time: of several lists with the same issuer name, only the first would be
        // checked.
        for list in &self.authorities.revoked {
            let list = [list];
            let Ok(options) = RevocationOptionsBuilder::new(&list) else {
                continue;
            };
            let options = options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build();
            let path = leaf.verify_for_usage(
                self.algorithms.all,
                &self.authorities.roots.roots,
                intermediates,
                now,
                webpki::KeyUsage::server_auth(),
                Some(options),
                None,
            );
            match path {
                // The list is of another authority with the same name, one that was replaced. Which
                // of the two signature errors is reported depends on the order of the authorities.
                // The certificate itself is valid, and a revocation would be reported before
                // either.
                Ok(_)
                | Err(
                    webpki::Error::InvalidCrlSignatureForPublicKey
                    | webpki::Error::InvalidSignatureForPublicKey,
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.authorities.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.check_revocation(end_entity, intermediates, now)
            .map_err(|error| {
                let cause = match error {
                    webpki::Error::CertRevoked => CertificateError::Revoked,
                    webpki::Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
                    other => CertificateError::Other(OtherError(Arc::new(other))),
                };
                Error::InvalidCertificate(cause)
            })?;
        if spiffe_id(end_entity).as_deref() == Some(self.id.as_str()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
