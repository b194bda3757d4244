//! The summary of an audit record that rules see. It has no input, no path and no text that a
//! client chooses. Of outputs it has the most likely class alone, and of inputs how many have
//! values near the bounds of their ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tensorgate_audit::record::{Amend, CutOff, Decision, Event, Verdict};
use tensorgate_base::source_host::source_host;
use tensorgate_policy::Reason;
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::release::TopClass;

use crate::management_path;

/// The status of requests beyond a limit.
const TOO_MANY_REQUESTS: u16 = 429;
/// The lowest status of a server error.
const SERVER_ERROR: u16 = 500;

/// The bits that stay if an address changes without notice.
pub(super) const NETWORK_BITS: (u32, u32) = (24, 48);

/// The `state` of a circuit that has opened.
const OPEN: &str = "open";

/// What an observation is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A request and its outcome.
    #[default]
    Request,
    /// A request that was observed before and has ended with a denial.
    Ending,
    /// The circuit breaker of this handler has opened for the client.
    CircuitOpened(String),
}

/// What rules know of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Whether it is about a request, and at which point.
    pub kind: Kind,
    /// The gate's ID of the request.
    pub request_id: Option<String>,
    /// The client, if its credential was verified.
    pub client: Option<String>,
    /// The name of the verified credential.
    pub credential: Option<String>,
    /// The source address.
    pub source: Option<IpAddr>,
    /// The model, once granted.
    pub model: Option<String>,
    /// Whether it is an inference with one response.
    pub is_inference: bool,
    /// The outcome.
    pub verdict: Verdict,
    /// Why it was denied. Absent for outcomes that only Envoy knows.
    pub reason: Option<Reason>,
    /// The HTTP status.
    pub status: u16,
    /// The time from the head to the response, in microseconds.
    pub total_us: u64,
    /// The kind of server whose management it was denied.
    pub management: Option<&'static str>,
    /// The most likely class of its answer, if its model has class scores.
    pub top_class: Option<TopClass>,
    /// How many inputs have values near the bounds of their ranges, or beyond.
    pub near_bounds: Option<NearBounds>,
}

/// A request that was rejected because a value is beyond its bound. The others were not looked at.
const BEYOND: NearBounds = NearBounds { inputs: 1, near: 1 };

impl Observation {
    /// The summary of a record. `None` for records that no rule reads.
    pub fn from_event(event: &Event) -> Option<Self> {
        match event {
            // A block says nothing new about its client, and must not renew itself.
            Event::Decision(decision) if decision.reason == Reason::Blocked.name() => None,
            Event::Decision(decision) => Some(Self::from_decision(decision)),
            Event::Amend(amend) => Self::from_amend(amend),
            Event::CutOff(change) => Self::from_circuit(change),
            Event::Open(_)
            | Event::Policy { .. }
            | Event::Copy(_)
            | Event::Artifact(_)
            | Event::Alert(_)
            | Event::Block(_)
            | Event::Rejections(_)
            | Event::Dropped { .. }
            | Event::Lost { .. }
            | Event::Checkpoint { .. }
            | Event::Stop
            | Event::Head { .. } => None,
        }
    }

    fn from_decision(decision: &Decision) -> Self {
        let is_denied = decision.verdict == Verdict::Deny;
        let reason = is_denied.then(|| Reason::from_name(&decision.reason));
        let reason = reason.flatten();
        // A revoked key names its client, but does not prove that the client sent it.
        let is_verified = !reason.is_some_and(is_failed_credential);
        let verified = |name: &Option<String>| name.clone().filter(|_| is_verified);
        Self {
            kind: Kind::Request,
            request_id: decision.request_id.clone(),
            client: verified(&decision.client),
            credential: verified(&decision.credential),
            source: decision
                .source
                .as_deref()
                .and_then(|text| text.parse().ok()),
            model: decision.model.clone(),
            is_inference: decision.operation.as_deref() == Some("infer"),
            verdict: decision.verdict,
            reason,
            status: decision.status,
            total_us: decision.total_us,
            management: is_denied.then(|| management(decision)).flatten(),
            top_class: decision
                .top_class
                .filter(|_| decision.verdict == Verdict::Allow),
            near_bounds: if reason == Some(Reason::OutOfRange) {
                Some(BEYOND)
            } else {
                decision.near_bounds
            },
        }
    }

