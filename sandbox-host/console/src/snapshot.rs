//! What the console shows of a host, as it was at one moment. The service collects it; the page is
//! a function of it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tensorgate_audit::record::Found;
use tensorgate_telemetry::handler_statistics::HandlerTotals;
use tensorgate_watch::blocks::ListedBlock;
use tensorgate_watch::gate_status::GateStatus;

use crate::recorder::Recent;

/// The state of a host.
#[derive(Debug)]
pub enum Snapshot {
    /// It has no policy yet. The lines say what it does meanwhile.
    Starting(SystemTime, Vec<String>),
    /// A policy is in force.
    Running(Box<Running>),
}

/// The state of a host with a policy.
#[derive(Debug)]
pub struct Running {
    /// When it was collected.
    pub time: SystemTime,
    /// The gateway's name in alerts.
    pub gateway: String,
    /// Why the host accepts no requests. Empty if it does.
    pub unready: Vec<String>,
    /// What is wrong although it accepts requests.
    pub warnings: Vec<String>,
    /// Requests in the host.
    pub in_flight: i64,
    /// What `/status` has.
    pub status: GateStatus,
    /// What is kept of the audit log's records.
    pub recent: Recent,
    /// Model versions, those that are not ready first.
    pub models: Vec<ModelRow>,
    /// How many model versions there are. More than are listed if the list is shortened.
    pub models_total: usize,
    /// How many of them are not ready.
    pub models_unready: usize,
    /// Handlers by name and role.
    pub handlers: BTreeMap<(String, &'static str), HandlerTotals>,
    /// The memory of all handlers and its limit, in bytes.
    pub handler_memory: (usize, usize),
    /// Clients that are blocked or throttled, the ended ones too while they are kept.
    pub blocks: Vec<ListedBlock>,
    /// The policy.
    pub policy: PolicyState,
    /// The audit log.
    pub audit: AuditState,
}

/// A model's version.
#[derive(Clone, Debug)]
pub struct ModelRow {
    /// The model's public name.
    pub model: String,
    /// The version.
    pub version: String,
    /// Its backend, empty for an ensemble.
    pub backend: String,
    /// Why it is not ready. Empty if it is.
    pub causes: Vec<String>,
    /// What is known of its files.
    pub files: ModelFiles,
}

/// What is known of the files of a model's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// The policy asks for no verification.
    NotChecked,
    /// They are being verified.
    Checking,
    /// They are the verified ones.
    Verified,
    /// They were rejected, for this cause.
    Rejected(String),
}

/// The policy in force.
#[derive(Clone, Debug, Default)]
pub struct PolicyState {
    /// Its version.
    pub serving: String,
    /// Older versions, and how much longer each is kept, in seconds.
    pub superseded: Vec<(String, u64)>,
    /// The last bundle.
    pub last: Option<LoadAttempt>,
    /// The last rejected bundle.
    pub last_refused: Option<LoadAttempt>,
    /// The gateways that sent requests.
    pub gateways: Vec<GatewayRow>,
}

/// An attempt to load a bundle.
#[derive(Clone, Debug)]
pub struct LoadAttempt {
    /// `loaded`, `unchanged`, `unready` or `refused`.
    pub outcome: &'static str,
    /// The bundle's version. `None` if it could not be read.
    pub generation: Option<String>,
    /// When.
    pub time: SystemTime,
    /// Faults of a rejected bundle, or why it waits.
    pub faults: Vec<String>,
}

/// A gateway.
#[derive(Clone, Debug)]
pub struct GatewayRow {
    /// Its name.
    pub name: String,
    /// The policy version of its last request.
    pub generation: String,
    /// Whether the host has that version.
    pub is_known: bool,
    /// The age of that request in seconds.
    pub last_seen_s: u64,
}

/// The state of the audit log and its chain.
#[derive(Clone, Debug, Default)]
pub struct AuditState {
    /// The log's ID.
    pub log: String,
    /// The ID of the key that signs checkpoints. `None` if the log has no chain.
    pub key_id: Option<String>,
    /// The number of its last record.
    pub last_seq: u64,
    /// Why it cannot be written, and since when, if so.
    pub failure: Option<(String, SystemTime)>,
    /// Damage that the host found at its start.
    pub found: Vec<Found>,
    /// Records that wait to be written.
    pub queued: i64,
    /// Records that were lost since the start.
    pub dropped: u64,
    /// Entries of Envoy that were lost since the start.
    pub lost: u64,
    /// How often the file was found removed, replaced or changed.
    pub file_losses: u64,
}
