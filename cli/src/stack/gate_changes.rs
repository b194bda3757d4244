//! Asks the host's `/status`: once for `tensorgate status`, and again and again for the lines of
//! `up`. A host that is away is asked again later, and one that has restarted from the beginning.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use tensorgate_watch::gate_status::GateStatus;
use tokio::time::sleep;

use super::front::Front;
use super::probe::{Target, ask};

/// Interval between queries. The host looks at its own state as often.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What was read so far.
#[derive(Debug, Default)]
struct Follower {
    /// The host's run, in which changes and alerts are numbered.
    run: String,
    /// The last change.
    change: u64,
    /// The last alert.
    alert: u64,
}

/// What a host says of itself, with the changes after a number or else the last ones. `None` if it
/// does not answer, or is of an older release.
pub async fn ask_status(target: &Target, after: Option<u64>) -> Option<GateStatus> {
    let path = match after {
        Some(after) => format!("/status?after={after}"),
        None => "/status".to_owned(),
    };
    let text = ask(target, "GET", &path).await.ok()?;
    let status: GateStatus = serde_json::from_str(&text).ok()?;
    (!status.run.is_empty()).then_some(status)
}

/// A time without the fraction of its second.
pub fn seconds(time: &str) -> String {
    let to_second = time
        .split_once('.')
        .map(|(to_second, _)| format!("{to_second}Z"));
    to_second.unwrap_or_else(|| time.to_owned())
}

/// Passes on what the host says of itself. Never returns.
pub async fn follow<F: Front>(target: &Target, front: &RefCell<&mut F>) -> Infallible {
    let mut follower = Follower::default();
    loop {
        sleep(POLL_INTERVAL).await;
        let Some(status) = ask_status(target, Some(follower.change)).await else {
            continue;
        };
        if let Some(status) = follower.take(status) {
            front.borrow_mut().changed(&status);
        }
    }
}

impl Follower {
    /// Takes an answer with the changes after the last one. Returns what is new in it; `None` if
    /// the host has restarted and must be asked again.
    fn take(&mut self, mut status: GateStatus) -> Option<GateStatus> {
        if status.run != self.run {
            let after = self.change;
            *self = Self {
                run: status.run.clone(),
                ..Self::default()
            };
            if after > 0 {
                return None;
            }
        }
        if let Some(last) = status.changes.last() {
            self.change = last.number;
        }
        let known = self.alert;
        status.alerts.last.retain(|alert| alert.number > known);
        if let Some(last) = status.alerts.last.last() {
            self.alert = last.number;
        }
        Some(status)
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_watch::conditions::{Change, Condition, ConditionKind};
    use tensorgate_watch::recent_outcomes::{RecentAlert, RecentAlerts};

    use super::*;

    /// An answer with a change and an alert.
    fn status(run: &str, change: u64, alert: u64) -> GateStatus {
        let condition = Condition {
            kind: ConditionKind::BackendAway,
            subject: String::new(),
            client: None,
            detail: String::new(),
        };
        let change = Change {
            number: change,
            time: String::new(),
            begins: true,
            condition,
        };
        let alert = RecentAlert {
            number: alert,
            ..RecentAlert::default()
        };
        GateStatus {
            run: run.to_owned(),
            changes: vec![change],
            alerts: RecentAlerts {
                open: 1,
                last: vec![alert],
            },
            ..GateStatus::default()
        }
    }

    #[test]
    fn a_restarted_host_is_read_from_the_beginning() {
        let mut follower = Follower::default();
        let mut take = |run, change, alert| {
            let taken = follower.take(status(run, change, alert));
            let alerts = taken.as_ref().map(|taken| taken.alerts.last.len());
            (alerts, follower.change)
        };
        assert_eq!(take("a", 3, 1), (Some(1), 3));
        assert_eq!(take("a", 4, 1), (Some(0), 4), "the alert is known");
        assert_eq!(take("a", 5, 2), (Some(1), 5));
        assert_eq!(take("b", 6, 1), (None, 0), "asked for those after 5");
        assert_eq!(take("b", 1, 1), (Some(1), 1));
    }
}
