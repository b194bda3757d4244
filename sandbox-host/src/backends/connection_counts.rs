//! Counts the kept connections of one backend.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tensorgate_net::http1::{CloseCause, ConnectionEvent, Observe};
use tensorgate_telemetry::labels::ConnectionLabels;

/// Each event and its label.
const EVENTS: [(ConnectionEvent, &str); 10] = [
    (ConnectionEvent::Opened, "opened"),
    (ConnectionEvent::Reused, "reused"),
    (
        ConnectionEvent::Closed(CloseCause::Server),
        "closed-by-server",
    ),
    (ConnectionEvent::Closed(CloseCause::Idle), "closed-idle"),
    (ConnectionEvent::Closed(CloseCause::Age), "closed-age"),
    (
        ConnectionEvent::Closed(CloseCause::Surplus),
        "closed-surplus",
    ),
    (
        ConnectionEvent::Closed(CloseCause::Identity),
        "closed-identity",
    ),
    (ConnectionEvent::Closed(CloseCause::Unread), "closed-unread"),
    (
        ConnectionEvent::Closed(CloseCause::Ambiguous),
        "closed-ambiguous",
    ),
    (
        ConnectionEvent::Closed(CloseCause::Unsolicited),
        "closed-unsolicited",
    ),
];

/// The counters of a backend.
#[derive(Debug)]
pub struct ConnectionCounts([Counter; EVENTS.len()]);

impl ConnectionCounts {
    /// Creates all counters of a backend, so that none appears with its first event.
    pub fn new(counters: &Family<ConnectionLabels, Counter>, backend: &str) -> Self {
        Self(EVENTS.map(|(_, event)| {
            let labels = ConnectionLabels {
                backend: backend.to_owned(),
                event,
            };
            counters.get_or_create(&labels).clone()
        }))
    }
}

impl Observe for ConnectionCounts {
    fn observe(&self, event: ConnectionEvent) {
        let mut counters = EVENTS.iter().zip(&self.0);
        if let Some((_, counter)) = counters.find(|((known, _), _)| *known == event) {
            counter.inc();
        }
    }
}
