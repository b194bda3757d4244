//! The caller's connection, in the forms that Envoy provides. Nothing is verified here: a
//! certificate is one that Envoy would have verified.

use tensorgate_identity::x509;
use tensorgate_policy::hex;

/// The caller's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address and port.
    pub address: String,
    /// The client certificate.
    pub certificate: Option<PeerCertificate>,
    /// Dynamic metadata of other filters: namespace, keys, text.
    pub metadata: Vec<(String, Vec<String>, String)>,
}

/// A verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// URI subject alternative names.
    pub uris: Vec<String>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// SHA-256 digest.
    pub sha256: [u8; 32],
    /// The PEM text, if more than the names matters.
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
    /// Request properties with their paths.
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
    /// Parses a PEM certificate; `None` if the text is not exactly one certificate.
    pub fn read(pem: &str) -> Option<Self> {
        let read = x509::from_pem(pem)?;
        Some(Self {
            uris: read.uris,
            dns: read.dns,
            sha256: read.sha256,
            pem: Some(pem.to_owned()),
        })
    }

    /// `x-forwarded-client-cert` as Envoy writes it: digest, certificate, URIs, DNS names. Envoy
    /// does not quote names, so they are not quoted here.
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

/// The certificate's text with Envoy's escapes.
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
