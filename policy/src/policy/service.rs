//! The validated rate-limit service for limits of scope `global`.

use alloc::string::String;

use crate::raw::ServiceFailure;

/// The rate limit service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitService {
    pub(crate) counter: Counter,
    pub(crate) domain: String,
    pub(crate) timeout_ms: u64,
    pub(crate) on_failure: ServiceFailure,
}

/// Where counters are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    /// In Redis, by the sandbox host.
    Redis(Redis),
    /// In another server of the same protocol.
    Endpoint {
        /// DNS name or address; IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// A Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: u8,
    pub(crate) ca: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<String>,
}

impl RateLimitService {
    /// Where counters are stored.
    pub const fn counter(&self) -> &Counter {
        &self.counter
    }

    /// Domain of these limits in a shared service.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Timeout of a call, in milliseconds.
    pub const fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Fallback while the service fails.
    pub const fn on_failure(&self) -> ServiceFailure {
        self.on_failure
    }
}

impl Redis {
    /// DNS name or address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The database.
    pub const fn database(&self) -> u8 {
        self.database
    }

    /// CA file for TLS, relative to the policy; plain text if absent.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// User name.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Password file, relative to the policy.
    pub fn password_file(&self) -> Option<&str> {
        self.password_file.as_deref()
    }
}
