//! TLS to a server: whom to trust there, and who the gate is. Files are read again before a connection is made once they were replaced; what cannot be used
//! then leaves what was read before in force, and is told once. An agent of SPIFFE's Workload API tells by itself.

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
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
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

use crate::config::{at_most, open};
use workload_api::Agent;

/// A file of certificates or a key, bytes: hundreds of authorities.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct TlsError {
    path: PathBuf,
    cause: String,
}

impl TlsError {
    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

/// TLS to one backend's servers.
#[derive(Debug)]
pub struct Tls(Source);

/// Where it is known from.
#[derive(Debug)]
enum Source {
    Files(Arc<Kept>),
    Agent(Agent),
}

/// What files hold.
#[derive(Debug)]
struct Kept {
    files: Files,
    spiffe: Option<String>,
    protocol: &'static [u8],
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Files {
    ca: PathBuf,
    identity: Option<(PathBuf, PathBuf)>,
}

/// What was read last, and of which files.
#[derive(Debug)]
struct Read {
    stamps: Vec<Stamp>,
    /// Whether those could be used; what was read before is in force otherwise.
    good: bool,
    config: Arc<ClientConfig>,
}

/// Tells a file from one that has replaced it; none of one that is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Tls {
    /// Reads a backend's files below a folder, or listens to the agent in their place. `protocol` is the one that is spoken, by its ALPN name. Must be called
    /// within a Tokio runtime.
    ///
    /// # Errors
    /// A file cannot be used. An agent is none: it may come later, and nothing is sent before it has.
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
        let files = Files::below(root, ca, identity.as_ref());
        let stamps = files.stamps();
        let config = files.read(spiffe.as_deref(), protocol)?;
        Ok(Self(Source::Files(Arc::new(Kept {
            files,
            spiffe,
            protocol,
            read: Mutex::new(Read {
                stamps,
                good: true,
                config,
            }),
        }))))
    }

    /// Whether [`Self::new`] could use the files of a rule. An agent has none.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn check(root: &Path, rule: &BackendTls) -> Result<(), TlsError> {
        match rule.trust() {
            Trust::Files { ca, identity } => {
                let files = Files::below(root, ca, identity.as_ref());
                files.read(rule.spiffe(), b"h2").map(drop)
            }
            Trust::WorkloadApi(_) => Ok(()),
        }
    }

    /// What the next connection is made with: files are read on a thread of their own, and an agent is waited for that has not said anything yet. For how
    /// long is whoever connects to bound.
    ///
    /// # Errors
    /// Nobody can say it any more.
    pub(crate) async fn config(self: &Arc<Self>) -> io::Result<Arc<ClientConfig>> {
        let agent = match &self.0 {
            Source::Agent(agent) => agent,
            Source::Files(kept) => {
                let reading = Arc::clone(kept);
                let read = tokio::task::spawn_blocking(move || reading.config());
                return read.await.map_err(io::Error::other);
            }
        };
        let config = agent.config().await;
        config.ok_or_else(|| io::Error::other("no agent says who this host is"))
    }

    /// Reads files that were replaced, those too that could not be used when a connection last met them. What cannot be used leaves what was
    /// read before in force.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn reread(&self) -> Result<(), TlsError> {
        match &self.0 {
            Source::Files(kept) => kept.reread(),
            Source::Agent(_) => Ok(()),
        }
    }
}

impl Kept {
    fn config(&self) -> Arc<ClientConfig> {
        let mut read = self.lock();
        let stamps = self.files.stamps();
        if read.stamps != stamps
            && let Err(error) = self.renew(&mut read)
        {
            tracing::error!(
                %error,
                "certificates for a backend cannot be used: those before stay in force"
            );
        }
        read.stamps = stamps;
        Arc::clone(&read.config)
    }

    fn reread(&self) -> Result<(), TlsError> {
        let mut read = self.lock();
        let stamps = self.files.stamps();
        let result = if read.good && read.stamps == stamps {
            Ok(())
        } else {
            self.renew(&mut read)
        };
        read.stamps = stamps;
        result
    }

