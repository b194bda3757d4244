//! Everything that came as proof to one client, or to none.
//!
//! A credential in the header fields is judged first, and a refused one is refused: no certificate is looked at in its stead. A certificate that
//! proves nobody stands beside a good credential unheeded; two proofs of two clients are a conflict. Who is proven in one of these ways must
//! still call from where the policy says.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Network, PeerName};
use tensorgate_policy::request::{Credential, Identity};

use crate::api_key::KeyRing;
use crate::cache::TokenCache;
use crate::evidence::{Certificate, Evidence, Identified};
use crate::token::Tokens;
use crate::verifier::Verifier;
use crate::xfcc;

/// Who is who under one policy.
#[derive(Debug)]
pub struct Identifier {
    keys: KeyRing,
    tokens: Tokens,
    names: BTreeMap<PeerName, String>,
    places: Vec<Place>,
    /// Networks of clients that have any.
    sources: BTreeMap<String, Vec<Network>>,
}

/// A place in the proxy's dynamic metadata, and whom its texts prove.
#[derive(Debug)]
struct Place {
    filter: String,
    claim: Vec<String>,
    clients: BTreeMap<String, String>,
}

/// One proof, judged by itself.
enum Proof {
    Absent,
    Client(String, String),
    Refused(Identified),
}

impl Identifier {
    /// Indexes a policy's rules.
    pub fn new(policy: &Policy) -> Self {
        let mut names = BTreeMap::new();
        let mut places: Vec<Place> = Vec::new();
        let mut sources = BTreeMap::new();
        for client in policy.clients() {
            let name = || String::from(client.name());
            // Without a question for certificates the header, if there is one, is nobody's word.
            if let Some(peer) = client.mtls()
                && policy.listen().asks_for_certificates()
            {
                names.insert(peer.clone(), name());
            }
            if let Some(rule) = client.metadata() {
                let at = places
                    .iter()
                    .position(|place| place.filter == rule.filter() && place.claim == rule.claim());
                let clients = (rule.value().into(), name());
                match at.and_then(|at| places.get_mut(at)) {
                    Some(place) => place.clients.extend([clients]),
                    None => places.push(Place {
                        filter: rule.filter().into(),
                        claim: rule.claim().to_vec(),
                        clients: [clients].into(),
                    }),
                }
            }
            if !client.sources().is_empty() {
                sources.insert(name(), client.sources().to_vec());
            }
        }
        Self {
            keys: KeyRing::new(policy),
            tokens: Tokens::new(policy),
            names,
            places,
            sources,
        }
    }

    /// Where to look in the proxy's dynamic metadata before [`Self::identify`]: the filter's namespace, and the keys that lead to a text.
    pub fn metadata_places(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.places
            .iter()
            .map(|place| (place.filter.as_str(), place.claim.as_slice()))
    }

    /// Whether any client may call from some addresses only: where none does, nobody need know the caller's.
    pub fn looks_at_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Who calls.
    ///
    /// `generation` names the policy in the cache; the cache may outlive it.
    pub fn identify(
        &self,
        evidence: &Evidence<'_>,
        now_unix_s: u64,
        generation: &str,
        verifier: &mut dyn Verifier,
        cache: &mut TokenCache,
    ) -> Identified {
        let header = match evidence.credential {
            Credential::None => Proof::Absent,
            Credential::Unknown => {
                Proof::Refused(Identified::refused("unknown authorization scheme"))
            }
            Credential::ApiKey(text) => self.keys.identify(text, now_unix_s).into(),
            Credential::Token(token) => self
                .tokens
                .identify(token, now_unix_s, generation, verifier, cache)
                .into(),
        };
        let (mut client, mut credential) = match header {
            Proof::Refused(refused) => return refused,
            Proof::Client(client, credential) => (Some(client), Some(credential)),
            Proof::Absent => (None, None),
        };
        let mut cause = None;
        for proof in [
            self.certificate(evidence.certificate.as_ref()),
            self.metadata(evidence.metadata),
        ] {
            match proof {
                Proof::Absent => {}
                // It is told only if nothing else proves anybody.
                Proof::Refused(refused) => cause = cause.or(Some(refused)),
                Proof::Client(other, name) => match &client {
                    None => (client, credential) = (Some(other), Some(name)),
                    Some(first) if *first == other => {}
                    Some(_) => {
                        return Identified {
                            identity: Identity::Conflicting("two credentials prove two clients"),
                            credential,
                        };
                    }
                },
            }
        }
        let Some(client) = client else {
            return cause.unwrap_or(Identified {
                identity: Identity::Missing,
                credential: None,
            });
        };
        let identity = if self.may_call_from(&client, evidence) {
            Identity::Client(client)
        } else {
            Identity::Refused("the client does not call from this address")
        };
        Identified {
            identity,
            credential,
        }
    }

