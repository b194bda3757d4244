//! Maps certificates to clients: the connection's certificate, or the one that a trusted proxy in
//! front reports.
//!
//! Elements of `x-forwarded-client-cert` are trusted only if a trusted proxy must have written
//! them: the element at the position of the number of trusted proxies, from the right. Names are
//! read from the certificate itself if the element contains it. Otherwise a URI is accepted only
//! from a single element without other names, because unquoted names could contain further keys or
//! elements.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{PeerName, Revoked, Tls};
use tensorgate_policy::values::Shared;

use crate::evidence::{Certificate, PeerNames};
use crate::x509;
use crate::xfcc::{self, ForwardedNames};

/// Clients of certificates under one policy.
#[derive(Debug)]
pub struct Certificates {
    /// Whether Envoy requests certificates. If not, a header from the client is not trusted.
    are_requested: bool,
    clients: BTreeMap<PeerName, String>,
    /// Trusted proxies in front.
    forwarders: Vec<PeerName>,
    /// Number of elements of such proxies, besides the connection's own.
    between: usize,
    revoked: Shared<Revoked>,
}

/// Result for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateProof {
    /// No certificate.
    None,
    /// A client, and the certificate's log name.
    Client(String, String),
    /// No client, and the cause.
    Rejected(&'static str),
}

/// Names of a certificate that may identify a client: its only URI and its first DNS name.
type Names = Vec<PeerName>;

/// The certificate of the caller, which is not revoked.
struct Presented {
    sha256: [u8; 32],
    names: Names,
}

const ODD: &str = "the certificate's header is odd, or it has several uris";
const REVOKED: &str = "the certificate is revoked";
const DIFFERS: &str = "the certificate's names are not what its header says";

impl Certificates {
    /// Indexes a policy's names.
    pub fn new(policy: &Policy) -> Self {
        let listen = policy.listen();
        let mut clients = BTreeMap::new();
        let are_requested = listen.asks_for_certificates();
        if are_requested {
            let named = policy.clients().iter();
            clients.extend(
                named.filter_map(|client| Some((client.mtls()?.clone(), client.name().into()))),
            );
        }
        let forwarders = listen.tls().map_or(&[][..], Tls::forwarders);
        let hops = usize::try_from(listen.trusted_hops()).unwrap_or(usize::MAX);
        Self {
            are_requested,
            clients,
            forwarders: forwarders.to_vec(),
            between: hops.saturating_sub(1),
            revoked: policy.revoked().clone(),
        }
    }

    /// Whether proxies in front may forward certificates. Then the connection's certificate is
    /// needed too.
    pub fn are_forwarded(&self) -> bool {
        !self.forwarders.is_empty()
    }

    /// The client of a certificate.
    pub fn judge(&self, shown: &Certificate<'_>) -> CertificateProof {
        if self.clients.is_empty() {
            return CertificateProof::None;
        }
        self.presented(shown)
            .and_then(|presented| match presented {
                Some(presented) => self.client(&presented.names),
                None => Ok(CertificateProof::None),
            })
            .unwrap_or_else(CertificateProof::Rejected)
    }

    /// SHA-256 of the caller's certificate, whether or not it is a client's.
    pub fn sha256(&self, shown: &Certificate<'_>) -> Option<[u8; 32]> {
        let presented = self.are_requested.then(|| self.presented(shown))?;
        Some(presented.ok()??.sha256)
    }

