//! Sends the records of the audit log to receivers, at least once and in their order.
//!
//! The log's own files are the buffer: `spool` reads what the log has written, from the position
//! that `cursor` keeps in a file. `exporter` sends a batch to its receiver (`stdout`, `otlp`) and
//! then moves the position. A record is sent as its line, or as an event of OCSF (`form`, `ocsf`).
//! So a record that was sent just before the host stopped may be sent again, and none is skipped. A
//! slow receiver delays neither the log nor a request. If the log deletes a file that was not
//! exported yet, the exporter counts the lost records and reports them to its receiver.

mod cursor;
mod exporter;
mod form;
mod ocsf;
mod otlp;
mod severity;
mod spool;
mod stdout;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_net::pem::TlsError;
use tensorgate_policy::policy::AuditExport;
use tensorgate_telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::files::Paths;
use crate::writer::Audit;
use exporter::{Exporter, Receiver};
use form::Form;
use otlp::Otlp;
pub use otlp::headers::{HeadersError, read as read_headers};
use spool::Source;
use stdout::Stdout;

/// How long exporters may send the last records at shutdown. What is left is sent at the next
/// start.
const END_TIME: Duration = Duration::from_secs(3);

/// The running exporters of an audit log.
#[derive(Debug)]
pub struct AuditExporters {
    ending: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl AuditExporters {
    /// Starts the exporters of a policy, and the one to standard output if `to_stdout` asks for it.
    /// `log` is the path of the audit log; files that the policy names are relative to `root`.
    ///
    /// # Errors
    /// Returns an error if TLS files cannot be used.
    pub fn start(
        (policy, to_stdout): (&AuditExport, bool),
        (log, audit): (&Path, &Audit),
        root: &Path,
        metrics: &Metrics,
    ) -> Result<Self, TlsError> {
        let mut exporters = Self {
            ending: watch::Sender::new(false),
            tasks: JoinSet::new(),
        };
        let source = Source {
            paths: Paths::new(log),
            log: audit.log().to_string(),
            written: audit.last_written(),
        };
        let form = Form {
            ocsf: policy.ocsf(),
            log: Arc::clone(audit.log()),
        };
        if to_stdout || policy.stdout() {
            let receiver = Stdout::new(std::io::stdout(), form.clone());
            exporters.add("stdout", receiver, source.clone(), metrics);
        }
        if let Some(rule) = policy.otlp() {
            let receiver = Otlp::new(rule, root, form)?;
            exporters.add("otlp", receiver, source, metrics);
        }
        Ok(exporters)
    }

    fn add(
        &mut self,
        name: &'static str,
        receiver: impl Receiver,
        source: Source,
        metrics: &Metrics,
    ) {
        let counts = metrics.export_metrics(name);
        let exporter = Exporter::new(name, receiver, source, counts, self.ending.subscribe());
        self.tasks.spawn(exporter.run());
    }

    /// Sends the records of a log that is closed, with a timeout.
    pub async fn end(mut self) {
        self.ending.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIME, all).await.is_err() {
            tracing::warn!("the last audit records are not exported; the next start exports them");
        }
    }
}
