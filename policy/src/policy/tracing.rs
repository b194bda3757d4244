//! Validated rules of traces of requests.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::getters;

/// The number of equal shares of all requests of which [`Tracing::sampled_shares`] are sampled.
pub const SAMPLE_SHARES: u32 = 10_000;

/// Where traces of requests are sent, and of which requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracing {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub sampled_shares: u32,
    pub trust: Vec<String>,
}

getters! { Tracing {
    /// Whether the receiver uses TLS.
    tls: bool,
    /// The receiver's name, or its address without brackets.
    host: &str,
    /// Its port.
    port: u16,
    /// The path of requests.
    path: &str,
    /// How many of [`SAMPLE_SHARES`] shares of requests are sampled, at least one.
    sampled_shares: u32,
} }

impl Tracing {
    /// Whether the `traceparent` of a client with this name is continued.
    pub fn trusts(&self, client: &str) -> bool {
        self.trust.iter().any(|name| name == client)
    }
}
