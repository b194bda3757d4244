//! Combines all evidence into one client or a rejection.
//!
//! A credential in the header fields is evaluated first; if it is rejected, no certificate replaces
//! it. A certificate of no client is ignored beside a valid credential. Proofs of two clients are a
//! conflict. A token that is bound to a certificate needs that certificate. An identified client
//! must also call from its allowed networks.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::policy::Network;
use tensorgate_policy::request::{Credential, Identity, Operations, Proof, Proofs};
use tensorgate_policy::{Policy, SmolStr, format_smolstr};

use crate::api_key::KeyRing;
use crate::attempts::{Attempt, Attempts};
use crate::cache::TokenCache;
use crate::certificates::{self, Certificates};
use crate::claim_headers::Fields;
use crate::claims::EndUser;
use crate::confirmation::{Confirmation, ConfirmationFault};
use crate::evidence::{Certificate, Evidence, Identified, NEITHER};
use crate::key_sets::KeySource;
use crate::token::Tokens;
use crate::verifier::Verifier;

/// Identifies callers under one policy.
#[derive(Debug)]
pub struct Identifier {
    keys: KeyRing,
    tokens: Tokens,
    certificates: Certificates,
    locations: Vec<MetadataLocation>,
    /// Networks of clients with restrictions.
    sources: BTreeMap<String, Vec<Network>>,
}

/// A location in the proxy's dynamic metadata, and its clients.
#[derive(Debug)]
struct MetadataLocation {
    filter: String,
    claim: Vec<String>,
    /// Location of the issuer, if any rule names one.
    issuer: Option<Vec<String>>,
    clients: BTreeMap<String, Vec<MetadataOwner>>,
}

/// Client of a value, for one issuer or any.
#[derive(Debug)]
struct MetadataOwner {
    issuer: Option<String>,
    client: String,
}

/// Result of a single proof.
enum ProofResult {
    Absent,
    Client(KnownClient),
    Refused(Identified),
}

/// A client identified by one proof.
struct KnownClient {
    client: SmolStr,
    /// Log name of the proof.
    credential: SmolStr,
    withheld: Operations,
    claims: Fields,
    user: Option<EndUser>,
    confirmation: Confirmation,
    /// Expiry, in Unix seconds.
    until_unix_s: Option<u64>,
}

impl KnownClient {
    /// A proof without restrictions or claims.
    fn by(client: &str, credential: SmolStr) -> ProofResult {
        ProofResult::Client(Self {
            client: client.into(),
            credential,
            withheld: Operations::default(),
            claims: Fields::new(),
            user: None,
            confirmation: Confirmation::Nothing,
            until_unix_s: None,
        })
    }
}

