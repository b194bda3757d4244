//! The latest requests of a log, to find those of whom an alert is about.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};
use tensorgate_host::audit::record::Decision;

/// Maximum number of requests that are kept.
const KEPT: usize = 4_096;
/// Maximum number of requests beside an alert.
const SHOWN: usize = 5;
/// Segments of an IPv6 address that stand for the network.
const NETWORK: usize = 4;

/// A request, as far as an alert needs it.
pub struct Request {
    request_id: String,
    reason: String,
    client: Option<String>,
    model: Option<String>,
    source: Option<IpAddr>,
}

impl Request {
    /// Its ID, and the reason of its outcome.
    pub fn to_json(&self) -> Value {
        json!({"request_id": self.request_id, "reason": self.reason})
    }

    /// Whether an alert with this subject is about it.
    fn is_of(&self, subject: &str) -> bool {
        if let Some(name) = subject.strip_prefix("client ") {
            return self.client.as_deref() == Some(name);
        }
        if let Some(name) = subject.strip_prefix("model ") {
            return self.model.as_deref() == Some(name);
        }
        let Some(text) = subject.strip_prefix("source ") else {
            return false;
        };
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        let address: Option<IpAddr> = address.parse().ok();
        match (self.source, address) {
            (Some(IpAddr::V6(source)), Some(IpAddr::V6(network))) => {
                let (source, network) = (source.segments(), network.segments());
                source.first_chunk::<NETWORK>() == network.first_chunk::<NETWORK>()
            }
            (source, address) => source.is_some() && source == address,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.request_id, self.reason)
    }
}

/// The latest requests of a log.
#[derive(Default)]
pub struct RecentRequests(VecDeque<Request>);

impl RecentRequests {
    /// Adds a request. One without an ID cannot be looked up.
    pub fn add(&mut self, decision: Decision) {
        let Some(request_id) = decision.request_id else {
            return;
        };
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Request {
            request_id,
            reason: decision.reason,
            client: decision.client,
            model: decision.model,
            source: decision.source.and_then(|text| text.parse().ok()),
        });
    }

    /// The latest requests of an alert's subject, the latest first.
    pub fn of(&self, subject: &str) -> Vec<&Request> {
        let of_subject = self.0.iter().rev().filter(|it| it.is_of(subject));
        of_subject.take(SHOWN).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_belongs_to_its_client_its_model_and_its_network() {
        let request = |source: &str| Request {
            request_id: "id".into(),
            reason: "ok".into(),
            client: Some("a".into()),
            model: Some("m".into()),
            source: source.parse().ok(),
        };
        for (source, subject, expected) in [
            ("", "client a", true),
            ("", "client m", false),
            ("", "model m", true),
            ("", "source 192.0.2.1", false),
            ("", "source nonsense", false),
            ("192.0.2.1", "source 192.0.2.1", true),
            ("192.0.2.1", "source 192.0.2.2", false),
            ("2001:db8::1", "source 2001:db8::/64", true),
            ("2001:db8:0:1::1", "source 2001:db8::/64", false),
            ("192.0.2.1", "the gateway", false),
        ] {
            let found = request(source).is_of(subject);
            assert_eq!(found, expected, "{source:?} {subject:?}");
        }
    }
}
