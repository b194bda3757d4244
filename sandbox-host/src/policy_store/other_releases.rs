//! Gateways of other releases, whose requests this host does not understand and rejects.
//!
//! Only a context that a key of this host verifies counts. So a client can neither be one of them,
//! nor write to the log. They never make the host unready: it may serve other gateways.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tensorgate_wire::context::Release;
use tokio::time::Instant;

/// How often the log names the same release.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How long a release is shown after its last request.
const SHOWN: Duration = Duration::from_secs(300);
/// The most releases that are remembered. Beyond it the one that was seen least recently is
/// dropped.
const MAX_RELEASES: usize = 8;

/// The releases that were seen.
#[derive(Default)]
pub(super) struct OtherReleases {
    seen: Mutex<BTreeMap<Release, Rejected>>,
}

/// Rejected requests of a release.
struct Rejected {
    last: Instant,
    logged: Instant,
    /// Requests since then.
    unlogged: u64,
}

impl OtherReleases {
    /// Counts a rejected request of a gateway. Returns how many the log has not named yet, if it
    /// is time to log them.
    fn count(&self, release: &Release) -> Option<u64> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rejected) = seen.get_mut(release) {
            rejected.last = now;
            rejected.unlogged = rejected.unlogged.saturating_add(1);
            if now.saturating_duration_since(rejected.logged) < LOG_INTERVAL {
                return None;
            }
            rejected.logged = now;
            return Some(std::mem::take(&mut rejected.unlogged));
        }
        if seen.len() >= MAX_RELEASES {
            let oldest = seen.iter().min_by_key(|(_, rejected)| rejected.last);
            if let Some(oldest) = oldest.map(|(release, _)| release.clone()) {
                seen.remove(&oldest);
            }
        }
        let first = Rejected {
            last: now,
            logged: now,
            unlogged: 0,
        };
        seen.insert(release.clone(), first);
        Some(1)
    }

    /// Notes a rejected request, and logs it unless the release was logged within a minute.
    pub(super) fn rejected(&self, release: &Release, gateway: &str) {
        if let Some(requests) = self.count(release) {
            let cause = Release::mismatch(release, &Release::own());
            tracing::error!(gateway, requests, cause, "requests of another release");
        }
    }

    /// The releases that were rejected not long ago, one line each. For operators, never for
    /// callers.
    pub(super) fn warnings(&self) -> Vec<String> {
        let now = Instant::now();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .map(|(release, rejected)| (release, now.saturating_duration_since(rejected.last)))
            .filter(|(_, age)| *age <= SHOWN)
            .map(|(release, age)| {
                let cause = Release::mismatch(release, &Release::own());
                format!("release: {cause} (last request {} s ago)", age.as_secs())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_release_is_logged_once_a_minute_and_shown_for_a_while() {
        let (releases, other) = (OtherReleases::default(), Release::own());
        assert!(releases.warnings().is_empty());
        assert_eq!(releases.count(&other), Some(1));
        for _ in 0..9 {
            assert_eq!(releases.count(&other), None);
        }
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!(releases.count(&other), Some(10));
        tokio::time::advance(SHOWN).await;
        let lines = releases.warnings();
        assert!(
            matches!(lines.as_slice(), [line] if line.ends_with("(last request 300 s ago)")),
            "{lines:?}"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(releases.warnings().is_empty());
    }
}
