//! The content of audit records. Field names are stable, because tools read them. Values that a
//! client chooses are shortened and printable (`tensorgate_policy::values::safe_text`), so that no
//! record can grow without limit, start a second one, or control a terminal.

mod artifact;
mod lenient_path;
mod rejections;
mod shorten;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use tensorgate_base::egress_log::EgressRecord;
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::denial::Shadowed;
use tensorgate_policy::release::TopClass;

use crate::sequence::Marks;
pub use artifact::{ArtifactAction, ArtifactKind, ArtifactRecord};
pub use lenient_path::lenient_path;
pub use rejections::Rejections;
pub(crate) use shorten::shortened;
pub use text::{
    MAX_CLIENT_ID_BYTES, MAX_DETAIL_BYTES, MAX_ID_BYTES, MAX_METHOD_BYTES, MAX_NAME_BYTES,
    MAX_PATH_BYTES, clean_shadowed, path,
};

/// The version of the fields.
pub const FORMAT: u64 = 1;
/// The `why` of the first record of a host's run.
pub const START: &str = "start";
/// The `why` of a file that was created because the previous one was removed, replaced or changed.
pub const REOPEN: &str = "reopen";
/// The `type` of the line by which an exporter reports records that it could not send. It is in no
/// log, and has no hash.
pub const EXPORT_LOST: &str = "export-lost";
/// The field with the source address of a request, set by the proxy. It is used for this log only
/// and decides nothing.
pub const SOURCE_HEADER: &str = "x-tensorgate-source";

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The start of a file: a host has started, or the previous file is full or was removed.
    Open(Open),
    /// A policy is active from here on.
    Policy {
        /// Its version.
        generation: String,
    },
    /// A request and its outcome.
    Decision(Box<Decision>),
    /// A request ended differently than its record says.
    Amend(Amend),
    /// The outcome of a mirrored request to a version in shadow. The request itself has a record of
    /// its own.
    Copy(Copied),
    /// The circuit breaker of a handler opened or closed.
    CutOff(CutOff),
    /// A model, a handler or a policy was scanned, verified, rejected, loaded or unloaded.
    Artifact(ArtifactRecord),
    /// A rule on the audit stream has raised an alert.
    Alert(Box<AlertRecord>),
    /// A client was blocked or throttled, or is no longer.
    Block(Block),
    /// Rejected requests of unknown callers beyond those with records of their own.
    Rejections(Box<Rejections>),
    /// Records that could not be written.
    Dropped {
        /// Their number.
        count: u64,
        /// Where they were lost.
        cause: String,
    },
    /// Consecutive outcomes of one filter VM that only Envoy's access log knows, and whose entries
    /// were lost.
    Lost {
        /// The VM's name.
        vm: String,
        /// The first number.
        first: u64,
        /// Their number.
        count: u64,
    },
    /// A record that is signed if the log has a chain. It proves that the records before it are as
    /// the host wrote them.
    Checkpoint {
        /// The number of requests that this host has recorded since it started.
        decisions: u64,
        /// The number of records that it dropped.
        dropped: u64,
        /// The last entry of each filter VM that is recorded before this record, or reported as
        /// lost.
        #[serde(default, skip_serializing_if = "Marks::is_empty")]
        heard: Marks,
    },
    /// The host has stopped regularly.
    Stop,
    /// Not a record of a log: the content of the file beside it that says where the log ends.
    Head {
        /// The log's ID.
        log: String,
    },
}

/// The first record of a file, and of a host's run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The log's ID, 32 hex digits, the same in all its files.
    pub log: String,
    /// `start`, `rotate`, or [`REOPEN`].
    pub why: String,
    /// The public key for checkpoints, 64 hex digits. Absent for a log without a chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The number of the first record that is kept.
    pub oldest_seq: u64,
    /// The damage that the host found in the log that it continues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// The last entry of each filter VM that is recorded before this record, or reported as lost.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub heard: Marks,
}

