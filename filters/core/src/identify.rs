//! Identifies the caller: from a credential if this filter has that capability, otherwise from the
//! previous tensorgate filter. This module makes no decision; an unknown caller is a valid result.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use tensorgate_identity::{
    Attempt, Attempts, Certificate, CheckBudget, Evidence, Identified, KeySource, Missing,
    PeerNames, Verifier, VerifyFault,
};
use tensorgate_policy::Now;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::request::{Credential, Identity, Proofs};
use tensorgate_wire::context;
use tensorgate_wire::headers::ReadHead;

use crate::gate::waiting::WaitPermit;
use crate::host::{Field, HostFault, Proxy};
use crate::keys::AwaitedFetch;
use crate::lockout::Marks;
use crate::root::GateRoot;

/// Results of the previous filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PreviousFilters {
    /// Identity of the caller, if a previous tensorgate filter has set it.
    said: Option<SharedIdentity>,
    /// The context that the previous filter signed.
    pub(crate) context: Option<String>,
}

impl PreviousFilters {
    /// Reads the results of the previous filters and removes their fields (signed context, claims)
    /// from the fields to evaluate. In the first filter of a chain, a context comes from the
    /// client: it stays and makes the request ambiguous, as does a second context. A client's own
    /// claim headers are removed.
    pub(crate) fn read(
        root: &GateRoot,
        proxy: &mut dyn Proxy,
        fields: &mut Vec<Field>,
    ) -> Result<Self, HostFault> {
        if root.filter.capabilities().identify {
            return Ok(Self::default());
        }
        let is_claim = |field: &Field| root.policy.is_for_claims(&field.0);
        let Some(said) = SharedIdentity::read(proxy)? else {
            // An identifying filter replaces all fields. Without such a filter, claim headers are
            // removed here.
            for (name, _) in fields.iter().filter(|field| is_claim(field)) {
                let name = String::from_utf8_lossy(name);
                proxy.remove_request_header(&name)?;
            }
            return Ok(Self::default());
        };
        if root.policy.passes_claims_on() {
            fields.retain(|field| !is_claim(field));
        }
        let place = fields
            .iter()
            .position(|(name, _)| name.eq_ignore_ascii_case(context::HEADER.as_bytes()));
        let context = place.map(|place| fields.remove(place).1);
        Ok(Self {
            said: Some(said),
            // A value that is not text fails verification like any other invalid value.
            context: context.map(|value| String::from_utf8(value).unwrap_or_default()),
        })
    }

    /// Whether no previous filter has identified the caller.
    pub(crate) const fn is_empty(&self) -> bool {
        self.said.is_none()
    }
}

/// The caller, or the fetch to wait for before the caller can be identified.
pub(crate) enum CallerState {
    Known(Identified),
    Awaits(AwaitedFetch, WaitPermit),
}

/// Identifies the caller. A filter without that capability and without a previous filter still uses
/// what the proxy has verified: a client certificate or metadata of another filter. `awaited`: the
/// fetch that the request has waited for; a request waits once.
pub(crate) fn identify(
    proxy: &mut dyn Proxy,
    root: &GateRoot,
    previous: &PreviousFilters,
    read: &ReadHead<'_>,
    now: Now,
    awaited: Option<&AwaitedFetch>,
) -> CallerState {
    if let Some(said) = &previous.said {
        let client = said.client.clone();
        let identity = client.map_or(Identity::Missing, Identity::Client);
        // Missing proofs were rejected where the credential was evaluated.
        return CallerState::Known(Identified {
            proofs: said.proofs,
            ..Identified::new(identity, said.credential.clone())
        });
    }
    let credential = if root.filter.capabilities().identify {
        read.credential
    } else {
        Credential::None
    };
    let refresh = |proxy: &mut dyn Proxy, all| {
        let mut tokens = root.tokens.borrow_mut();
        let mut keys = root.keys.borrow_mut();
        keys.refresh(proxy, tokens.keys_mut(), now, all)
    };
    refresh(proxy, awaited.is_some());
    let certificate = read.certificate;
    let mut identified = identify_caller(proxy, root, credential, certificate, now, awaited);
    // Another worker may have fetched the missing keys.
    if identified.awaits.is_some() && refresh(proxy, true) {
        identified = identify_caller(proxy, root, credential, certificate, now, awaited);
    }
    // A request waits once. An ambiguous request never waits: its duplicate fields are removed
    // before it would be read again.
    let waits = awaited.is_none() && !read.is_ambiguous();
    let Some(issuer) = identified.awaits.as_ref().filter(|_| waits) else {
        return CallerState::Known(identified);
    };
    let Some(permit) = root.key_waiters.try_acquire() else {
        return CallerState::Known(identified);
    };
    match root.keys.borrow_mut().request_refresh(proxy, issuer, now) {
        Some(awaited) => CallerState::Awaits(awaited, permit),
        None => CallerState::Known(identified),
    }
}

