//! Everything that came as proof to one client, or to none.
//!
//! A credential in the header fields is judged first, and a refused one is refused: no certificate is looked at in its stead. A certificate that
//! proves nobody stands beside a good credential unheeded; two proofs of two clients are a conflict. Who is proven in one of these ways must
//! still call from where the policy says.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Network, PeerName};
use tensorgate_policy::request::{Credential, Identity, Operations, Proof, Proofs};

use crate::api_key::KeyRing;
use crate::attempts::{Attempt, Attempts};
use crate::cache::TokenCache;
use crate::evidence::{Certificate, Evidence, Identified};
use crate::key_sets::KeySource;
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
    /// Certificates that count no more, by SHA-256.
    revoked: BTreeSet<[u8; 32]>,
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
enum Judged {
    Absent,
    Client(String, String, Operations),
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
            revoked: policy.revoked().certificates().clone(),
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
    /// `generation` names the policy in the cache; the cache may outlive it. Every wrong credential in the header fields is told to the port, right
    /// ones from a wrong place among them: whoever guesses learns nothing from the time that takes.
    pub fn identify<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        evidence: &Evidence<'_>,
        now_unix_s: u64,
        generation: &str,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> Identified {
        let (mut identified, attempt) = self.judge(evidence, now_unix_s, generation, port, cache);
        if let Identity::Refused(cause) = identified.identity
            && let Some(attempt) = attempt.or_else(|| Attempt::of(evidence.credential))
            && port.was_wrong(&attempt)
        {
            identified.identity = Identity::LockedOut(cause);
        }
        identified
    }

    /// Who calls, and what a failure is counted under where that is more than a text.
    fn judge<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        evidence: &Evidence<'_>,
        now_unix_s: u64,
        generation: &str,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> (Identified, Option<Attempt>) {
        let mut attempt = None;
        let kind = match evidence.credential {
            Credential::Token(_) => Proof::Jwt,
            Credential::ApiKey(_) | Credential::None | Credential::Unknown => Proof::ApiKey,
        };
        let header = match evidence.credential {
            Credential::None => Judged::Absent,
            Credential::Unknown => {
                Judged::Refused(Identified::refused("unknown authorization scheme"))
            }
            Credential::ApiKey(text) => self.keys.identify(text, now_unix_s).into(),
            Credential::Token(token) => {
                let (identified, its) = self
                    .tokens
                    .identify(token, now_unix_s, generation, port, cache);
                attempt = its;
                identified.into()
            }
        };
        // A token extends as far as it says, whatever certificate comes with it.
        let mut withheld = Operations::default();
        let mut proofs = Proofs::NONE;
        let (mut client, mut credential) = match header {
            Judged::Refused(refused) => return (refused, attempt),
            Judged::Client(client, credential, lacks) => {
                withheld = lacks;
                proofs = proofs.with(kind);
                (Some(client), Some(credential))
            }
            Judged::Absent => (None, None),
        };
        let mut cause = None;
        for (kind, proof) in [
            (Proof::Mtls, self.certificate(evidence.certificate.as_ref())),
            (Proof::Metadata, self.metadata(evidence.metadata)),
        ] {
            match proof {
                Judged::Absent => {}
                // It is told only if nothing else proves anybody.
                Judged::Refused(refused) => cause = cause.or(Some(refused)),
                Judged::Client(other, name, _) => {
                    match &client {
                        None => (client, credential) = (Some(other), Some(name)),
                        Some(first) if *first == other => {}
                        Some(_) => {
                            let conflict =
                                Identity::Conflicting("two credentials prove two clients");
                            return (Identified::new(conflict, credential), attempt);
                        }
                    }
                    proofs = proofs.with(kind);
                }
            }
        }
        let Some(client) = client else {
            let nobody = cause.unwrap_or_else(|| Identified::new(Identity::Missing, None));
            return (nobody, attempt);
        };
        if !self.may_call_from(&client, evidence) {
            let elsewhere = Identity::Refused("the client does not call from this address");
            return (Identified::new(elsewhere, credential), attempt);
        }
        let identity = Identity::Client(client);
        let identified = Identified {
            proofs,
            withheld,
            ..Identified::new(identity, credential)
        };
        (identified, attempt)
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
    fn certificate(&self, shown: Option<&Certificate<'_>>) -> Judged {
        let Some(shown) = shown.filter(|_| !self.names.is_empty()) else {
            return Judged::Absent;
        };
        let refused = |cause| Judged::Refused(Identified::refused(cause));
        let Some(forwarded) = xfcc::parse(shown.header) else {
            return refused("the certificate's header is odd, or it has several uris");
        };
        if self.revoked.contains(&forwarded.sha256) {
            return refused("the certificate is revoked");
        }
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
                let credential = format!("mtls:{name}");
                Judged::Client(client.clone(), credential, Operations::default())
            }
            None => refused("the certificate proves no client"),
        }
    }

    fn metadata(&self, texts: &[Option<String>]) -> Judged {
        let mut found: Option<(&String, &Place)> = None;
        let mut unknown = false;
        for (place, text) in self.places.iter().zip(texts) {
            let Some(text) = text else { continue };
            match (place.clients.get(text), &found) {
                (None, _) => unknown = true,
                (Some(client), Some((first, _))) if *first != client => {
                    return Judged::Refused(Identified::refused("metadata proves two clients"));
                }
                (Some(client), None) => found = Some((client, place)),
                (Some(_), Some(_)) => {}
            }
        }
        match found {
            Some((client, place)) => {
                let credential = format!("metadata:{}", place.filter);
                Judged::Client(client.clone(), credential, Operations::default())
            }
            None if unknown => Judged::Refused(Identified::refused("metadata proves no client")),
            None => Judged::Absent,
        }
    }
}

impl From<Identified> for Judged {
    fn from(identified: Identified) -> Self {
        match identified {
            Identified {
                identity: Identity::Client(client),
                credential,
                withheld,
                ..
            } => Self::Client(client, credential.unwrap_or_default(), withheld),
            refused => Self::Refused(refused),
        }
    }
}

#[cfg(all(test, feature = "jwt-simple"))]
mod tests;
