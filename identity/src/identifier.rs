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
use tensorgate_policy::policy::Network;
use tensorgate_policy::request::{Credential, Identity, Operations, Proof, Proofs};

use crate::api_key::KeyRing;
use crate::attempts::{Attempt, Attempts};
use crate::cache::TokenCache;
use crate::certificates::{self, Certificates};
use crate::claim_headers::Fields;
use crate::evidence::{Certificate, Evidence, Identified};
use crate::key_sets::KeySource;
use crate::token::Tokens;
use crate::verifier::Verifier;

/// Who is who under one policy.
#[derive(Debug)]
pub struct Identifier {
    keys: KeyRing,
    tokens: Tokens,
    certificates: Certificates,
    places: Vec<Place>,
    /// Networks of clients that have any.
    sources: BTreeMap<String, Vec<Network>>,
}

/// A place in the proxy's dynamic metadata, and whom its texts prove.
#[derive(Debug)]
struct Place {
    filter: String,
    claim: Vec<String>,
    /// Where its issuer stands, if any rule names one.
    issuer: Option<Vec<String>>,
    clients: BTreeMap<String, Vec<Told>>,
}

/// A client, by what one issuer says, or any.
#[derive(Debug)]
struct Told {
    issuer: Option<String>,
    client: String,
}

/// One proof, judged by itself.
enum Judged {
    Absent,
    Client(Known),
    Refused(Identified),
}

/// A client that one proof proves.
struct Known {
    client: String,
    /// The log's name of the proof.
    credential: String,
    withheld: Operations,
    claims: Fields,
    /// When it counts no more, Unix seconds.
    until_unix_s: Option<u64>,
}

impl Known {
    /// By a proof that extends to all that its client is granted, and says nothing of it.
    fn by(client: &str, credential: String) -> Judged {
        Judged::Client(Self {
            client: client.into(),
            credential,
            withheld: Operations::default(),
            claims: Fields::new(),
            until_unix_s: None,
        })
    }
}

impl Identifier {
    /// Indexes a policy's rules.
    pub fn new(policy: &Policy) -> Self {
        let mut places: Vec<Place> = Vec::new();
        let mut sources = BTreeMap::new();
        for client in policy.clients() {
            let name = || String::from(client.name());
            if let Some(rule) = client.metadata() {
                let at = places
                    .iter()
                    .position(|place| place.filter == rule.filter() && place.claim == rule.claim());
                let told = Told {
                    issuer: rule.issuer().map(Into::into),
                    client: name(),
                };
                let at = at.unwrap_or_else(|| {
                    places.push(Place {
                        filter: rule.filter().into(),
                        claim: rule.claim().to_vec(),
                        issuer: None,
                        clients: BTreeMap::new(),
                    });
                    places.len().saturating_sub(1)
                });
                if let Some(place) = places.get_mut(at) {
                    if told.issuer.is_some() {
                        place.issuer = Some(rule.issuer_place());
                    }
                    let clients = place.clients.entry(rule.value().into());
                    clients.or_default().push(told);
                }
            }
            if !client.sources().is_empty() {
                sources.insert(name(), client.sources().to_vec());
            }
        }
        Self {
            keys: KeyRing::new(policy),
            tokens: Tokens::new(policy),
            certificates: Certificates::new(policy),
            places,
            sources,
        }
    }

    /// Where to look in the proxy's dynamic metadata before [`Self::identify`]: the filter's namespace, and the keys that lead to a text.
    pub fn metadata_places(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.places.iter().flat_map(|place| {
            let keys = [place.claim.as_slice()].into_iter();
            let keys = keys.chain(place.issuer.as_deref());
            keys.map(|keys| (place.filter.as_str(), keys))
        })
    }

    /// Whether proxies in front may speak of certificates, so that [`crate::PeerNames::sha256`] is needed.
    pub fn hears_of_certificates(&self) -> bool {
        self.certificates.are_forwarded()
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
        // Under a lock nothing is counted, and as many calls are made.
        if let Identity::Refused(cause) | Identity::LockedOut(cause) = identified.identity
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
        let (mut withheld, mut claims) = (Operations::default(), Fields::new());
        let mut until_unix_s = None;
        let mut proofs = Proofs::NONE;
        let (mut client, mut credential) = match header {
            Judged::Refused(refused) => return (refused, attempt),
            Judged::Client(known) => {
                (withheld, claims) = (known.withheld, known.claims);
                until_unix_s = known.until_unix_s;
                proofs = proofs.with(kind);
                (Some(known.client), Some(known.credential))
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
                Judged::Client(other) => {
                    match &client {
                        None => {
                            (client, credential) = (Some(other.client), Some(other.credential));
                        }
                        Some(first) if *first == other.client => {}
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
            claims,
            until_unix_s,
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

    fn certificate(&self, shown: Option<&Certificate<'_>>) -> Judged {
        match shown.map(|shown| self.certificates.judge(shown)) {
            None | Some(certificates::Proven::Nothing) => Judged::Absent,
            Some(certificates::Proven::Client(client, credential)) => {
                Known::by(&client, credential)
            }
            Some(certificates::Proven::Nobody(cause)) => {
                Judged::Refused(Identified::refused(cause))
            }
        }
    }

    fn metadata(&self, texts: &[Option<String>]) -> Judged {
        let mut found: Option<(&String, &Place)> = None;
        let mut unknown = false;
        let mut texts = texts.iter().map(Option::as_deref);
        for place in &self.places {
            let text = texts.next().flatten();
            let issuer = place.issuer.as_ref().and_then(|_| texts.next().flatten());
            let Some(text) = text else { continue };
            let told = place.clients.get(text).into_iter().flatten();
            let mut told =
                told.filter(|told| told.issuer.is_none() || told.issuer.as_deref() == issuer);
            match (told.next().map(|told| &told.client), &found) {
                (None, _) => unknown = true,
                (Some(client), Some((first, _))) if *first != client => {
                    return Judged::Refused(Identified::refused("metadata proves two clients"));
                }
                (Some(client), None) => found = Some((client, place)),
                (Some(_), Some(_)) => {}
            }
        }
        match found {
            Some((client, place)) => Known::by(client, format!("metadata:{}", place.filter)),
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
                claims,
                until_unix_s,
                ..
            } => Self::Client(Known {
                client,
                credential: credential.unwrap_or_default(),
                withheld,
                claims,
                until_unix_s,
            }),
            refused => Self::Refused(refused),
        }
    }
}

#[cfg(all(test, feature = "jwt-simple"))]
mod tests;
