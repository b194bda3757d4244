//! Traces of requests: where they are sent, of how many requests, and whom their beginning is
//! trusted from.

use tensorgate_policy::policy::{SAMPLE_SHARES, Tracing};
use tensorgate_policy::report::{Path, Valid, optional};

use super::otlp_endpoint::{TRACES_PATH, endpoint};
use crate::raw;

/// Default fraction of requests that are sampled.
const DEFAULT_SAMPLE: f64 = 0.01;

pub(super) fn tracing(at: &Path, policy: &raw::Policy) -> Valid<Option<Tracing>> {
    let raw = policy
        .audit
        .as_ref()
        .and_then(|audit| audit.tracing.as_ref());
    optional(raw, |raw| {
        let endpoint = endpoint(
            &at.field("endpoint"),
            raw.endpoint.as_ref(),
            raw.insecure,
            TRACES_PATH,
        );
        let shares = shares(&at.field("sample"), raw.sample.unwrap_or(DEFAULT_SAMPLE));
        let trusted = trusted(&at.field("trust"), raw, policy);
        let endpoint = endpoint?;
        trusted?;
        Some(Tracing {
            tls: endpoint.tls,
            host: endpoint.host,
            port: endpoint.port,
            path: endpoint.path,
            sampled_shares: shares?,
            trust: raw.trust.clone(),
        })
    })
}

/// The number of shares that is nearest to a fraction of all requests.
fn shares(at: &Path, sample: f64) -> Option<u32> {
    let scaled = sample * f64::from(SAMPLE_SHARES);
    if !(1.0..=f64::from(SAMPLE_SHARES)).contains(&scaled) {
        return at.fail_with_fix("is not a fraction from 0.0001 to 1", "0.01");
    }
    (1..=SAMPLE_SHARES).find(|shares| f64::from(*shares) + 0.5 > scaled)
}

/// Checks that trusted clients are clients of the policy.
fn trusted(at: &Path, raw: &raw::Tracing, policy: &raw::Policy) -> Option<()> {
    let mut valid = at.distinct(&raw.trust);
    for (index, name) in raw.trust.iter().enumerate() {
        if !policy.clients.contains_key(name) {
            let known = policy.clients.keys();
            valid = at.index(index).unknown("client", name, known);
        }
    }
    valid
}
