//! The body of a webhook, with the members that Standard Webhooks recommends.

use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use tensorgate_audit::record::AlertRecord;
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_policy::values::AlertSeverity;

/// The type of the event.
const KIND: &str = "tensorgate.alert";

/// A message that is the same in each attempt.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) severity: AlertSeverity,
    pub(super) id: String,
    pub(super) body: Bytes,
}

#[derive(Serialize)]
struct Content<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: &'a AlertRecord,
}

impl Message {
    /// The message of an alert. Every alert has a JSON form.
    pub(super) fn new(
        record: &AlertRecord,
        severity: AlertSeverity,
        now: SystemTime,
    ) -> Option<Self> {
        let content = Content {
            kind: KIND,
            timestamp: rfc3339(now),
            data: record,
        };
        let body = serde_json::to_vec(&content).ok()?;
        Some(Self {
            severity,
            id: record.id.clone(),
            body: body.into(),
        })
    }
}