    /// The caller's certificate; `None` if a proxy in front has none of its client.
    fn presented(&self, shown: &Certificate<'_>) -> Result<Option<Presented>, &'static str> {
        if !self.are_forwarded() {
            let own = xfcc::parse(shown.header).ok_or(ODD)?;
            return self.of_connection(&own, &shown.names).map(Some);
        }
        let (before, own) = xfcc::split_own(shown.header, &shown.names.sha256).ok_or(ODD)?;
        let own = xfcc::parse(own).ok_or(ODD)?;
        let connection = self.of_connection(&own, &shown.names)?;
        if !self.is_forwarder(&connection.names) {
            // Earlier elements come from the client.
            return Ok(Some(connection));
        }
        let elements = xfcc::parse_all(before).ok_or("the certificates' header is odd")?;
        if elements.len() > 1 && elements.iter().any(|element| element.named) {
            return Err("several certificates, and names that are not quoted");
        }
        let (rest, between) = elements
            .split_at_checked(elements.len().saturating_sub(self.between))
            .ok_or(ODD)?;
        for proxy in between {
            if !self.is_forwarder(&self.of_element(proxy)?.names) {
                return Err("the peer's certificate is not of a proxy in listen.tls.forwarded_by");
            }
        }
        // A proxy in front is not a client itself: its own client showed no certificate.
        rest.last()
            .map(|client| self.of_element(client))
            .transpose()
    }

    fn is_forwarder(&self, names: &Names) -> bool {
        names.iter().any(|name| self.forwarders.contains(name))
    }

    /// The connection's certificate, with its only URI and its first DNS name, on which the header
    /// and the connection's properties agree. Further DNS names are only in the header, where a
    /// name with `;DNS=` would look like two.
    fn of_connection(
        &self,
        own: &ForwardedNames,
        peer: &PeerNames,
    ) -> Result<Presented, &'static str> {
        // The certificate's text is only needed for its serial number.
        let is_needed = self.revoked.serials().is_some();
        self.read(own, is_needed)?;
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (uri, dns) = (named(&peer.uri), named(&peer.dns));
        if own.uri != uri || own.dns.first() != dns.as_ref() {
            return Err(DIFFERS);
        }
        Ok(Presented {
            sha256: own.sha256,
            names: names(uri, dns),
        })
    }

    /// A certificate that a proxy in front reports.
    fn of_element(&self, element: &ForwardedNames) -> Result<Presented, &'static str> {
        let names = match self.read(element, true)? {
            Some(read) => {
                if read.uris.len() > 1 {
                    return Err("the certificate has several URIs");
                }
                let uri = read.uris.into_iter().next();
                if element.named && element.uri != uri {
                    return Err(DIFFERS);
                }
                names(uri, read.dns.into_iter().next())
            }
            None if element.dns.is_empty() => names(element.uri.clone(), None),
            None => return Err("names that are not quoted, without the certificate itself"),
        };
        Ok(Presented {
            sha256: element.sha256,
            names,
        })
    }

    /// Parses the certificate, if it `is_needed` and present. A revoked one is rejected.
    fn read(
        &self,
        shown: &ForwardedNames,
        is_needed: bool,
    ) -> Result<Option<x509::Read>, &'static str> {
        if self.revoked.certificates().contains(&shown.sha256) {
            return Err(REVOKED);
        }
        let text = shown.certificate.as_deref().filter(|_| is_needed);
        let read = match text {
            Some(text) => {
                let read = x509::from_escaped_pem(text).filter(|it| it.sha256 == shown.sha256);
                Some(read.ok_or("the certificate in the header cannot be read, or is another")?)
            }
            None => None,
        };
        match (self.revoked.serials(), &read) {
            (None, _) => Ok(read),
            (Some(_), None) => Err("the header has no serial number"),
            (Some(revoked), Some(it)) => {
                if revoked.hold(&it.serial, it.authority_key.as_deref()) {
                    return Err(REVOKED);
                }
                Ok(read)
            }
        }
    }

    fn client(&self, names: &Names) -> Result<CertificateProof, &'static str> {
        let mut found: Option<(&String, &PeerName)> = None;
        for name in names {
            let Some(client) = self.clients.get(name) else {
                continue;
            };
            match &found {
                Some((first, _)) if *first != client => {
                    return Err("the certificate matches two clients");
                }
                Some(_) => {}
                None => found = Some((client, name)),
            }
        }
        match found {
            Some((client, PeerName::Uri(name) | PeerName::Dns(name))) => Ok(
                CertificateProof::Client(client.clone(), format!("mtls:{name}")),
            ),
            None => Err("the certificate matches no client"),
        }
    }
}

fn names(uri: Option<String>, dns: Option<String>) -> Names {
    let uri = uri.filter(|uri| !uri.is_empty()).map(PeerName::Uri);
    let dns = dns.map(|name| PeerName::Dns(name.to_ascii_lowercase()));
    uri.into_iter().chain(dns).collect()
}

#[cfg(test)]
mod tests;
