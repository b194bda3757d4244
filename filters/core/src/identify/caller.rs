//! Collects what the proxy knows about a caller and passes it to the policy's
//! [`tensorgate_identity::Identifier`]. This module makes no decision.

use std::net::{IpAddr, SocketAddr};

use tensorgate_identity::{
    Attempt, Attempts, Certificate, CheckBudget, ConfirmationFault, Evidence, Identified,
    KeySource, Missing, PeerNames, Verifier, VerifyFault,
};
use tensorgate_policy::Now;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::request::Credential;

use crate::host::Proxy;
use crate::keys::AwaitedFetch;
use crate::root::GateRoot;
use crate::store::lockout::Marks;

/// Identifies the caller from the request head and from properties of the connection.
pub fn identify_caller(
    proxy: &mut dyn Proxy,
    root: &GateRoot,
    credential: Credential<'_>,
    certificate: Option<&str>,
    now: Now,
    awaited: Option<&AwaitedFetch>,
) -> Identified {
    let metadata: Vec<_> = root
        .identifier
        .metadata_paths()
        .map(|(filter, keys)| {
            let path = ["metadata", "filter_metadata", filter].into_iter();
            let path: Vec<_> = path.chain(keys.iter().map(String::as_str)).collect();
            text(proxy, &path)
        })
        .collect();
    // These properties are read only if there is a certificate.
    let mut name = |path: &[&str]| certificate.and_then(|_| text(proxy, path));
    let names = PeerNames {
        uri: name(&["connection", "uri_san_peer_certificate"]),
        dns: name(&["connection", "dns_san_peer_certificate"]),
        sha256: root
            .identifier
            .needs_certificate_digest()
            .then(|| name(&["connection", "sha256_peer_certificate_digest"]))
            .flatten()
            .unwrap_or_default(),
    };
    let source = root
        .identifier
        .uses_sources()
        .then(|| proxy.source_address())
        .flatten();
    let evidence = Evidence {
        credential,
        certificate: certificate.map(|header| Certificate { header, names }),
        metadata: &metadata,
        source: source.as_deref().and_then(address),
    };
    root.identifier.identify(
        &evidence,
        now.unix_s,
        root.generation(),
        &mut ByProxy {
            proxy,
            root,
            now,
            awaited,
        },
        &mut root.tokens.borrow_mut(),
    )
}

/// A property as text; `None` if the property is missing, unreadable or not text.
fn text(proxy: &mut dyn Proxy, path: &[&str]) -> Option<String> {
    let value = proxy.property(path).ok()??;
    String::from_utf8(value).ok()
}

/// The proxy as signature verifier, counter of failed attempts and source of keys.
struct ByProxy<'p, 'r> {
    proxy: &'p mut dyn Proxy,
    root: &'r GateRoot,
    now: Now,
    /// The key fetch that the request has waited for.
    awaited: Option<&'r AwaitedFetch>,
}

impl<'r> ByProxy<'_, 'r> {
    /// `None` if the policy counts no failures. The address is read only when a failure is counted.
    fn marks(&mut self) -> Option<Marks<'r>> {
        let rule = self.root.policy().lockout()?;
        let key = self.root.context_key()?;
        let source = self.proxy.source_address();
        let source = source.as_deref().and_then(address);
        let prefix = self.root.key_prefix();
        Some(Marks::new(rule, key, prefix, source, self.now))
    }
}

impl Attempts for ByProxy<'_, '_> {
    fn check_budget(&mut self, attempt: &Attempt) -> CheckBudget {
        self.marks().map_or(CheckBudget::Check, |marks| {
            marks.check_budget(self.proxy, attempt)
        })
    }

    fn record_valid(&mut self, attempt: &Attempt) {
        if let Some(marks) = self.marks() {
            marks.record_valid(self.proxy, attempt);
        }
    }

    fn record_failure(&mut self, attempt: &Attempt) -> bool {
        self.marks()
            .is_some_and(|marks| marks.record_failure(self.proxy, attempt))
    }

    fn record_unconfirmed(&mut self, fault: ConfirmationFault) {
        self.proxy.count_unconfirmed(fault);
    }
}

impl KeySource for ByProxy<'_, '_> {
    fn missing(&mut self, issuer: &str) -> Missing {
        let keys = self.root.keys.borrow();
        keys.missing(self.proxy, issuer, self.now, self.awaited)
    }
}

impl Verifier for ByProxy<'_, '_> {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.proxy.verify(key, signed, signature)
    }

    fn verify_anew(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.proxy.verify_anew(key, signed, signature)
    }
}

/// Parses the address of `10.0.0.1:443` or `[::1]:443`, the forms in which proxies write a peer.
pub(super) fn address(peer: &str) -> Option<IpAddr> {
    peer.parse::<SocketAddr>()
        .map(|peer| peer.ip())
        .or_else(|_| peer.parse())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_with_a_port_or_without() {
        for (peer, expected) in [
            ("10.0.0.1:443", Some(IpAddr::from([10, 0, 0, 1]))),
            ("10.0.0.1", Some(IpAddr::from([10, 0, 0, 1]))),
            ("[::1]:443", Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))),
            ("::1", Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))),
            ("", None),
            ("@/run/socket", None),
            ("10.0.0.1:443, 10.0.0.2:443", None),
            ("localhost:443", None),
        ] {
            assert_eq!(address(peer), expected, "{peer}");
        }
    }
}