    /// The end of a request that was denied after its record was written.
    fn from_amend(amend: &Amend) -> Option<Self> {
        let reason = Reason::from_name(amend.reason.as_deref().unwrap_or_default());
        (amend.verdict == Some(Verdict::Deny)).then(|| Self {
            kind: Kind::Ending,
            request_id: Some(amend.request_id.clone()),
            client: amend.client.clone(),
            model: amend.model.clone(),
            verdict: Verdict::Deny,
            reason,
            status: amend.status,
            ..Self::default()
        })
    }

    /// A circuit that has opened for one client. One for all clients is no client's fault.
    fn from_circuit(change: &CutOff) -> Option<Self> {
        let client = change.client.clone().filter(|name| !name.is_empty())?;
        (change.state == OPEN).then(|| Self {
            kind: Kind::CircuitOpened(change.handler.clone()),
            client: Some(client),
            ..Self::default()
        })
    }

    /// What counts as its source.
    pub(crate) fn source_host(&self) -> Option<IpAddr> {
        self.source.map(source_host)
    }

    /// The network in which an address may change without notice: a /24, or a /48 of IPv6.
    pub(crate) fn source_network(&self) -> Option<IpAddr> {
        self.source.map(network_of)
    }

    /// Whether it was denied.
    pub fn is_denied(&self) -> bool {
        self.verdict == Verdict::Deny
    }

    /// Whether it was denied for what it is: not because of a limit, and not with an error of a
    /// server, which could otherwise have clients blocked.
    pub fn is_rejected(&self) -> bool {
        let status = self.effective_status();
        let is_4xx = status != TOO_MANY_REQUESTS && status < SERVER_ERROR;
        self.is_denied() && is_4xx && !self.is_servers_client_error()
    }

    /// Whether it was denied with a server error, or by the model's server.
    pub(crate) fn is_server_error(&self) -> bool {
        let is_5xx = self.effective_status() >= SERVER_ERROR;
        self.is_denied() && (is_5xx || self.is_servers_client_error())
    }

    fn is_servers_client_error(&self) -> bool {
        self.reason.is_some_and(Reason::is_chosen_by_server)
    }

    /// Whether it was denied because its credential is missing or wrong.
    pub(crate) fn has_failed_credential(&self) -> bool {
        self.is_denied() && self.reason.is_some_and(is_failed_credential)
    }

    /// The status of its reason, because a gRPC response has status 200.
    fn effective_status(&self) -> u16 {
        self.reason.map_or(self.status, Reason::http_status)
    }
}

const fn is_failed_credential(reason: Reason) -> bool {
    matches!(reason, Reason::Unauthenticated | Reason::LockedOut)
}

/// The first address of the network in which an address may change without notice.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    network(address, NETWORK_BITS)
}

