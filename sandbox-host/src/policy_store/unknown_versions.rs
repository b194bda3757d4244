//! Policy versions that gateways name and the host does not have: not yet, or no longer.
//!
//! The newest policy decides their requests, but only for a while. A gateway that gets no policies
//! any more would otherwise serve for ever, with the revocations and limits of its last one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long requests under a version are decided by another. Kubernetes delivers a changed
/// ConfigMap within about two minutes, and a control plane configures its proxies sooner.
pub(super) const GRACE: Duration = Duration::from_secs(15 * 60);
/// The most versions that are remembered. Only gateways name versions.
const MAX_VERSIONS: usize = 64;

/// The versions, and until when their requests are decided.
#[derive(Default)]
pub(super) struct UnknownVersions {
    until: Mutex<BTreeMap<Arc<str>, Instant>>,
}

impl UnknownVersions {
    /// Whether a request under this version may be decided by another. The time begins with the
    /// first request. While too many versions are remembered, no other is accepted.
    pub(super) fn is_within_grace(&self, version: &str) -> bool {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until.get(version) {
            return now < *until;
        }
        if until.len() >= MAX_VERSIONS {
            return false;
        }
        until.insert(version.into(), later(now));
        true
    }

    /// Remembers that the host has this version no longer. Its time begins anew.
    pub(super) fn dropped(&self, version: &str) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX_VERSIONS && !until.contains_key(version) {
            let oldest = until.iter().min_by_key(|(_, until)| **until);
            if let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) {
                until.remove(&oldest);
            }
        }
        until.insert(version.into(), later(now));
    }
}

fn later(now: Instant) -> Instant {
    now.checked_add(GRACE).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_version_has_its_time_once() {
        let versions = UnknownVersions::default();
        assert!(versions.is_within_grace("a"));
        tokio::time::advance(Duration::from_secs(14 * 60)).await;
        assert!(versions.is_within_grace("a"));
        versions.dropped("b");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!versions.is_within_grace("a") && versions.is_within_grace("b"));
        tokio::time::advance(Duration::from_secs(14 * 60)).await;
        assert!(!versions.is_within_grace("a") && !versions.is_within_grace("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn versions_beyond_the_bound_are_not_accepted() {
        let versions = UnknownVersions::default();
        for number in 0..MAX_VERSIONS {
            assert!(versions.is_within_grace(&number.to_string()));
        }
        assert!(!versions.is_within_grace("one more"));
        versions.dropped("superseded");
        assert!(versions.is_within_grace("superseded"));
    }
}
