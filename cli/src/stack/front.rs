//! What `up` shows of its processes: an interface that the verb implements.

use std::path::{Path, PathBuf};

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::load_error::LoadError;
use tensorgate_policy_load::load::Loaded;
use tensorgate_settings::sources::SourceState;
use tensorgate_watch::gate_status::GateStatus;

use super::certificates::CertificateEvent;
use super::process_event::ProcessEvent;
use super::reload::{ReloadError, Reloaded};

/// User interface of `up`: loads the policy and reports events.
pub trait Front {
    /// Path of the policy file.
    fn policy(&self) -> &Path;
    /// The gate is ready at a URL. `unready` has a line for each cause why a model is not.
    fn ready(&mut self, url: &str, unready: &[String]);
    /// Loads the current policy files.
    fn load(&self) -> Result<Loaded, LoadError>;
    /// The files that belong to this policy.
    fn files(&self, loaded: &Loaded) -> Vec<PathBuf>;
    /// The policy that was read has faults. `serving` stays in force.
    fn faulty(&mut self, error: LoadError, serving: &str);
    /// A policy is about to be applied.
    fn loaded(&mut self, loaded: &Loaded);
    /// Outcome of a complete policy. `serving` is in force. A loaded policy comes with a line for
    /// each cause why a model is not ready.
    fn reloaded(&mut self, outcome: Result<(Reloaded, Vec<String>), ReloadError>, serving: &str);
    /// Outcome of a version with only removals.
    fn tightened(&mut self, outcome: Result<Reloaded, &str>);
    /// The set of files with held changes has changed.
    fn held(&mut self, held: &[SourceState]);
    /// What the host says of itself: changes since the last call, and new alerts.
    fn changed(&mut self, status: &GateStatus);
    /// Outcome of a change of the listener's certificates.
    fn certificates(&mut self, news: &CertificateEvent);
    /// A process ended unexpectedly, or is ready again.
    fn process(&mut self, event: &ProcessEvent);
    /// A step takes long. The line says which.
    fn progress(&self, line: &str);
    /// A file for operators cannot be written.
    fn failed(&mut self, failure: &Failure);
}
