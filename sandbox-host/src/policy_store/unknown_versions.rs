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

/// The versions that are remembered.
#[derive(Default)]
pub(super) struct UnknownVersions {
    versions: Mutex<BTreeMap<Arc<str>, UnknownVersion>>,
}

struct UnknownVersion {
    /// Until when its requests are decided.
    until: Instant,
    /// When a request named it last, or the host dropped it.
    named: Instant,
}

impl UnknownVersion {
    fn begun(now: Instant) -> Self {
        Self {
            until: now.checked_add(GRACE).unwrap_or(now),
            named: now,
        }
    }

    /// Whether its time is over, and no gateway names it any more.
    fn is_gone(&self, now: Instant) -> bool {
        now >= self.until && now.saturating_duration_since(self.named) >= GRACE
    }
}

impl UnknownVersions {
    /// Whether a request under this version may be decided by another. The time begins with the
    /// first request. While too many versions are remembered, no other is accepted. One that no
    /// gateway names any more makes room, or each reload would take a place for good.
    pub(super) fn is_within_grace(&self, version: &str) -> bool {
        let now = Instant::now();
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = versions.get_mut(version) {
            known.named = now;
            return now < known.until;
        }
        if versions.len() >= MAX_VERSIONS {
            versions.retain(|_, known| !known.is_gone(now));
        }
        if versions.len() >= MAX_VERSIONS {
            return false;
        }
        versions.insert(version.into(), UnknownVersion::begun(now));
        true
    }

    /// Remembers that the host has this version no longer. Its time begins anew. If there is no
    /// place, the version that was named least recently is forgotten. One that a gateway still
    /// names stays, or its time would begin anew after many reloads.
    pub(super) fn dropped(&self, version: &str) {
        let now = Instant::now();
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.len() >= MAX_VERSIONS && !versions.contains_key(version) {
            let oldest = versions.iter().min_by_key(|(_, known)| known.named);
            if let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) {
                versions.remove(&oldest);
            }
        }
        versions.insert(version.into(), UnknownVersion::begun(now));
    }
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

    #[tokio::test(start_paused = true)]
    async fn versions_that_no_gateway_names_any_more_make_room() {
        let versions = UnknownVersions::default();
        for number in 0..MAX_VERSIONS {
            versions.dropped(&number.to_string());
        }
        tokio::time::advance(Duration::from_secs(14 * 60)).await;
        assert!(versions.is_within_grace("0"));
        assert!(!versions.is_within_grace("new"), "the others may be named");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(versions.is_within_grace("new"));
        assert!(!versions.is_within_grace("0"), "a gateway still names it");
    }

    #[tokio::test(start_paused = true)]
    async fn reloads_do_not_give_a_version_that_a_gateway_names_its_time_again() {
        let versions = UnknownVersions::default();
        assert!(versions.is_within_grace("stuck"));
        // One reload a minute, more than are remembered.
        for minute in 1..200_u32 {
            tokio::time::advance(Duration::from_secs(60)).await;
            let accepted = versions.is_within_grace("stuck");
            assert_eq!(accepted, minute < 15, "minute {minute}");
            versions.dropped(&minute.to_string());
        }
    }
}
