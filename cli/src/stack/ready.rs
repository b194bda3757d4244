//! Waits until a process is ready.

use std::time::Duration;

use tensorgate_settings::admin::COMPILING;
use tokio::time::{Instant, sleep};

use super::probe::{self, Target};

/// Timeout for a process to get ready, or to report that it still compiles handlers. Envoy compiles
/// the filter, which takes a while on a busy machine.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval between polls for readiness and for requests in flight.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How to check that a process is ready.
#[derive(Clone, Debug)]
pub enum Ready {
    /// It accepts connections.
    Accepts(Target),
    /// It responds with status 200.
    Answers(Target, &'static str),
}

/// Polls until a process is ready; otherwise returns the last cause. The timeout restarts while a
/// host compiles handlers. `waits` gets the cause after each poll.
pub(super) async fn get_ready(ready: &Ready, mut waits: impl FnMut(&str)) -> Result<(), String> {
    let mut give_up = Instant::now().checked_add(START_TIMEOUT);
    loop {
        let why = match ready {
            Ready::Accepts(target) if probe::accepts(target).await => return Ok(()),
            Ready::Accepts(_) => "not accepting connections".to_owned(),
            Ready::Answers(target, path) => match probe::ask(target, "GET", path).await {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            },
        };
        waits(&why);
        if why.contains(COMPILING) {
            give_up = Instant::now().checked_add(START_TIMEOUT);
        }
        if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
            return Err(why);
        }
        sleep(POLL_INTERVAL).await;
    }
}
