//! Which version of a model a request gets that names none, and which versions get copies of what others were asked.
//!
//! | versions | a request that names none |
//! |---|---|
//! | one | that one |
//! | several without weights | is refused |
//! | weights | one of those that its client is granted, by weight: for each request by itself, or the same for each client |
//!
//! What asks and runs nothing (metadata, readiness, statistics) is about the version with the most weight: an answer that changed from one
//! question to the next would be of no use.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::draw::Draw;
use crate::request::Operation;

/// How requests are shared among a model's versions.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// One for each version, in their order; none where versions are called by name alone.
    pub(crate) weights: Vec<u32>,
    /// Whether each client keeps to one version.
    pub(crate) by_client: bool,
    pub(crate) shadows: Vec<ShadowVersion>,
}

/// A version that gets copies and answers nobody.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowVersion {
    pub(crate) version: String,
    pub(crate) percent: u32,
    pub(crate) tolerance: f64,
}

impl Routing {
    /// Whether a request that names no version gets one by weight.
    pub const fn has_weights(&self) -> bool {
        !self.weights.is_empty()
    }

    /// Versions that get copies, in order; none of them is among [`super::Model::versions`].
    pub fn shadows(&self) -> &[ShadowVersion] {
        &self.shadows
    }

    /// The place of the version for a request that names none, among those that may be picked; `None` where none of these has weight.
    pub(crate) fn pick(
        &self,
        (draw, client, model): (Draw, &str, &str),
        operation: Operation,
        may: impl Fn(u32) -> bool + Copy,
    ) -> Option<u32> {
        let weighed = (0_u32..)
            .zip(self.weights.iter().copied())
            .filter(move |(place, weight)| *weight > 0 && may(*place));
        if !operation.infers() {
            // Of equals the first.
            let heaviest = weighed.max_by_key(|(place, weight)| (*weight, Reverse(*place)));
            return heaviest.map(|(place, _)| place);
        }
        let draw = if self.by_client {
            Draw::of(client)
        } else {
            draw
        };
        let picked = draw
            .with(model)
            .pick(weighed.clone().map(|(_, weight)| weight))?;
        weighed.clone().nth(picked).map(|(place, _)| place)
    }
}

impl ShadowVersion {
    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether what was asked with this draw is copied.
    pub fn copies(&self, draw: Draw) -> bool {
        let rest = 100_u32.saturating_sub(self.percent);
        draw.with(&self.version)
            .pick([self.percent, rest].into_iter())
            == Some(0)
    }

    /// How far floats may be apart, of the larger of two or of 1.
    pub const fn tolerance(&self) -> f64 {
        self.tolerance
    }
}
