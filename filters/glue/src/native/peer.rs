//! The caller as a proxy knows it, beside what it sends, in the forms that Envoy gives it. It verifies nothing: a certificate here is one that
//! Envoy would have verified.

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

/// Subject alternative names of a verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// URIs.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
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
            [first("uri", &shown.uris), first("dns", &shown.dns)]
                .into_iter()
                .flatten()
        });
        metadata.chain(names)
    }
}

impl PeerCertificate {
    /// `x-forwarded-client-cert` as Envoy writes it: digest, URIs, DNS names. Envoy quotes nothing, so nothing is quoted here.
    pub(super) fn header(&self) -> String {
        let mut header = format!("Hash={}", "0".repeat(64));
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
