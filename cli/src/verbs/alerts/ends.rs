//! Which alerts of a log are over: a later record of the same cause says so of each.

use std::collections::HashMap;

use tensorgate_audit::record::AlertRecord;
use tensorgate_policy::values::WatchRule;

/// The times at which alerts were over, by cause, and by rule and subject.
#[derive(Default)]
pub struct Ends(HashMap<(String, String), String>);

impl Ends {
    /// Takes a record of a log.
    pub fn add(&mut self, time: &str, alert: &AlertRecord) {
        let Some(cause) = alert.cause.as_ref().filter(|_| alert.is_over()) else {
            return;
        };
        let own = format!("{}: {}", alert.rule, alert.subject);
        for name in alert.joined.iter().cloned().chain([own]) {
            self.0.insert((cause.clone(), name), time.to_owned());
        }
    }

    /// Whether an alert is over, once all records are known. None for an alert about a single
    /// event, and for those of hosts that did not say it. `may_be_open`: whether the host that
    /// raised it may still say so. After a restart no message follows.
    pub fn state(&self, alert: &AlertRecord, may_be_open: bool) -> Option<String> {
        let rule = WatchRule::from_name(&alert.rule)?;
        if alert.state.is_some() || !rule.lasts() {
            return None;
        }
        let name = format!("{}: {}", alert.rule, alert.subject);
        match self.0.get(&(alert.cause.clone()?, name)) {
            Some(time) => Some(format!("over since {time}")),
            None => may_be_open.then(|| "open".to_owned()),
        }
    }
}
