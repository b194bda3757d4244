//! Peers that a TCP listener rejects: the causes in the words of its flags, their count, and log
//! lines at a bounded rate.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tensorgate_telemetry::metrics::Metrics;
use tokio::time::Instant;
use tokio_rustls::rustls::{CertificateError, Error};

/// The least time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// The most names of a rejected certificate in the log, and the most characters of each.
const MAX_LOGGED_NAMES: (usize, usize) = (4, 128);

/// Why a peer is rejected.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Too many handshakes are in progress.
    #[error("too many handshakes are in progress")]
    TooMany,
    /// The handshake takes too long.
    #[error("the handshake took too long")]
    TimedOut,
    /// The handshake failed.
    #[error("{}", handshake_cause(.0))]
    Handshake(io::Error),
    /// No protocol was negotiated.
    #[error("the peer does not negotiate HTTP/2 (ALPN h2), which gRPC needs")]
    NoHttp2,
    /// The certificate has no allowed name. The names that it has are named.
    #[error("the peer's certificate has no name of --gateway, but {}", listed(.0))]
    Name(Vec<String>),
}

/// The cause of a failed handshake.
fn handshake_cause(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let Some(error) = inner else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the peer closed the connection during the handshake".to_owned()
            }
            _ => error.to_string(),
        };
    };
    match error {
        Error::NoCertificatesPresented => "the peer presents no client certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate is of an authority that --tls-client-ca does not contain"
                .to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the peer's certificate has expired".to_owned(),
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the peer's certificate is not valid yet".to_owned(),
        Error::InvalidCertificate(cause) => format!("the peer's certificate is invalid: {cause}"),
        Error::PeerIncompatible(_) => {
            "the peer does not offer TLS 1.3 with an algorithm of this host".to_owned()
        }
        Error::NoApplicationProtocol => Refusal::NoHttp2.to_string(),
        Error::InvalidMessage(_) => "the peer does not speak TLS".to_owned(),
        Error::AlertReceived(alert) => {
            format!("the peer rejects this host or its certificate: alert {alert:?}")
        }
        other => other.to_string(),
    }
}

/// Names of a certificate, in a bounded form without control characters.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "no URI and no DNS name".to_owned();
    }
    let (count, length) = MAX_LOGGED_NAMES;
    let name = |name: &String| {
        let shown: String = name.chars().take(length).collect();
        format!("{shown:?}")
    };
    let shown: Vec<_> = names.iter().take(count).map(name).collect();
    shown.join(", ")
}

/// Counts rejected peers, and logs some of them.
#[derive(Debug)]
pub struct Refusals {
    metrics: Arc<Metrics>,
    log: Mutex<LogLimit>,
}

impl Refusals {
    /// Creates a counter on a metric.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            log: Mutex::default(),
        }
    }

    /// Counts a peer, and logs it unless another one was logged just before.
    pub fn record(&self, peer: SocketAddr, refusal: &Refusal) {
        self.metrics.peers_refused.inc();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(not_logged) = log.allow(Instant::now()) {
            let cause = refusal.to_string();
            tracing::warn!(%peer, cause, not_logged, "connection rejected at its TLS handshake");
        }
    }
}

/// Permits one log line an interval.
#[derive(Debug, Default)]
struct LogLimit {
    last: Option<Instant>,
    not_logged: u64,
}

impl LogLimit {
    /// The number of lines that were not permitted since the last one, if another is permitted.
    fn allow(&mut self, now: Instant) -> Option<u64> {
        let recent = |last| now.saturating_duration_since(last) < LOG_INTERVAL;
        if self.last.is_some_and(recent) {
            self.not_logged = self.not_logged.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.not_logged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_says_what_to_look_at() {
        let handshake = |error: Error| {
            Refusal::Handshake(io::Error::new(io::ErrorKind::InvalidData, error)).to_string()
        };
        let invalid = |cause| handshake(Error::InvalidCertificate(cause));
        for (text, expected) in [
            (invalid(CertificateError::UnknownIssuer), "--tls-client-ca"),
            (invalid(CertificateError::Expired), "has expired"),
            (invalid(CertificateError::NotValidYet), "not valid yet"),
            (invalid(CertificateError::BadSignature), "is invalid"),
            (
                handshake(Error::NoCertificatesPresented),
                "no client certificate",
            ),
            (handshake(Error::NoApplicationProtocol), "ALPN h2"),
            (
                Refusal::Handshake(io::ErrorKind::UnexpectedEof.into()).to_string(),
                "closed the connection",
            ),
            (
                Refusal::Name(vec!["spiffe://a/\u{1b}b".to_owned()]).to_string(),
                r#"no name of --gateway, but "spiffe://a/\u{1b}b""#,
            ),
            (Refusal::Name(Vec::new()).to_string(), "no DNS name"),
        ] {
            assert!(text.contains(expected), "{text}");
        }
        let long = Refusal::Name(vec!["x".repeat(100_000); 1_000]).to_string();
        assert!(long.len() < 1_000, "{}", long.len());
    }

    #[tokio::test(start_paused = true)]
    async fn one_line_an_interval_says_how_many_were_left_out() {
        let mut limit = LogLimit::default();
        let now = Instant::now();
        let found = [0, 1, 999, 1_000, 1_001, 2_500].map(|ms| {
            let later = Duration::from_millis(ms);
            limit.allow(now.checked_add(later).unwrap_or(now))
        });
        assert_eq!(found, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
