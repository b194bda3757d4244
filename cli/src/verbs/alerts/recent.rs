//! The latest requests of each client, model and source of a log, as evidence beside an alert.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::{Value, json};
use tensorgate_audit::record::Decision;
use tensorgate_base::source_host::source_host;

/// Maximum number of clients, of models and of sources whose requests are kept.
const MAX_SUBJECTS: usize = 4_096;
/// Maximum number of requests that are kept for each, and shown beside an alert.
const MAX_REQUESTS: usize = 5;

/// A request, as far as an alert needs it.
#[derive(Clone)]
pub struct Request {
    request_id: String,
    reason: String,
}

impl Request {
    /// Its ID, and the reason of its outcome.
    pub fn to_json(&self) -> Value {
        json!({"request_id": self.request_id, "reason": self.reason})
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.request_id, self.reason)
    }
}

/// The latest requests of a log. Each client, model and source has a queue of its own, so a busy
/// one does not displace the requests of another.
#[derive(Default)]
pub struct RecentRequests {
    clients: Queues<String>,
    models: Queues<String>,
    sources: Queues<IpAddr>,
}

impl RecentRequests {
    /// Adds a request. One without an ID cannot be looked up.
    pub fn add(&mut self, decision: Decision) {
        let Some(request_id) = decision.request_id else {
            return;
        };
        let request = Rc::new(Request {
            request_id,
            reason: decision.reason,
        });
        if let Some(client) = decision.client {
            self.clients.add(client, &request);
        }
        if let Some(model) = decision.model {
            self.models.add(model, &request);
        }
        if let Some(source) = decision.source.and_then(|text| text.parse().ok()) {
            self.sources.add(source_host(source), &request);
        }
    }

    /// The latest requests of an alert's subject, the latest first.
    pub fn of(&self, subject: &str) -> Vec<&Request> {
        if let Some(name) = subject.strip_prefix("client ") {
            return self.clients.of(&name.to_owned());
        }
        if let Some(name) = subject.strip_prefix("model ") {
            return self.models.of(&name.to_owned());
        }
        let Some(text) = subject.strip_prefix("source ") else {
            return Vec::new();
        };
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        let Ok(address) = address.parse() else {
            return Vec::new();
        };
        self.sources.of(&source_host(address))
    }
}

/// The latest requests by subject. If there are too many subjects, the one without a request for
/// the longest time is forgotten.
struct Queues<K> {
    queues: HashMap<K, Queue>,
    /// The subjects by the number of their latest request.
    by_latest: BTreeMap<u64, K>,
    added: u64,
}

/// The latest requests of one subject, and the number of the last one.
#[derive(Default)]
struct Queue {
    requests: VecDeque<Rc<Request>>,
    latest: u64,
}

impl<K> Default for Queues<K> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            by_latest: BTreeMap::new(),
            added: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Queues<K> {
    fn add(&mut self, subject: K, request: &Rc<Request>) {
        self.added = self.added.saturating_add(1);
        let queue = self.queues.entry(subject.clone()).or_default();
        self.by_latest.remove(&queue.latest);
        queue.latest = self.added;
        self.by_latest.insert(self.added, subject);
        if queue.requests.len() >= MAX_REQUESTS {
            queue.requests.pop_front();
        }
        queue.requests.push_back(Rc::clone(request));
        if self.queues.len() > MAX_SUBJECTS
            && let Some((_, oldest)) = self.by_latest.pop_first()
        {
            self.queues.remove(&oldest);
        }
    }

    fn of(&self, subject: &K) -> Vec<&Request> {
        let queue = self.queues.get(subject);
        let requests = queue.into_iter().flat_map(|it| it.requests.iter().rev());
        requests.map(|request| &**request).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(id: &str, client: &str, source: &str) -> Decision {
        Decision {
            request_id: Some(id.to_owned()),
            client: Some(client.to_owned()),
            model: Some("m".to_owned()),
            source: Some(source.to_owned()),
            ..Decision::default()
        }
    }

    fn ids<'r>(recent: &'r RecentRequests, subject: &str) -> Vec<&'r str> {
        let requests = recent.of(subject).into_iter();
        requests.map(|it| it.request_id.as_str()).collect()
    }

    #[test]
    fn a_request_belongs_to_its_client_its_model_and_its_network() {
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
            // Where IPv4 and IPv6 share a listener, Envoy names an address of IPv4 so.
            ("::ffff:192.0.2.1", "source 192.0.2.1", true),
            ("::ffff:192.0.2.1", "source 192.0.2.2", false),
            ("192.0.2.1", "the gateway", false),
        ] {
            let mut recent = RecentRequests::default();
            recent.add(decision("id", "a", source));
            let found = !recent.of(subject).is_empty();
            assert_eq!(found, expected, "{source:?} {subject:?}");
        }
    }

    #[test]
    fn a_busy_client_does_not_displace_the_requests_of_another() {
        let mut recent = RecentRequests::default();
        recent.add(decision("quiet", "b", "192.0.2.2"));
        for number in 0..10_000 {
            recent.add(decision(&number.to_string(), "a", "192.0.2.1"));
        }
        let latest = ["9999", "9998", "9997", "9996", "9995"];
        assert_eq!(ids(&recent, "client a"), latest);
        assert_eq!(ids(&recent, "client b"), ["quiet"]);
        assert_eq!(ids(&recent, "source 192.0.2.2"), ["quiet"]);
    }

    #[test]
    fn of_too_many_clients_the_one_without_a_request_for_the_longest_time_is_forgotten() {
        let mut recent = RecentRequests::default();
        recent.add(decision("first", "idle", ""));
        recent.add(decision("second", "active", ""));
        for number in 2..MAX_SUBJECTS {
            recent.add(decision("other", &format!("client-{number}"), ""));
        }
        recent.add(decision("third", "active", ""));
        assert_eq!(ids(&recent, "client idle"), ["first"]);
        recent.add(decision("fourth", "new", ""));
        assert!(ids(&recent, "client idle").is_empty());
        assert_eq!(ids(&recent, "client active"), ["third", "second"]);
        assert_eq!(recent.clients.queues.len(), MAX_SUBJECTS);
    }
}
