//! [`RecordListener`]: a part of the host that sees the records of the audit log.

use std::time::SystemTime;

use crate::record::Event;

/// Sees the records of the audit log once they are written, and rejections that are only counted in
/// a summary.
pub trait RecordListener: Send + Sync {
    /// Takes written records, in their order. It runs on the thread that writes the log, so it must
    /// not wait.
    fn written(&self, events: &[(SystemTime, Event)]);
}
