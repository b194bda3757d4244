//! Validated inference servers.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::{BackendKind, ConnectionSharing, getters};

/// An inference server, or several that serve the same models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub kind: BackendKind,
    pub endpoints: Vec<String>,
    pub models: Option<String>,
    pub tls: Option<BackendTls>,
    pub connections: ConnectionSharing,
    pub max_in_flight: usize,
    pub min_in_flight: Option<usize>,
    pub queue: usize,
    pub timeout_ms: u64,
    pub retry: Retry,
    pub health_interval_ms: u64,
    pub health_path: Option<String>,
    pub outliers: OutlierDetection,
    pub breaker: CircuitBreaker,
}

getters! { Backend {
    /// Protocol of the backend.
    kind: BackendKind,
    /// `http://host:port`, or `https://host:port` with [`Self::tls`]; empty for an embedded one.
    endpoints: &[String],
    /// Model folder of the embedded server.
    models: Option<&str>,
    /// TLS settings of `https` endpoints.
    tls: Option<&BackendTls>,
    /// Which requests share a kept HTTP/1.1 connection.
    connections: ConnectionSharing,
    /// Maximum requests in flight at the backend.
    max_in_flight: usize,
    /// Maximum queued requests.
    queue: usize,
    /// Timeout of a dispatch including queue and retries, in milliseconds.
    timeout_ms: u64,
    /// Retry settings.
    retry: Retry,
    /// Interval between health checks of a ready backend, in milliseconds.
    health_interval_ms: u64,
    /// Readiness path of an `http-json` server.
    health_path: Option<&str>,
    /// Minimum concurrency limit, if the limit is adaptive up to [`Self::max_in_flight`].
    min_in_flight: Option<usize>,
    /// Outlier detection of endpoints.
    outliers: OutlierDetection,
    /// Circuit breaker of the backend.
    breaker: CircuitBreaker,
} }

/// TLS to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendTls {
    pub trust: Trust,
    pub spiffe: Option<String>,
}

/// Trusted authorities and the gate's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// PEM files, relative to the policy.
    Files {
        /// Authorities of server certificates.
        ca: String,
        /// Certificate chain and key of the gate.
        identity: Option<(String, String)>,
    },
    /// SPIFFE Workload API at `unix:/path`. The server's SPIFFE ID is then always configured too.
    WorkloadApi(String),
}

impl BackendTls {
    /// Trust in the authorities of a PEM file, by host name, without a client certificate.
    pub fn of_authorities(ca: &str) -> Self {
        Self {
            trust: Trust::Files {
                ca: ca.into(),
                identity: None,
            },
            spiffe: None,
        }
    }

    /// Trusted authorities and the gate's identity.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// SPIFFE ID of every server, instead of host names.
    pub fn spiffe(&self) -> Option<&str> {
        self.spiffe.as_deref()
    }
}

/// Retry settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub attempts: u32,
    pub budget_percent: u32,
}

impl Retry {
    /// No retries.
    pub const NONE: Self = Self {
        attempts: 0,
        budget_percent: 0,
    };

    /// Maximum retries of one request.
    pub const fn attempts(self) -> u32 {
        self.attempts
    }

    /// Retry budget in percent of the requests to the backend.
    pub const fn budget_percent(self) -> u32 {
        self.budget_percent
    }
}

/// Ejection of endpoints after consecutive failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    pub consecutive_failures: u32,
    pub base_ejection_ms: u64,
    pub max_ejection_percent: u32,
}

impl OutlierDetection {
    /// Consecutive failures that eject an endpoint.
    pub const fn consecutive_failures(self) -> u32 {
        self.consecutive_failures
    }

    /// Duration of the first ejection, in milliseconds.
    pub const fn base_ejection_ms(self) -> u64 {
        self.base_ejection_ms
    }

    /// Maximum percentage of ejected endpoints.
    pub const fn max_ejection_percent(self) -> u32 {
        self.max_ejection_percent
    }
}

/// Circuit breaker of a backend after consecutive failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    pub consecutive_failures: u32,
    pub open_ms: u64,
}

impl CircuitBreaker {
    /// Consecutive failures of any endpoints that open the circuit.
    pub const fn consecutive_failures(self) -> u32 {
        self.consecutive_failures
    }

    /// Duration of the first open state, in milliseconds.
    pub const fn open_ms(self) -> u64 {
        self.open_ms
    }
}
