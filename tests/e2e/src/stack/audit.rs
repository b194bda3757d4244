//! The audit log of a gate, line by line.

use serde_json::Value;

use super::{AUDIT_LOG, OWN_PATH, Stack};
use crate::ask;

impl Stack {
    /// Lines of the audit log that satisfy a condition.
    pub fn audit_lines(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let log = self.log(AUDIT_LOG);
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .map(|line| self.with_the_tests_client(line))
            .filter(wanted)
            .collect()
    }

    /// Gives the line's client the name that it has in the test's policy.
    fn with_the_tests_client(&self, mut line: Value) -> Value {
        let client = line["client"].as_str();
        if let Some(name) = client.and_then(|name| name.strip_suffix(&*self.suffix)) {
            line["client"] = name.into();
        }
        line
    }

    /// The same without the request that `up` sends itself; of one type.
    pub fn audit_lines_of(&self, kind: &str) -> Vec<Value> {
        self.audit_lines(|line| line["type"] == kind && line["path"] != OWN_PATH)
    }

    /// Waits until the audit log has at least `count` lines about requests that satisfy a
    /// condition. An alert names a request too, and is not among them.
    pub async fn met_request_lines(
        &self,
        count: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let is_one = |line: &Value| line["type"] != "alert" && wanted(line);
        let read = || self.audit_lines(is_one);
        ask::met("the audit log has these lines", || read().len() >= count).await;
        read()
    }
}
