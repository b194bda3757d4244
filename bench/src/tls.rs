//! A server's certificate and a client that trusts it, both made for one run.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::lab::Lab;
use crate::outcome::Outcome;

/// A listener's certificate and key.
pub struct Identity {
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub private_key: PathBuf,
    /// The client configuration that trusts it.
    pub trust: Trust,
}

/// A client's TLS configuration.
#[derive(Clone)]
pub struct Trust(pub Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Trust")
    }
}

impl Identity {
    /// Makes a new certificate for this machine's loopback address.
    pub fn new(lab: &Lab) -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let (certificate, private_key) = (lab.path("server.pem"), lab.path("server.key"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&private_key, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            certificate,
            private_key,
            trust: Trust(Arc::new(config)),
        })
    }
}
