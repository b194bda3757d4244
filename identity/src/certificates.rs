//! Certificates to clients: the one that the connection has shown, or, where a proxy in front is one that the policy names, the one that this
//! proxy says its own client has shown.
//!
//! What a proxy in front writes is believed as far as nobody but it can have written it. Of its elements the one counts that stands as many places from
//! the right as there are trusted proxies. Names are read off the certificate itself where the element holds it. Where it does not, a URI
//! counts if the element is the only one and has no other name: a name without quotes could hold further keys, or further elements.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{PeerName, Revoked, Tls};

use crate::evidence::{Certificate, PeerNames};
use crate::x509;
use crate::xfcc::{self, ForwardedNames};

/// Whose each certificate is, under one policy.
#[derive(Debug)]
pub struct Certificates {
    clients: BTreeMap<PeerName, String>,
    /// Proxies in front whose word on certificates counts.
    forwarders: BTreeSet<PeerName>,
    /// Elements of such proxies, beside the one whose connection it is.
    between: usize,
    revoked: Revoked,
}

/// What a certificate proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// Nobody has shown one.
    Nothing,
    /// A client, and the log's name of the certificate.
    Client(String, String),
    /// Nobody, and why.
    Nobody(&'static str),
}

/// The names of a certificate that may be somebody's: its only URI and its first DNS name.
type Names = Vec<PeerName>;

const ODD: &str = "the certificate's header is odd, or it has several uris";
const REVOKED: &str = "the certificate is revoked";
const DIFFERS: &str = "the certificate's names are not what its header says";

impl Certificates {
    /// Indexes a policy's names.
    pub fn new(policy: &Policy) -> Self {
        let listen = policy.listen();
        let mut clients = BTreeMap::new();
        // Without a question for certificates the header, if there is one, is nobody's word.
        if listen.asks_for_certificates() {
            let named = policy.clients().iter();
            clients.extend(
                named.filter_map(|client| Some((client.mtls()?.clone(), client.name().into()))),
            );
        }
        let forwarders = listen.tls().map_or(&[][..], Tls::forwarders);
        let hops = usize::try_from(listen.trusted_hops()).unwrap_or(usize::MAX);
        Self {
            clients,
            forwarders: forwarders.iter().cloned().collect(),
            between: hops.saturating_sub(1),
            revoked: policy.revoked().clone(),
        }
    }

    /// Whether proxies in front may speak of certificates: then the proxy has to say which one the connection has shown.
    pub fn are_forwarded(&self) -> bool {
        !self.forwarders.is_empty()
    }

    /// Whose a certificate is.
    pub fn judge(&self, shown: &Certificate<'_>) -> Proven {
        if self.clients.is_empty() {
            return Proven::Nothing;
        }
        let judged = if self.are_forwarded() {
            self.behind_others(shown)
        } else {
            xfcc::parse(shown.header)
                .ok_or(ODD)
                .and_then(|own| self.of_connection(&own, &shown.names))
                .and_then(|names| self.client(&names))
        };
        judged.unwrap_or_else(Proven::Nobody)
    }

    fn behind_others(&self, shown: &Certificate<'_>) -> Result<Proven, &'static str> {
        let (before, own) = xfcc::split_own(shown.header, &shown.names.sha256).ok_or(ODD)?;
        let own = xfcc::parse(own).ok_or(ODD)?;
        let names = self.of_connection(&own, &shown.names)?;
        if !self.is_forwarder(&names) {
            // What came before is a client's own word.
            return self.client(&names);
        }
        let elements = xfcc::parse_all(before).ok_or("the certificates' header is odd")?;
        if elements.len() > 1 && elements.iter().any(|element| element.named) {
            return Err("several certificates, and names without quotes");
        }
        let (rest, between) = elements
            .split_at_checked(elements.len().saturating_sub(self.between))
            .ok_or(ODD)?;
        for proxy in between {
            if !self.is_forwarder(&self.of_element(proxy)?) {
                return Err("another proxy than those that the policy names");
            }
        }
        // A proxy in front proves nobody by itself: its own client has shown nothing.
        let Some(client) = rest.last() else {
            return Ok(Proven::Nothing);
        };
        self.client(&self.of_element(client)?)
    }

    fn is_forwarder(&self, names: &Names) -> bool {
        names.iter().any(|name| self.forwarders.contains(name))
    }

    /// The certificate of the connection: its only URI and its first DNS name count, as the header and the connection's own properties agree on
    /// them. Further DNS names stand in the header alone, where a name that holds `;DNS=` would be two.
    fn of_connection(&self, own: &ForwardedNames, told: &PeerNames) -> Result<Names, &'static str> {
        // What it is called is told elsewhere: it is read only where its number matters.
        let is_needed = self.revoked.serials().is_some();
        self.read(own, is_needed)?;
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (uri, dns) = (named(&told.uri), named(&told.dns));
        if own.uri != uri || own.dns.first() != dns.as_ref() {
            return Err(DIFFERS);
        }
        Ok(names(uri, dns))
    }

    /// A certificate that a proxy in front speaks of.
    fn of_element(&self, element: &ForwardedNames) -> Result<Names, &'static str> {
        match self.read(element, true)? {
            Some(read) => {
                if read.uris.len() > 1 {
                    return Err("the certificate has several uris");
                }
                let uri = read.uris.into_iter().next();
                if element.named && element.uri != uri {
                    return Err(DIFFERS);
                }
                Ok(names(uri, read.dns.into_iter().next()))
            }
            None if element.dns.is_empty() => Ok(names(element.uri.clone(), None)),
            None => Err("names without quotes, and not the certificate itself"),
        }
    }

    /// The certificate itself, if it `is_needed` and the header holds it. A revoked one is nobody's.
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
            (Some(_), None) => Err("the header says no serial number"),
            (Some(revoked), Some(it)) => {
                if revoked.hold(&it.serial, it.authority_key.as_deref()) {
                    return Err(REVOKED);
                }
                Ok(read)
            }
        }
    }

    fn client(&self, names: &Names) -> Result<Proven, &'static str> {
        let mut found: Option<(&String, &PeerName)> = None;
        for name in names {
            let Some(client) = self.clients.get(name) else {
                continue;
            };
            match &found {
                Some((first, _)) if *first != client => {
                    return Err("the certificate proves two clients");
                }
                Some(_) => {}
                None => found = Some((client, name)),
            }
        }
        match found {
            Some((client, PeerName::Uri(name) | PeerName::Dns(name))) => {
                Ok(Proven::Client(client.clone(), format!("mtls:{name}")))
            }
            None => Err("the certificate proves no client"),
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
