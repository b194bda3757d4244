//! What is kept of single records of the audit log, to be shown as rows.

use std::time::SystemTime;

use tensorgate_audit::record::{AlertRecord, ArtifactRecord, By, Decision, Verdict};
use tensorgate_values::safe_text::prefix;

/// The longest cause that is kept, in bytes.
const MAX_DETAIL_BYTES: usize = 300;

/// A request and its outcome.
#[derive(Clone, Debug)]
pub struct DecisionRow {
    /// When it began.
    pub time: SystemTime,
    /// The outcome.
    pub verdict: Verdict,
    /// What decided it.
    pub by: By,
    /// `ok`, or the reason of the denial.
    pub reason: String,
    /// The verified client, if there is one.
    pub client: Option<String>,
    /// The model, once granted.
    pub model: Option<String>,
    /// The model's version.
    pub version: Option<String>,
    /// The operation.
    pub operation: Option<String>,
    /// The source address.
    pub source: Option<String>,
    /// The gate's ID.
    pub request_id: Option<String>,
    /// The cause, at most 300 bytes.
    pub detail: Option<String>,
    /// The HTTP status, 0 if none was sent.
    pub status: u16,
    /// The gRPC status.
    pub grpc_status: Option<u8>,
    /// The time from the head to the response, in microseconds.
    pub total_us: u64,
    /// How many denials shadow mode allowed.
    pub shadowed: usize,
}

impl DecisionRow {
    pub(crate) fn new(time: SystemTime, decision: &Decision) -> Self {
        let detail = decision.detail.as_deref();
        Self {
            time,
            verdict: decision.verdict,
            by: decision.by,
            reason: decision.reason.clone(),
            client: decision.client.clone(),
            model: decision.model.clone(),
            version: decision.version.clone(),
            operation: decision.operation.clone(),
            source: decision.source.clone(),
            request_id: decision.request_id.clone(),
            detail: detail.map(|text| prefix(text, MAX_DETAIL_BYTES).to_owned()),
            status: decision.status,
            grpc_status: decision.grpc_status,
            total_us: decision.total_us,
            shadowed: decision.shadow.len(),
        }
    }
}

/// An alert.
#[derive(Clone, Debug)]
pub struct AlertRow {
    /// When it was raised.
    pub time: SystemTime,
    /// The minute in which it was raised, by the recorder's clock.
    pub minute: u64,
    /// Its record.
    pub record: AlertRecord,
    /// Whether what it reported is over.
    pub is_over: bool,
}

/// A change of a policy, a handler or the files of a model.
#[derive(Clone, Debug)]
pub struct ArtifactRow {
    /// When.
    pub time: SystemTime,
    /// What happened.
    pub record: ArtifactRecord,
}

/// A policy that came into force.
#[derive(Clone, Debug)]
pub struct PolicyRow {
    /// When.
    pub time: SystemTime,
    /// Its version.
    pub generation: String,
}

/// Records of the audit log that were lost.
#[derive(Clone, Debug)]
pub struct LossRow {
    /// When it was noticed.
    pub time: SystemTime,
    /// How many.
    pub count: u64,
    /// Where they were lost.
    pub cause: String,
}

/// The last signed record of the audit log.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointRow {
    /// When it was written.
    pub time: SystemTime,
    /// The requests that the host has recorded since it started.
    pub decisions: u64,
    /// The records that it dropped.
    pub dropped: u64,
}