/// The outcome of a mirrored request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The gate's ID of the original request.
    pub request_id: String,
    /// The model's public name.
    pub model: String,
    /// The version in shadow.
    pub version: String,
    /// `agree`, `differ` or `fail`.
    pub outcome: String,
    /// The first difference, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The time until the response was compared, in microseconds.
    pub total_us: u64,
}

/// A change of a handler's circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOff {
    /// The handler.
    pub handler: String,
    /// The client whose circuit changed, empty for one without a name. Absent if the circuit for
    /// all clients changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `open`, then `closed`.
    pub state: String,
    /// The time until the next probe, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// An alert of a rule on the audit stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// The alert's ID. A webhook has the same one.
    pub id: String,
    /// The rule, as in a policy.
    pub rule: String,
    /// Who it is about: `client NAME`, `model NAME`, `source ADDRESS`, a group that is watched
    /// together, or the gateway.
    pub subject: String,
    /// When it began.
    pub since: String,
    /// The number that the rule judged.
    pub observed: Number,
    /// The usual number.
    pub usual: Number,
    /// What is counted.
    pub unit: String,
    /// What happened, as a sentence without its subject.
    pub what: String,
    /// What to do.
    pub advice: String,
    /// The number of earlier alerts like it that were only counted.
    pub withheld: u64,
    /// What was done to the client: `blocked until TIME`, `throttled until TIME`, or why it was not
    /// blocked. Absent if alerts of the rule do nothing to this subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// `info`, `warning` or `critical`. Absent in logs of older hosts, as are the fields below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// The name of the gateway: `watch.name` of its policy, or the name of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The client that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The model that it is about, or that the client's last request was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The source address of the request that raised it, if it is about the request's client or
    /// source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The gate's ID of the request that raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// A command that acts on it, for a POSIX shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The same for all alerts of one cause, and for the one that says that it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// `joined` if it only names further alerts of a cause, or `over`. Absent for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The rules and subjects of alerts of this cause that have no record of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<String>,
    /// The number of further ones, which have no name here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_beyond: Option<u64>,
}

impl AlertRecord {
    /// The `state` of a record that only names further alerts of a cause.
    pub const JOINED: &str = "joined";
    /// The `state` of a record that says that what was reported is over.
    pub const OVER: &str = "over";

    /// Whether it says that what was reported is over.
    pub fn is_over(&self) -> bool {
        self.state.as_deref() == Some(Self::OVER)
    }

    /// Whether it is about a source of requests, which anyone can be.
    pub fn is_about_source(&self) -> bool {
        self.subject.starts_with("source ")
    }
}

/// A change of a block of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The client's name.
    pub client: String,
    /// `blocked`, `throttled`, or `lifted`. A block also ends by itself, without a line.
    pub state: String,
    /// When it ends by itself. Absent if it was lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What decided it: an operator's `user 1000`, or `rule volume`.
    pub by: String,
    /// Why, as the operator or the alert says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Damage that a host found, at its start or while it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// At a start `torn`, `truncated`, `damaged`, `rewritten`, `head-missing` or `head-invalid`.
    /// For the current file: `gone`, `replaced`, `truncated` or `grown`.
    pub what: String,
    /// A description.
    pub detail: String,
}

/// What decided the outcome of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The filter in Envoy.
    Gate,
    /// The sandbox host.
    #[default]
    Host,
    /// Envoy itself.
    Envoy,
}

impl By {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Host => "host",
            Self::Envoy => "envoy",
        }
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was answered.
    Allow,
    /// It was denied.
    #[default]
    Deny,
    /// It ended before its response was complete.
    Aborted,
}

impl Verdict {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Aborted => "aborted",
        }
    }
}