/// Removes an API key that is part of a header field. The proxy then cannot log or forward the key.
pub(crate) fn remove_api_key(proxy: &mut dyn Proxy, read: &ReadHead<'_>) -> Result<(), HostFault> {
    if read.key_in_path {
        proxy.set_request_header(":path", &read.path)?;
    }
    if read.key_in_cookie {
        proxy.remove_request_header("cookie")?;
    }
    Ok(())
}

// The caller's identity, passed from one tensorgate filter to the next as a read-only property of
// the request.
//
// The first filter that identifies the caller sets the property; later filters read it. A header
// could come from a client; this property cannot. The property contains no verdict.

/// Name of the property. Envoy stores it as filter state `wasm.tg_identity`.
pub const PROPERTY: &str = "tg_identity";

/// Identity of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedIdentity {
    /// Name of the client; `None` for a public request.
    pub client: Option<String>,
    /// Log name of the credential.
    pub credential: Option<String>,
    /// Proofs that the credential provided.
    pub proofs: Proofs,
}

impl SharedIdentity {
    /// Reads the identity that a previous filter has set; `None` if there is none. Invalid contents
    /// are a fault.
    ///
    /// # Errors
    /// The proxy failed, or the property is not an identity.
    pub fn read(proxy: &mut dyn Proxy) -> Result<Option<Self>, HostFault> {
        let Some(text) = proxy.property(&[PROPERTY])? else {
            return Ok(None);
        };
        Self::parse(&text).map(Some).ok_or(HostFault {
            call: "get_property",
            status: NOT_OURS,
        })
    }

    /// Sets the identity. The proxy rejects a second write.
    ///
    /// # Errors
    /// The proxy failed.
    pub fn publish(&self, proxy: &mut dyn Proxy) -> Result<(), HostFault> {
        let proofs = self.proofs.to_bits();
        let said = json!({"client": self.client, "credential": self.credential, "proofs": proofs});
        let text = said.to_string();
        proxy.set_property(PROPERTY, &text)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let members = value.as_object()?;
        let text = |name: &str| match members.get(name) {
            Some(Value::String(text)) => Some(Some(text.clone())),
            Some(Value::Null) => Some(None),
            _ => None,
        };
        Some(Self {
            client: text("client")?,
            credential: text("credential")?,
            proofs: Proofs::from_bits(u8::try_from(members.get("proofs")?.as_u64()?).ok()?)?,
        })
    }
}

/// proxy-wasm's `SERIALIZATION_FAILURE`: the property has an unknown format.
const NOT_OURS: u32 = 3;

// Collects what the proxy knows about a caller and passes it to the policy's
// [`tensorgate_identity::Identifier`]. This module makes no decision.

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
        &root.generation,
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
        let rule = self.root.policy.lockout()?;
        let key = self.root.context_key.as_ref()?;
        let source = self.proxy.source_address();
        let source = source.as_deref().and_then(address);
        Some(Marks::new(rule, key, source, self.now))
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
}

/// Parses the address of `10.0.0.1:443` or `[::1]:443`, the forms in which proxies write a peer.
fn address(peer: &str) -> Option<IpAddr> {
    peer.parse::<SocketAddr>()
        .map(|peer| peer.ip())
        .or_else(|_| peer.parse())
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use tensorgate_policy::request::Proof;

    #[test]
    fn only_identities_in_our_own_format_are_read() {
        let named = |client: &str| SharedIdentity {
            client: Some(client.into()),
            credential: Some("jwt:i:s".into()),
            proofs: Proofs::NONE.with(Proof::Jwt),
        };
        for (text, expected) in [
            (
                &br#"{"client": "a", "credential": "jwt:i:s", "proofs": 2}"#[..],
                Some(named("a")),
            ),
            (
                br#"{"client": null, "credential": null, "proofs": 0}"#,
                Some(SharedIdentity::default()),
            ),
            (br#"{"client": "a"}"#, None),
            (br#"{"client": "a", "credential": null}"#, None),
            (
                br#"{"client": "a", "credential": null, "proofs": 16}"#,
                None,
            ),
            (
                br#"{"client": "a", "credential": null, "proofs": 256}"#,
                None,
            ),
            (
                br#"{"client": "a", "credential": null, "proofs": -1}"#,
                None,
            ),
            (br#"{"client": "a", "credential": 1}"#, None),
            (b"{}", None),
            (b"", None),
            (br#"{"client": 1}"#, None),
            (b"\"a\"", None),
            (b"\xff", None),
        ] {
            assert_eq!(SharedIdentity::parse(text), expected, "{text:?}");
        }
    }
}

#[cfg(test)]
mod caller_tests {
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