impl Identifier {
    /// Indexes a policy's rules.
    pub fn new(policy: &Policy) -> Self {
        let mut locations: Vec<MetadataLocation> = Vec::new();
        let mut sources = BTreeMap::new();
        for client in policy.clients().iter() {
            let name = || String::from(client.name());
            if let Some(rule) = client.metadata() {
                let at = locations.iter().position(|location| {
                    location.filter == rule.filter() && location.claim == rule.claim()
                });
                let owner = MetadataOwner {
                    issuer: rule.issuer().map(Into::into),
                    client: name(),
                };
                let at = at.unwrap_or_else(|| {
                    locations.push(MetadataLocation {
                        filter: rule.filter().into(),
                        claim: rule.claim().to_vec(),
                        issuer: None,
                        clients: BTreeMap::new(),
                    });
                    locations.len().saturating_sub(1)
                });
                if let Some(location) = locations.get_mut(at) {
                    if owner.issuer.is_some() {
                        location.issuer = Some(rule.issuer_path());
                    }
                    let clients = location.clients.entry(rule.value().into());
                    clients.or_default().push(owner);
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
            locations,
            sources,
        }
    }

    /// Metadata locations to read before [`Self::identify`]: the filter's namespace and the keys.
    pub fn metadata_paths(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.locations.iter().flat_map(|location| {
            let keys = [location.claim.as_slice()].into_iter();
            let keys = keys.chain(location.issuer.as_deref());
            keys.map(|keys| (location.filter.as_str(), keys))
        })
    }

    /// Whether proxies in front may forward certificates, so that [`crate::PeerNames::sha256`] is
    /// needed.
    pub fn needs_certificate_digest(&self) -> bool {
        self.certificates.are_forwarded()
    }

    /// Whether any client is restricted to networks, so that the caller's address is needed.
    pub fn uses_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Identifies the caller.
    ///
    /// `policy_version` is part of cache keys, because the cache may outlive the policy. Every
    /// wrong credential in the header fields is reported to the port, including valid ones from a
    /// wrong network, so response times reveal nothing.
    pub fn identify<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        evidence: &Evidence<'_>,
        now_unix_s: u64,
        policy_version: &str,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> Identified {
        let (mut identified, attempt) =
            self.judge(evidence, now_unix_s, policy_version, port, cache);
        // During a lock nothing is counted, but the same number of calls is made.
        if let Identity::Refused(cause) | Identity::LockedOut(cause) = identified.identity
            && let Some(attempt) = attempt.or_else(|| Attempt::of(evidence.credential))
            && port.record_failure(&attempt)
        {
            identified.identity = Identity::LockedOut(cause);
        }
        identified
    }

    /// The result, and the key for counting a failure if it is more than plain text.
    fn judge<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        evidence: &Evidence<'_>,
        now_unix_s: u64,
        policy_version: &str,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> (Identified, Option<Attempt>) {
        let mut attempt = None;
        let kind = match evidence.credential {
            Credential::Token(_) => Proof::Jwt,
            Credential::ApiKey(_) | Credential::None | Credential::Unknown => Proof::ApiKey,
        };
        let header = match evidence.credential {
            Credential::None => ProofResult::Absent,
            Credential::Unknown => {
                ProofResult::Refused(Identified::refused("unknown authorization scheme"))
            }
            Credential::ApiKey(text) => self.keys.identify(text, now_unix_s).into(),
            // Every serialisation of a token has one of these (RFC 7515, 7).
            Credential::Token(text) if !text.contains(['.', '{']) => {
                ProofResult::Refused(Identified::refused(NEITHER))
            }
            Credential::Token(token) => {
                let (identified, its) =
                    self.tokens
                        .identify(token, now_unix_s, policy_version, port, cache);
                attempt = its;
                identified.into()
            }
        };
        // A token's restrictions hold with any certificate.
        let (mut withheld, mut claims) = (Operations::default(), Fields::new());
        let (mut user, mut until_unix_s) = (None, None);
        let mut proofs = Proofs::NONE;
        let (mut client, mut credential) = match header {
            ProofResult::Refused(refused) => return (refused, attempt),
            ProofResult::Client(known) => {
                if let Err(fault) = self.confirm(&known, evidence) {
                    port.record_unconfirmed(fault);
                    let refused = Identity::Refused(fault.cause());
                    return (Identified::new(refused, Some(known.credential)), attempt);
                }
                (withheld, claims) = (known.withheld, known.claims);
                (user, until_unix_s) = (known.user, known.until_unix_s);
                proofs = proofs.with(kind);
                (Some(known.client), Some(known.credential))
            }
            ProofResult::Absent => (None, None),
        };
        let mut cause = None;
        for (kind, proof) in [
            (Proof::Mtls, self.certificate(evidence.certificate.as_ref())),
            (Proof::Metadata, self.metadata(evidence.metadata)),
        ] {
            match proof {
                ProofResult::Absent => {}
                // Reported only if there is no other proof.
                ProofResult::Refused(refused) => cause = cause.or(Some(refused)),
                ProofResult::Client(other) => {
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
            let unidentified = cause.unwrap_or_else(|| Identified::new(Identity::Missing, None));
            return (unidentified, attempt);
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
            user,
            until_unix_s,
            ..Identified::new(identity, credential)
        };
        (identified, attempt)
    }

    /// Whether a client may call from its address. An unknown address matches no network.
    fn may_call_from(&self, client: &str, evidence: &Evidence<'_>) -> bool {
        self.sources.get(client).is_none_or(|networks| {
            evidence
                .source
                .is_some_and(|source| networks.iter().any(|network| network.contains(source)))
        })
    }

    /// Checks that the caller has what its token is bound to.
    fn confirm(
        &self,
        known: &KnownClient,
        evidence: &Evidence<'_>,
    ) -> Result<(), ConfirmationFault> {
        let shown = evidence.certificate.as_ref();
        let sha256 = || shown.and_then(|shown| self.certificates.sha256(shown));
        known.confirmation.check(sha256)
    }

    fn certificate(&self, shown: Option<&Certificate<'_>>) -> ProofResult {
        match shown.map(|shown| self.certificates.judge(shown)) {
            None | Some(certificates::CertificateProof::None) => ProofResult::Absent,
            Some(certificates::CertificateProof::Client(client, credential)) => {
                KnownClient::by(&client, credential.into())
            }
            Some(certificates::CertificateProof::Rejected(cause)) => {
                ProofResult::Refused(Identified::refused(cause))
            }
        }
    }

    fn metadata(&self, texts: &[Option<String>]) -> ProofResult {
        let mut found: Option<(&String, &MetadataLocation)> = None;
        let mut unknown = false;
        let mut texts = texts.iter().map(Option::as_deref);
        for location in &self.locations {
            let text = texts.next().flatten();
            let issuer = location
                .issuer
                .as_ref()
                .and_then(|_| texts.next().flatten());
            let Some(text) = text else { continue };
            let owners = location.clients.get(text).into_iter().flatten();
            let mut owners =
                owners.filter(|owner| owner.issuer.is_none() || owner.issuer.as_deref() == issuer);
            match (owners.next().map(|owner| &owner.client), &found) {
                (None, _) => unknown = true,
                (Some(client), Some((first, _))) if *first != client => {
                    return ProofResult::Refused(Identified::refused(
                        "metadata proves two clients",
                    ));
                }
                (Some(client), None) => found = Some((client, location)),
                (Some(_), Some(_)) => {}
            }
        }
        match found {
            Some((client, location)) => {
                KnownClient::by(client, format_smolstr!("metadata:{}", location.filter))
            }
            None if unknown => {
                ProofResult::Refused(Identified::refused("metadata matches no client"))
            }
            None => ProofResult::Absent,
        }
    }
}

impl From<Identified> for ProofResult {
    fn from(identified: Identified) -> Self {
        match identified {
            Identified {
                identity: Identity::Client(client),
                credential,
                withheld,
                claims,
                user,
                confirmation,
                until_unix_s,
                ..
            } => Self::Client(KnownClient {
                client,
                credential: credential.unwrap_or_default(),
                withheld,
                claims,
                user,
                confirmation,
                until_unix_s,
            }),
            refused => Self::Refused(refused),
        }
    }
}

#[cfg(all(test, feature = "signatures"))]
mod tests;