/// The first address of the network of an address.
fn network(address: IpAddr, (bits_v4, bits_v6): (u32, u32)) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = !u32::MAX.checked_shr(bits_v4).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = !u128::MAX.checked_shr(bits_v6).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// The kind of server whose management a request was for.
fn management(decision: &Decision) -> Option<&'static str> {
    management_path::server(decision.method.as_deref(), decision.path.as_deref()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn seen(decision: Decision) -> Observation {
        Observation::from_event(&Event::Decision(Box::new(decision))).unwrap()
    }

    #[test]
    fn only_a_denied_request_for_management_is_one() {
        let management = |verdict| {
            seen(Decision {
                verdict,
                method: Some("POST".to_owned()),
                path: Some("/v2/%72epository/index".to_owned()),
                ..Decision::default()
            })
            .management
        };
        assert_eq!(management(Verdict::Deny), Some("Triton"));
        assert_eq!(management(Verdict::Allow), None);
    }

    #[test]
    fn a_client_counts_only_if_its_credential_was_verified() {
        let of = |reason: &str| {
            let decision = Decision {
                client: Some("scorer".into()),
                reason: reason.into(),
                ..Decision::default()
            };
            seen(decision).client
        };
        assert_eq!(of("shape").as_deref(), Some("scorer"));
        assert_eq!(of("unauthenticated"), None, "a revoked key");
    }

    #[test]
    fn a_later_denial_and_a_circuit_of_a_client_are_seen() {
        let amend = |verdict| Amend {
            verdict: Some(verdict),
            reason: Some("backend-fault".into()),
            client: Some("scorer".into()),
            model: Some("scores".into()),
            ..Amend::default()
        };
        let of = |verdict| Observation::from_event(&Event::Amend(amend(verdict)));
        let ending = of(Verdict::Deny).unwrap();
        assert_eq!(ending.kind, Kind::Ending);
        assert_eq!(ending.model.as_deref(), Some("scores"));
        assert!(ending.is_server_error());
        assert_eq!(of(Verdict::Aborted), None, "the client has left");

        let circuit = |client: Option<&str>, state: &str| {
            let change = CutOff {
                handler: "normalise".into(),
                client: client.map(str::to_owned),
                state: state.into(),
                for_ms: None,
            };
            Observation::from_event(&Event::CutOff(change)).map(|seen| (seen.kind, seen.client))
        };
        let opened = Kind::CircuitOpened("normalise".into());
        let expected = Some((opened, Some("scorer".into())));
        assert_eq!(circuit(Some("scorer"), "open"), expected);
        for (client, state) in [
            (Some("scorer"), "closed"),
            (Some(""), "open"),
            (None, "open"),
        ] {
            assert_eq!(circuit(client, state), None, "{client:?} {state}");
        }
    }

    #[test]
    fn a_server_that_rejects_requests_has_no_client_blocked() {
        for (reason, rejected, failed) in [
            (Reason::Shape, true, false),
            (Reason::RateLimited, false, false),
            (Reason::BackendFault, false, true),
            (Reason::BackendTooLong, false, true),
            (Reason::BackendRejected, false, true),
            (Reason::BackendUnknownModel, false, true),
            (Reason::BackendBusy, false, true),
        ] {
            let denied = Observation {
                verdict: Verdict::Deny,
                reason: Some(reason),
                ..Observation::default()
            };
            let found = (denied.is_rejected(), denied.is_server_error());
            assert_eq!(found, (rejected, failed), "{reason}");
        }
    }

    #[test]
    fn a_request_of_a_blocked_client_is_not_seen() {
        let decision = Decision {
            reason: "blocked".into(),
            ..Decision::default()
        };
        let event = Event::Decision(Box::new(decision));
        assert_eq!(Observation::from_event(&event), None);
    }

    #[test]
    fn the_most_likely_class_is_seen_and_never_written() {
        let top_class = Some(TopClass {
            class: 3,
            confidence: 900_000,
        });
        let of = |verdict| Decision {
            verdict,
            top_class,
            ..Decision::default()
        };
        assert_eq!(seen(of(Verdict::Allow)).top_class, top_class);
        assert_eq!(seen(of(Verdict::Aborted)).top_class, None);
        let without = Decision {
            top_class: None,
            ..of(Verdict::Allow)
        };
        let written = [of(Verdict::Allow), without].map(|it| serde_json::to_string(&it).unwrap());
        assert_eq!(written[0], written[1]);
    }

    #[test]
    fn a_value_beyond_its_bound_counts_as_near_it_and_the_count_is_never_written() {
        let near_bounds = Some(NearBounds { inputs: 3, near: 2 });
        let of = |reason: &str, near_bounds| Decision {
            reason: reason.into(),
            near_bounds,
            ..Decision::default()
        };
        assert_eq!(
            seen(of("backend-fault", near_bounds)).near_bounds,
            near_bounds
        );
        assert_eq!(seen(of("out-of-range", None)).near_bounds, Some(BEYOND));
        assert_eq!(seen(of("shape", None)).near_bounds, None);
        let written = [near_bounds, None].map(|it| serde_json::to_string(&of("ok", it)).unwrap());
        assert_eq!(written[0], written[1]);
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let of = |source: &str| {
            let seen = seen(Decision {
                source: Some(source.into()),
                ..Decision::default()
            });
            [seen.source_host(), seen.source_network()].map(|it| it.unwrap().to_string())
        };
        assert_eq!(of("10.1.2.3"), ["10.1.2.3", "10.1.2.0"]);
        assert_eq!(of("::ffff:10.1.2.3"), ["10.1.2.3", "10.1.2.0"]);
        assert_eq!(of("2001:db8:1:2:3::4"), ["2001:db8:1:2::", "2001:db8:1::"]);
    }
}
