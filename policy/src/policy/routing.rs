//! Version routing: which version of a model serves a request without a version, and which versions
//! get mirrored requests.
//!
//! | versions | a request without a version |
//! |---|---|
//! | one | uses that one |
//! | several without weights | is rejected |
//! | weights | uses a granted version by weight, per request or per client |
//!
//! Requests that do not run the model (metadata, readiness, statistics) use the version with the
//! largest weight, so that repeated requests get the same response.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use serde::{Deserialize, Serialize};

use crate::request::Operation;
use crate::request::RequestHash;

/// Routing among a model's versions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Routing {
    /// One weight per version in order; empty if versions are called by name only.
    pub weights: Vec<u32>,
    /// Whether each client stays on one version.
    pub by_client: bool,
    pub shadows: Vec<ShadowVersion>,
}

/// A version that gets mirrored requests only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowVersion {
    pub version: String,
    pub percent: u32,
    pub tolerance: f64,
}

impl Routing {
    /// Whether requests without a version are routed by weight.
    pub const fn has_weights(&self) -> bool {
        !self.weights.is_empty()
    }

    /// Shadow versions in order; none is among [`super::Model::versions`].
    pub fn shadows(&self) -> &[ShadowVersion] {
        &self.shadows
    }

    /// Index of the version for a request without one, among the allowed versions; `None` if none
    /// has weight.
    pub(crate) fn pick(
        &self,
        (request_hash, client, model): (RequestHash, &str, &str),
        operation: Operation,
        may: impl Fn(u32) -> bool + Copy,
    ) -> Option<u32> {
        let weighed = (0_u32..)
            .zip(self.weights.iter().copied())
            .filter(move |(index, weight)| *weight > 0 && may(*index));
        if !operation.infers() {
            // The first one of equal weights.
            let heaviest = weighed.max_by_key(|(index, weight)| (*weight, Reverse(*index)));
            return heaviest.map(|(index, _)| index);
        }
        let request_hash = if self.by_client {
            RequestHash::from_request_id(client)
        } else {
            request_hash
        };
        let picked = request_hash
            .with(model)
            .pick(weighed.clone().map(|(_, weight)| weight))?;
        weighed.clone().nth(picked).map(|(index, _)| index)
    }
}

impl ShadowVersion {
    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether a request with this hash is mirrored.
    pub fn mirrors(&self, request_hash: RequestHash) -> bool {
        let rest = 100_u32.saturating_sub(self.percent);
        request_hash
            .with(&self.version)
            .pick([self.percent, rest].into_iter())
            == Some(0)
    }

    /// Tolerated difference of floats, relative to the larger value or to 1.
    pub const fn tolerance(&self) -> f64 {
        self.tolerance
    }
}
