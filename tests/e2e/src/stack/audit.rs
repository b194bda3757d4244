//! The audit log of a gate, line by line.

use serde_json::Value;

use super::{OWN_PATH, Stack};
use crate::ask;

impl Stack {
    /// Lines of the audit log that satisfy a condition.
    pub fn audit_lines(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let log = self.log("audit/decisions.jsonl");
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(wanted).collect()
    }

    /// The same without the request that `up` sends itself; of one type.
    pub fn audit_lines_of(&self, kind: &str) -> Vec<Value> {
        self.audit_lines(|line| line["type"] == kind && line["path"] != OWN_PATH)
    }

    /// Waits until the audit log has at least `count` lines that satisfy a condition.
    pub async fn met_audit_lines(
        &self,
        count: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let read = || self.audit_lines(&wanted);
        ask::met("the audit log has these lines", || read().len() >= count).await;
        read()
    }
}
