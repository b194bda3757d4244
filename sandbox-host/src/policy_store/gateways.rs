//! Which policy version each gateway applies, as its last request showed.
//!
//! In a mesh each gateway gets its policy from a control plane. A gateway that no longer gets any
//! goes on serving, so an operator must see it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tensorgate_settings::admin::GatewayStatus;
use tokio::time::Instant;

/// The most gateways that are remembered. Beyond it the one that was seen least recently is
/// dropped.
const MAX_GATEWAYS: usize = 1_024;
/// How long a gateway is shown after its last request, in seconds. Pods of a gateway come and go,
/// and one that is gone would otherwise count as one that gets no policies.
const SHOWN_S: u64 = 3_600;

/// The gateways that were seen.
pub(super) struct Gateways {
    started: Instant,
    seen: RwLock<BTreeMap<Arc<str>, LastRequest>>,
}

/// What the last request of a gateway showed.
struct LastRequest {
    generation: String,
    /// Seconds since the start.
    at_s: AtomicU64,
}

impl Gateways {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            seen: RwLock::default(),
        }
    }

    /// Remembers a gateway's request. While its version stays the same, requests share a lock.
    pub(super) fn saw(&self, gateway: &str, generation: &str) {
        let at_s = self.started.elapsed().as_secs();
        {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            let last = seen.get(gateway);
            if let Some(last) = last.filter(|last| last.generation == generation) {
                last.at_s.store(at_s, Ordering::Relaxed);
                return;
            }
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_GATEWAYS && !seen.contains_key(gateway) {
            let oldest = seen
                .iter()
                .min_by_key(|(_, last)| last.at_s.load(Ordering::Relaxed))
                .map(|(name, _)| Arc::clone(name));
            if let Some(oldest) = oldest {
                seen.remove(&oldest);
            }
        }
        let last = LastRequest {
            generation: generation.to_owned(),
            at_s: AtomicU64::new(at_s),
        };
        seen.insert(gateway.into(), last);
    }

    /// The gateways that sent a request not long ago, by name. `is_known` is whether the host has a
    /// version.
    pub(super) fn status(&self, is_known: impl Fn(&str) -> bool) -> Vec<GatewayStatus> {
        let now_s = self.started.elapsed().as_secs();
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .map(|(name, last)| GatewayStatus {
                gateway: name.to_string(),
                generation: last.generation.clone(),
                known: is_known(&last.generation),
                last_seen_s: now_s.saturating_sub(last.at_s.load(Ordering::Relaxed)),
            })
            .filter(|status| status.last_seen_s <= SHOWN_S)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(number: usize) -> Arc<str> {
        format!("uid {number:04}").into()
    }

    fn seen(gateway: &str, generation: &str, known: bool, last_seen_s: u64) -> GatewayStatus {
        GatewayStatus {
            gateway: gateway.to_owned(),
            generation: generation.to_owned(),
            known,
            last_seen_s,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_gateway_has_the_version_of_its_last_request() {
        let gateways = Gateways::new();
        let status = || gateways.status(|generation| generation == "b");
        assert!(status().is_empty());
        gateways.saw(&name(1), "a");
        gateways.saw(&name(2), "b");
        tokio::time::advance(Duration::from_secs(5)).await;
        gateways.saw(&name(2), "b");
        assert_eq!(
            status(),
            [
                seen("uid 0001", "a", false, 5),
                seen("uid 0002", "b", true, 0),
            ]
        );
        gateways.saw(&name(1), "b");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            status(),
            [
                seen("uid 0001", "b", true, 1),
                seen("uid 0002", "b", true, 1),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_is_gone_is_not_shown_for_ever() {
        let gateways = Gateways::new();
        gateways.saw(&name(1), "a");
        tokio::time::advance(Duration::from_secs(SHOWN_S)).await;
        gateways.saw(&name(2), "a");
        assert_eq!(gateways.status(|_| true).len(), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(gateways.status(|_| true), [seen("uid 0002", "a", true, 1)]);
        gateways.saw(&name(1), "a");
        assert_eq!(gateways.status(|_| true).len(), 2, "it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_the_gateway_that_was_seen_least_recently_is_dropped() {
        let gateways = Gateways::new();
        for number in 0..MAX_GATEWAYS {
            gateways.saw(&name(number), "a");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        for number in (0..MAX_GATEWAYS).filter(|number| *number != 7) {
            gateways.saw(&name(number), "a");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        gateways.saw(&name(MAX_GATEWAYS), "a");
        // A new version of a known gateway drops none.
        gateways.saw(&name(8), "b");
        let names: Vec<_> = (gateways.status(|_| true).into_iter())
            .map(|status| status.gateway)
            .collect();
        let expected: Vec<_> = (0..=MAX_GATEWAYS)
            .filter(|number| *number != 7)
            .map(|number| name(number).to_string())
            .collect();
        assert_eq!(names, expected);
    }
}