    /// An address that is not known is no place that a rule names.
    fn may_call_from(&self, client: &str, evidence: &Evidence<'_>) -> bool {
        self.sources.get(client).is_none_or(|networks| {
            evidence
                .source
                .is_some_and(|source| networks.iter().any(|network| network.contains(source)))
        })
    }

    /// The only URI and the first DNS name count, as the header and the connection's own properties agree on them. Further DNS names stand in
    /// the header alone, where a name that holds `;DNS=` would be two.
    fn certificate(&self, shown: Option<&Certificate<'_>>) -> Proof {
        let Some(shown) = shown.filter(|_| !self.names.is_empty()) else {
            return Proof::Absent;
        };
        let refused = |cause| Proof::Refused(Identified::refused(cause));
        let Some(forwarded) = xfcc::parse(shown.header) else {
            return refused("the certificate's header is odd, or it has several uris");
        };
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (uri, dns) = (named(&shown.names.uri), named(&shown.names.dns));
        if forwarded.uri != uri || forwarded.dns.first() != dns.as_ref() {
            return refused("the certificate's names are not what its header says");
        }
        let uri = uri.map(PeerName::Uri);
        let dns = dns.map(|name| PeerName::Dns(name.to_ascii_lowercase()));
        let mut found: Option<(&String, PeerName)> = None;
        for name in uri.into_iter().chain(dns) {
            let Some(client) = self.names.get(&name) else {
                continue;
            };
            match &found {
                Some((first, _)) if *first != client => {
                    return refused("the certificate proves two clients");
                }
                Some(_) => {}
                None => found = Some((client, name)),
            }
        }
        match found {
            Some((client, PeerName::Uri(name) | PeerName::Dns(name))) => {
                Proof::Client(client.clone(), format!("mtls:{name}"))
            }
            None => refused("the certificate proves no client"),
        }
    }

    fn metadata(&self, texts: &[Option<String>]) -> Proof {
        let mut found: Option<(&String, &Place)> = None;
        let mut unknown = false;
        for (place, text) in self.places.iter().zip(texts) {
            let Some(text) = text else { continue };
            match (place.clients.get(text), &found) {
                (None, _) => unknown = true,
                (Some(client), Some((first, _))) if *first != client => {
                    return Proof::Refused(Identified::refused("metadata proves two clients"));
                }
                (Some(client), None) => found = Some((client, place)),
                (Some(_), Some(_)) => {}
            }
        }
        match found {
            Some((client, place)) => {
                Proof::Client(client.clone(), format!("metadata:{}", place.filter))
            }
            None if unknown => Proof::Refused(Identified::refused("metadata proves no client")),
            None => Proof::Absent,
        }
    }
}

impl From<Identified> for Proof {
    fn from(identified: Identified) -> Self {
        match identified {
            Identified {
                identity: Identity::Client(client),
                credential,
            } => Self::Client(client, credential.unwrap_or_default()),
            refused => Self::Refused(refused),
        }
    }
}

#[cfg(all(test, feature = "jwt-simple"))]
mod tests;