/// A request and its outcome. Absent fields are unknown or do not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// The gate's ID. Absent if the request was rejected before the filter saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The request's `x-request-id` as it arrived at the filter. The proxy has created it, or the
    /// client where the proxy keeps a client's. It is not unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    /// The `id` of the client's own message, as in the open inference protocol. The client chooses
    /// it, and it is not unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The valid `traceparent` that arrived (W3C Trace Context). The client or a proxy has set it.
    /// It decides nothing and proves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The ID of the trace that the gate's spans of the request belong to, with `audit.tracing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The stream's ID, for a message of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// What decided the outcome.
    pub by: By,
    /// The outcome.
    pub verdict: Verdict,
    /// `ok`, the reason of the denial, or `incomplete`.
    pub reason: String,
    /// The client's verified name. For a rejected key that is revoked, the name of its client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The name of the credential that was checked, valid or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `HTTP/1.1`, `HTTP/2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// As in a policy: `oip-rest`, `oip-grpc`, `tf-serving-rest`, `tf-serving-grpc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path without its query. One that is too long is what a lenient server reads, shortened
    /// to [`MAX_PATH_BYTES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The model's public name, once granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// As in a policy: `infer`, `stream`, `metadata`, `ready`, `statistics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The grant that was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The policy version that was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// The whole cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Denials that were not enforced because of the grant's mode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<Shadowed>,
    /// The HTTP status, 0 if none was sent.
    pub status: u16,
    /// The gRPC status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// The size of the request body.
    pub request_bytes: u64,
    /// The size of the response body, 0 if the host denied the request.
    pub response_bytes: u64,
    /// The tokens of the request that a language model has read, as its server counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// The tokens that it has generated. Of a streamed response, its `amend` line has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// The time from the head to the response, where the outcome was decided.
    pub total_us: u64,
    /// The time in handlers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler_us: Option<u64>,
    /// The time at the backend, including the wait for a permit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch_us: Option<u64>,
    /// The part of it spent waiting for a permit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_us: Option<u64>,
    /// The fuel of all handler calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// The egress records of handlers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<EgressRecord>,
    /// Envoy's response flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Envoy's response code details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<String>,
    /// The number of Envoy's entry, `VM.NUMBER`, if the record comes from a numbered one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The fields that were shortened or left out, because the line would be longer than 16 KiB.
    /// Lists lose their last entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,
    /// The most likely class of the response. It is only for rules on the audit stream and never
    /// written, because it is a part of a client's data.
    #[serde(skip)]
    pub top_class: Option<TopClass>,
    /// How many inputs have values near the bounds of their ranges, for the same rules.
    #[serde(skip)]
    pub near_bounds: Option<NearBounds>,
}

/// How a request ended after its record was written. Absent fields are as in its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amend {
    /// The gate's ID.
    pub request_id: String,
    /// What decided the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// The outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The whole cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The client of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The model's public name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The stream's ID, for a message of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The valid `traceparent` that arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The status that the client got, 0 for none.
    pub status: u16,
    /// The gRPC status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// The response bytes that were sent.
    pub response_bytes: u64,
    /// The time from Envoy's first byte to its last.
    pub total_us: u64,
    /// Envoy's response flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Envoy's response code details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<String>,
    /// The number of Envoy's entry, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The number of messages of a finished stream. Each has a record of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// The number of responses to a message with several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
    /// The tokens of the request that a language model has read, as its server counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// The tokens that it has generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// The verdict of the record so far, if this host knows it. It is only for counts of requests
    /// and never written.
    #[serde(skip)]
    pub recorded: Option<Verdict>,
}

impl Amend {
    /// How a request ended that counts as allowed. One that was denied stays so, whatever becomes
    /// of its response.
    pub fn late_verdict(&self) -> Option<Verdict> {
        let counts_as_allowed = self.recorded.is_none_or(|it| it == Verdict::Allow);
        let verdict = self.verdict.filter(|it| *it != Verdict::Allow);
        verdict.filter(|_| counts_as_allowed)
    }
}
