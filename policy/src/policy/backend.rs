//! Inference servers, validated.

use alloc::string::String;
use alloc::vec::Vec;

use crate::raw::BackendKind;

/// An inference server, or several that serve the same models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub(crate) kind: BackendKind,
    pub(crate) endpoints: Vec<String>,
    pub(crate) models: Option<String>,
    pub(crate) tls: Option<BackendTls>,
    pub(crate) max_in_flight: usize,
    pub(crate) min_in_flight: Option<usize>,
    pub(crate) queue: usize,
    pub(crate) timeout_ms: u64,
    pub(crate) retry: Retry,
    pub(crate) health_interval_ms: u64,
    pub(crate) health_path: Option<String>,
    pub(crate) outliers: OutlierDetection,
    pub(crate) breaker: CircuitBreaker,
}

impl Backend {
    /// What it speaks.
    pub const fn kind(&self) -> BackendKind {
        self.kind
    }

    /// `http://host:port`, or `https://host:port` with [`Self::tls`]; empty for an embedded one.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The embedded server's folder of models.
    pub fn models(&self) -> Option<&str> {
        self.models.as_deref()
    }

    /// Whom to trust at `https` endpoints.
    pub const fn tls(&self) -> Option<&BackendTls> {
        self.tls.as_ref()
    }

    /// Requests at the backend at once.
    pub const fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// Requests that wait for a place.
    pub const fn queue(&self) -> usize {
        self.queue
    }

    /// A dispatch, the wait and every retry included, milliseconds.
    pub const fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Sending a request again.
    pub const fn retry(&self) -> Retry {
        self.retry
    }

    /// Between two probes of a backend that is ready, milliseconds.
    pub const fn health_interval_ms(&self) -> u64 {
        self.health_interval_ms
    }

    /// The path that says whether a server of `http-json` is ready.
    pub fn health_path(&self) -> Option<&str> {
        self.health_path.as_deref()
    }

    /// Requests that may be at the backend in any case, where how many is learnt up to [`Self::max_in_flight`].
    pub const fn min_in_flight(&self) -> Option<usize> {
        self.min_in_flight
    }

    /// When an endpoint is left alone for a while.
    pub const fn outliers(&self) -> OutlierDetection {
        self.outliers
    }

    /// When the backend is left alone for a while, whole.
    pub const fn breaker(&self) -> CircuitBreaker {
        self.breaker
    }
}

/// TLS to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    pub(crate) trust: Trust,
    pub(crate) spiffe: Option<String>,
}

/// Where it is known from whom to trust at a backend, and who the gate is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// PEM files, relative to the policy.
    Files {
        /// Authorities that may vouch for a server.
        ca: String,
        /// The certificate chain that the gate shows, and its key.
        identity: Option<(String, String)>,
    },
    /// The agent of SPIFFE's Workload API at `unix:/path`. A server's SPIFFE ID is always known beside it.
    WorkloadApi(String),
}

impl BackendTls {
    /// Whoever these authorities, a PEM file, vouch for by name; nothing is shown in turn.
    pub fn of_authorities(ca: &str) -> Self {
        Self {
            trust: Trust::Files {
                ca: ca.into(),
                identity: None,
            },
            spiffe: None,
        }
    }

    /// Whom to trust, and who the gate is.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The SPIFFE ID of every server, in place of host names.
    pub fn spiffe(&self) -> Option<&str> {
        self.spiffe.as_deref()
    }
}

/// Sending a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub(crate) attempts: u32,
    pub(crate) budget_percent: u32,
}

impl Retry {
    /// Never.
    pub(crate) const NONE: Self = Self {
        attempts: 0,
        budget_percent: 0,
    };

    /// Times that one request is sent again at most.
    pub const fn attempts(self) -> u32 {
        self.attempts
    }

    /// Retries to the backend, in percent of the requests to it.
    pub const fn budget_percent(self) -> u32 {
        self.budget_percent
    }
}

/// Leaving an endpoint alone that fails in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    pub(crate) consecutive_failures: u32,
    pub(crate) base_ejection_ms: u64,
    pub(crate) max_ejection_percent: u32,
}

impl OutlierDetection {
    /// Failures in a row that eject an endpoint.
    pub const fn consecutive_failures(self) -> u32 {
        self.consecutive_failures
    }

    /// How long for the first time, milliseconds.
    pub const fn base_ejection_ms(self) -> u64 {
        self.base_ejection_ms
    }

    /// Endpoints that may be ejected at once, in percent.
    pub const fn max_ejection_percent(self) -> u32 {
        self.max_ejection_percent
    }
}

/// Leaving a whole backend alone that fails in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitBreaker {
    pub(crate) consecutive_failures: u32,
    pub(crate) open_ms: u64,
}

impl CircuitBreaker {
    /// Failures in a row, of whichever endpoints, that open it.
    pub const fn consecutive_failures(self) -> u32 {
        self.consecutive_failures
    }

    /// How long nothing is sent for the first time, milliseconds.
    pub const fn open_ms(self) -> u64 {
        self.open_ms
    }
}
