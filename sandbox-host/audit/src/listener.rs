//! Parts of the host that see the records of the audit log, and what Envoy reports besides.

use std::time::SystemTime;

use crate::record::Event;

/// Sees the records of the audit log once they are written, and rejections that are only counted in
/// a summary.
pub trait RecordListener: Send + Sync {
    /// Takes written records, in their order. It runs on the thread that writes the log, so it must
    /// not wait.
    fn written(&self, events: &[(SystemTime, Event)]);
}

/// Sees how long Envoy had requests that this host has answered.
pub trait GateTimeListener: Send + Sync {
    /// Takes the time that a request spent outside of this host: in Envoy and its filter, and on
    /// the way to its client. In microseconds. The model is known if Envoy's entry names it. It
    /// must not wait.
    fn completed(&self, model: Option<&str>, gate_us: u64);
}
