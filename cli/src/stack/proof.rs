//! The proof that a gate is ready: a request that went through the filter.
//!
//! Envoy starts without a filter that it has rejected, says that it is live, and answers 500 to
//! every request. So a request is sent to the listener, and the host says whether the filter has
//! seen it: the filter signs what it lets through, and numbers what it rejects in Envoy's access
//! log. The request has no credential. Whether the filter lets it through does not matter.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::envoy;
use super::plan::Plan;
use super::probe::{self, Target};
use super::run::{LOOK_EVERY, START_PATIENCE};

/// What is asked for.
const PATH: &str = "/v2/health/live";
/// Time between two requests. Envoy's access log takes a tenth of it to tell the host of one.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Sends requests to the listener until the host is ready. Gives a line for each cause for which a
/// model is not ready.
///
/// # Errors
/// What Envoy has rejected, or why the host is not ready after all.
pub async fn a_request_went_through_the_filter(
    plan: &Plan,
    listener: &Target,
) -> Result<Vec<String>, String> {
    let give_up = Instant::now().checked_add(START_PATIENCE);
    let mut next = Instant::now();
    let mut answer = String::new();
    loop {
        let rejected = envoy::rejected(&plan.envoy_admin).await;
        if !rejected.is_empty() {
            return Err(format!("Envoy rejected {}", rejected.join(" and ")));
        }
        let why = match probe::ask(&plan.host_admin, "GET", "/readyz").await {
            Ok(said) => return Ok(said.lines().skip(1).map(str::to_owned).collect()),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= next {
            let asked = probe::ask(listener, "GET", PATH).await;
            answer = asked.unwrap_or_else(|error| error.to_string());
            next = Instant::now().checked_add(ASK_EVERY).unwrap_or(next);
        }
        if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
            return Err(format!(
                "not ready within {START_PATIENCE:?}: the host says {why}; the listener answers {answer}"
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}
