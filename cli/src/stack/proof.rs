//! Readiness check of a gate: a request that passes through the filter.
//!
//! Envoy starts even without a filter that it rejected. It then reports that it is live, and
//! answers every request with 500. So a request is sent to the listener, and the host reports
//! whether the filter has seen it. The filter signs accepted requests, and numbers rejected ones in
//! Envoy's access log. The request has no credential; whether it is accepted does not matter.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::envoy;
use super::plan::Plan;
use super::probe::{self, Target};
use super::ready::{POLL_INTERVAL, START_TIMEOUT};

/// Path of the request.
const PATH: &str = "/v2/health/live";
/// Interval between requests. Envoy's access log reaches the host in a tenth of it.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// The same after a restart, when Envoy is known to have its filter.
const WAKE_INTERVAL: Duration = Duration::from_millis(200);

/// Sends requests to the listener until a host that was started again is ready: it waits for one
/// that passed the filter. Gives up after the time of a start; requests of clients do the same.
pub async fn wake_host(plan: &Plan, listener: &Target) {
    let give_up = Instant::now().checked_add(START_TIMEOUT);
    while probe::ask(&plan.host_admin, "GET", "/readyz")
        .await
        .is_err()
        && give_up.is_some_and(|give_up| Instant::now() < give_up)
    {
        let _ = probe::send_request(listener, "GET", PATH).await;
        sleep(WAKE_INTERVAL).await;
    }
}

/// Sends requests to the listener until the host is ready. Returns a line for each cause why a
/// model is not ready.
///
/// # Errors
/// Parts that Envoy rejected, or the cause why the host is not ready.
pub async fn a_request_went_through_the_filter(
    plan: &Plan,
    listener: &Target,
) -> Result<Vec<String>, String> {
    let give_up = Instant::now().checked_add(START_TIMEOUT);
    let mut next = Instant::now();
    let mut answer = String::new();
    loop {
        let rejected = envoy::rejected(&plan.envoy_admin).await;
        if !rejected.is_empty() {
            return Err(format!("Envoy rejected {}", rejected.join(" and ")));
        }
        let why = match probe::ask(&plan.host_admin, "GET", "/readyz").await {
            Ok(body) => return Ok(probe::causes(&body)),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= next {
            let asked = probe::ask(listener, "GET", PATH).await;
            answer = asked.unwrap_or_else(|error| error.to_string());
            next = Instant::now().checked_add(REQUEST_INTERVAL).unwrap_or(next);
        }
        if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
            return Err(format!(
                "not ready within {START_TIMEOUT:?}: host: {why}; listener: {answer}"
            ));
        }
        sleep(POLL_INTERVAL).await;
    }
}
