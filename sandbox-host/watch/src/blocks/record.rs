//! A record about one client: it is blocked or throttled for a time, or no longer.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::AlertAction;

use super::text;

/// The longest block, in milliseconds: 30 days.
pub const MAX_BLOCK_MS: u64 = 2_592_000_000;
/// The longest reason in bytes.
pub const MAX_REASON_BYTES: usize = 200;
/// The longest name of a client in bytes, as in a policy.
const MAX_CLIENT_BYTES: usize = 128;
/// The longest name of an operator or rule in bytes.
const MAX_BY_BYTES: usize = 64;
/// The latest time. Redis computes with doubles, which are exact up to it.
const MAX_MS: u64 = (1 << 53) - 1;
/// How `by` begins in records of rules.
const BY_RULE: &str = "rule ";

/// What is done to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockAction {
    /// Every request is denied.
    Block,
    /// One in ten requests is served, and no streams.
    Throttle,
}

impl BlockAction {
    /// What an alert does to its client, if anything.
    pub(crate) const fn from_alert(action: AlertAction) -> Option<Self> {
        match action {
            AlertAction::Notify => None,
            AlertAction::Throttle => Some(Self::Throttle),
            AlertAction::Block => Some(Self::Block),
        }
    }
}

/// A record about a client. It may already have ended, or end an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRecord {
    /// The client's name in the policy.
    pub client: String,
    /// What is done to it.
    pub action: BlockAction,
    /// When the record was made, in Unix milliseconds. It is later than that of the record before
    /// it about this client, whatever the clocks say.
    pub changed_ms: u64,
    /// Until when it is in force. Not later than `changed_ms` if it lifts a block.
    pub until_ms: u64,
    /// Until when it is kept. An earlier record that another gateway still has would otherwise
    /// return.
    pub forget_ms: u64,
    /// Who made it: `user 1000`, or `rule volume`.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Orders the records about one client: when it was made, then until when it is in force and kept.
pub type BlockVersion = (u64, u64, u64);

impl BlockRecord {
    /// A record that begins now and replaces an earlier one, if there is one. `lasts_ms` is 0 to
    /// lift a block.
    pub fn new(
        client: &str,
        action: BlockAction,
        lasts_ms: u64,
        earlier: Option<&Self>,
        unix_ms: u64,
    ) -> Self {
        let after = earlier.map_or(0, |earlier| earlier.changed_ms.saturating_add(1));
        let changed_ms = unix_ms.max(after);
        let until_ms = changed_ms.saturating_add(lasts_ms.min(MAX_BLOCK_MS));
        Self {
            client: client.to_owned(),
            action,
            changed_ms,
            until_ms,
            forget_ms: earlier.map_or(until_ms, |earlier| until_ms.max(earlier.forget_ms)),
            by: String::new(),
            reason: String::new(),
        }
    }

    /// Says who made it, and why. A longer reason is shortened.
    #[must_use]
    pub fn made_by(self, by: String, reason: &str) -> Self {
        let end = reason.floor_char_boundary(MAX_REASON_BYTES);
        let reason = reason.get(..end).unwrap_or_default();
        Self {
            by,
            reason: reason.replace(char::is_control, " "),
            ..self
        }
    }

    /// Which of two records about a client is the later one.
    pub const fn version(&self) -> BlockVersion {
        (self.changed_ms, self.until_ms, self.forget_ms)
    }

    /// Whether it only ends an earlier one.
    pub const fn is_lifted(&self) -> bool {
        self.until_ms <= self.changed_ms
    }

    /// Whether an anomaly rule made it.
    pub(crate) fn is_automatic(&self) -> bool {
        self.by.starts_with(BY_RULE)
    }

    /// The name of a rule as it stands in `by`.
    pub(crate) fn by_rule(rule: &str) -> String {
        format!("{BY_RULE}{rule}")
    }

    /// Until when it is in force, as a text.
    pub fn until(&self) -> String {
        text(self.until_ms)
    }

    /// Checks the bounds of its fields.
    ///
    /// # Errors
    /// Returns what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let line = |name: &str, text: &str, least: usize, most: usize| {
            if (least..=most).contains(&text.len()) && !text.contains(char::is_control) {
                Ok(())
            } else {
                Err(format!("{name} is not one line of {least} to {most} bytes"))
            }
        };
        line("client", &self.client, 1, MAX_CLIENT_BYTES)?;
        line("by", &self.by, 1, MAX_BY_BYTES)?;
        line("reason", &self.reason, 0, MAX_REASON_BYTES)?;
        let latest = self.changed_ms.saturating_add(MAX_BLOCK_MS);
        let is_ordered = self.changed_ms <= self.until_ms && self.until_ms <= self.forget_ms;
        if is_ordered && self.forget_ms <= latest && self.forget_ms <= MAX_MS {
            Ok(())
        } else {
            Err("its times are not in order, or more than 30 days apart".to_owned())
        }
    }
}
