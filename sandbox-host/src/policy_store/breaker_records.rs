//! Audit records of handlers' circuit breakers. They have records of their own, because the
//! rejected requests may belong to any client and do not say when the circuit opened.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tensorgate_audit::Audit;
use tensorgate_audit::record::{CutOff, Event};
use tensorgate_sandbox::BreakerListener;

/// Writes the records once there is a log. Handlers are loaded before the log is opened, and called
/// after.
#[derive(Debug, Default)]
pub struct BreakerRecords(OnceLock<Audit>);

impl BreakerRecords {
    /// Sets the log. Only the first call counts.
    pub fn write_to(&self, audit: &Audit) {
        let _ = self.0.set(audit.clone());
    }
}

impl BreakerListener for BreakerRecords {
    fn circuit_changed(&self, handler: &str, client: Option<&str>, long: Option<Duration>) {
        let Some(audit) = self.0.get() else {
            return;
        };
        let cut_off = CutOff {
            handler: handler.to_owned(),
            client: client.map(str::to_owned),
            state: if long.is_some() { "open" } else { "closed" }.to_owned(),
            for_ms: long.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX)),
        };
        audit.write(SystemTime::now(), Event::CutOff(cut_off));
    }
}
