//! The caller as a proxy knows it, beside what it sends, in the forms that Envoy gives it. It verifies nothing: a certificate here is one that
//! Envoy would have verified.

use tensorgate_identity::x509;
use tensorgate_policy::hex;

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address and port.
    pub address: String,
    /// The certificate that it has shown.
    pub certificate: Option<PeerCertificate>,
    /// What other filters have left in dynamic metadata: namespace, keys, text.
    pub metadata: Vec<(String, Vec<String>, String)>,
}

/// A verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// URIs among its subject alternative names.
    pub uris: Vec<String>,
    /// DNS names among them.
    pub dns: Vec<String>,
    /// Its digest.
    pub sha256: [u8; 32],
    /// The whole of it, PEM, where there is more to it than names.
    pub pem: Option<String>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:50000".to_owned(),
            certificate: None,
            metadata: Vec::new(),
        }
    }
}

impl Peer {
    /// Properties of its requests, by their paths.
    pub(super) fn properties(&self) -> impl Iterator<Item = (String, String)> {
        let metadata = self.metadata.iter().map(|(filter, keys, text)| {
            let path = format!("metadata.filter_metadata.{filter}.{}", keys.join("."));
            (path, text.clone())
        });
        let first = |name: &str, names: &[String]| {
            let path = format!("connection.{name}_san_peer_certificate");
            names.first().map(|name| (path, name.clone()))
        };
        let names = self.certificate.iter().flat_map(move |shown| {
            let digest = "connection.sha256_peer_certificate_digest".to_owned();
            let digest = Some((digest, hex(&shown.sha256)));
            [first("uri", &shown.uris), first("dns", &shown.dns), digest]
                .into_iter()
                .flatten()
        });
        metadata.chain(names)
    }
}

impl PeerCertificate {
    /// What it says of itself, as its text has it; `None` for a text that is not one certificate.
    pub fn read(pem: &str) -> Option<Self> {
        let read = x509::from_pem(pem)?;
        Some(Self {
            uris: read.uris,
            dns: read.dns,
            sha256: read.sha256,
            pem: Some(pem.to_owned()),
        })
    }

    /// `x-forwarded-client-cert` as Envoy writes it: digest, certificate, URIs, DNS names. Envoy quotes no name, so none is quoted here.
    pub(super) fn header(&self) -> String {
        let mut header = format!("Hash={}", hex(&self.sha256));
        if let Some(pem) = &self.pem {
            header.push_str(&format!(";Cert=\"{}\"", escaped(pem)));
        }
        if self.uris.is_empty() {
            header.push_str(";URI=");
        }
        for uri in &self.uris {
            header.push_str(&format!(";URI={uri}"));
        }
        for name in &self.dns {
            header.push_str(&format!(";DNS={name}"));
        }
        header
    }
}

/// A certificate's text with the escapes that Envoy writes.
fn escaped(pem: &str) -> String {
    pem.chars()
        .map(|character| match character {
            '\n' => "%0A".to_owned(),
            ' ' => "%20".to_owned(),
            '+' => "%2B".to_owned(),
            '/' => "%2F".to_owned(),
            '=' => "%3D".to_owned(),
            other => other.to_string(),
        })
        .collect()
}