    // The stamps are taken before: a file that is replaced while it is read is another one the next time.
    fn renew(&self, read: &mut Read) -> Result<(), TlsError> {
        let renewed = self.files.read(self.spiffe.as_deref(), self.protocol);
        read.good = renewed.is_ok();
        read.config = renewed?;
        tracing::info!(ca = %self.files.ca.display(), "certificates for a backend were read again");
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn below(root: &Path, ca: &str, identity: Option<&(String, String)>) -> Self {
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
            // The time of the last change of any kind: one that gets other rights is another one too.
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
            shown = Some((certificates(cert)?, secret(key)?));
        }
        let cert = self.identity.as_ref().map_or(&self.ca, |(cert, _)| cert);
        configuration(authorities, spiffe, shown, protocol)
            .map(Arc::new)
            .map_err(|error| failed(cert, &error))
    }
}

/// Who vouches for others.
#[derive(Debug)]
struct Authorities {
    roots: RootCertStore,
    /// What some of them take back, for workloads of an id.
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

/// How to connect to whoever these authorities vouch for, by its host's name or as the workload of an id, and what is shown in turn.
fn configuration(
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
            .with_custom_certificate_verifier(Arc::new(Workload::new(id, authorities, &provider))),
        None => builder.with_root_certificates(authorities.roots),
    };
    let mut config = match shown {
        Some((chain, secret)) => builder.with_client_auth_cert(chain, secret)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    if revocable {
        // A session that is taken up again shows no certificate, which may have been revoked since, or whose list may have lapsed.
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// The file cannot be read, or holds none, or half of one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause: String| TlsError {
        path: path.to_owned(),
        cause,
    };
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&bytes(path, MAX_FILE_BYTES)?).collect();
    let read = read.map_err(|error| failed(error.to_string()))?;
    if read.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    Ok(read)
}

/// The first private key of a PEM file.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn secret(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let secret = PrivateKeyDer::from_pem_slice(&bytes(path, MAX_FILE_BYTES)?);
    secret.map_err(|error| TlsError {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

/// What a file of at most so many bytes holds.
///
/// # Errors
/// It cannot be read, is no file, or is larger.
pub fn bytes(path: &Path, max_bytes: u64) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = open(path)?;
        let content = if file.metadata()?.is_file() {
            at_most(file, max_bytes)?
        } else {
            None
        };
        let mib = max_bytes >> 20;
        content.ok_or_else(|| io::Error::other(format!("not a file of at most {mib} MiB")))
    };
    read().map_err(|error| TlsError {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

/// Whose a workload's certificate is: it holds one URI and no other (X.509-SVID, 2).
fn workload(leaf: &CertificateDer<'_>) -> Option<String> {
    let leaf = webpki::EndEntityCert::try_from(leaf).ok()?;
    let mut names = leaf.valid_uri_names();
    let name = names.next()?;
    names.next().is_none().then(|| name.to_owned())
}

/// Knows a server by the SPIFFE ID in its certificate (X.509-SVID): its address says nothing then.
#[derive(Debug)]
struct Workload {
    id: String,
    authorities: Authorities,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Workload {
    fn new(id: &str, authorities: Authorities, provider: &CryptoProvider) -> Self {
        Self {
            id: id.to_owned(),
            authorities,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// That none of the chain's authorities takes it back. Those that have no list do not; one of whose lists has lapsed may.
    fn stands(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let leaf = webpki::EndEntityCert::try_from(end_entity)?;
        // One after the other: of several lists of one authority's name only the first would be asked.
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
                // Another authority's of the same name: one that was replaced. Which of the two signatures is told depends on who of them is tried first; that
                // the certificate itself is good is known already, and that it is revoked would be told before either.
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

impl ServerCertVerifier for Workload {
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
        self.stands(end_entity, intermediates, now)
            .map_err(|error| {
                let cause = match error {
                    webpki::Error::CertRevoked => CertificateError::Revoked,
                    webpki::Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
                    other => CertificateError::Other(OtherError(Arc::new(other))),
                };
                Error::InvalidCertificate(cause)
            })?;
        if workload(end_entity).as_deref() == Some(self.id.as_str()) {
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
