//! Puts another version of the policy in force while the processes run.
//!
//! The host comes first, so that it knows what the filter signs, then Envoy. If one of them rejects
//! the version, everything is rolled back in the same order. So a version is in force in both or in
//! neither, or else [`ReloadError::Stuck`] names the part that could not be rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde::Deserialize;
use tensorgate_cli_common::Failure;
use tensorgate_policy_compiler::Version;
use tokio::time::{Instant, sleep, timeout};

use super::plan::Plan;
use super::presence::Presences;
use super::probe::{self, Target};
use super::site::{EnvoyFiles, How, InForce, Restart, Site};
use crate::render::envoy::dynamic::{Kind, Resource};

/// Timeout for the host to load a policy, including compilation of new handlers.
const HOST_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for Envoy to apply a change. It configures the filter in every worker.
const ENVOY_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the host to say which models are not ready.
const READYZ_LIMIT: Duration = Duration::from_millis(500);
/// Ends of a process, while it loads a version, after which the version is rejected. One of them
/// may have another cause.
const MAX_ENDS: u64 = 2;
/// Interval between polls.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Result of a reload.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The version in force.
    pub generation: String,
    /// The previous version; equal if nothing changed.
    pub was: String,
    /// Time from reading the files until the version was in force everywhere.
    pub took: Duration,
}

/// Why a version did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The change needs a restart.
    #[error("{}", lines(.0))]
    Restart(Vec<Restart>),
    /// Components on disk are not those of the policy; all faults.
    #[error("{}", lines(.0))]
    Components(Vec<String>),
    /// The host rejected the version; all faults.
    #[error("{}", lines(.0))]
    Host(Vec<String>),
    /// The host holds the version, because it would make ready models unready.
    #[error("it would make ready models unready: it waits until they are ready, and this accepts it now: {accept}\n{}", lines(.causes))]
    Unready {
        /// The command that accepts it.
        accept: String,
        /// A line for each cause.
        causes: Vec<String>,
    },
    /// Envoy rejected a part of the version.
    #[error("Envoy rejects {what}: see {}", log.display())]
    Envoy {
        /// The part.
        what: String,
        /// Envoy's log file.
        log: PathBuf,
    },
    /// The version was rejected, and the rollback failed.
    #[error(
        "{first}\nand the previous policy cannot be restored: {why}; the gate may soon reject every request: restart it"
    )]
    Stuck {
        /// Why the version was rejected.
        first: Box<ReloadError>,
        /// Why the rollback failed.
        why: Box<ReloadError>,
    },
    /// The process ended each time that it was given the version.
    #[error("{0} ended while it loaded the policy, {1} times: see its kept logs")]
    Ended(&'static str, u64),
    /// The process did not respond in time.
    #[error("{0} did not load the policy in time")]
    Late(&'static str),
    /// A file could not be written.
    #[error("{0}")]
    Files(#[from] Failure),
}

fn lines(texts: &[impl ToString]) -> String {
    let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// The processes, and the version that they enforce.
#[derive(Debug)]
pub struct Processes<'p> {
    site: &'p Site,
    envoy: &'p Target,
    envoy_log: &'p Path,
    host: &'p Target,
    presences: &'p Presences,
    in_force: InForce,
    /// Whether the host is known to have the version in force.
    host_follows: bool,
    envoy_files: EnvoyFiles,
}

/// The fields of the host's status that are needed here.
#[derive(Debug, Deserialize)]
struct HostStatus {
    serving: String,
    attempts: u64,
    last: Option<Attempt>,
    #[serde(default)]
    waiting_policy: Option<WaitingPolicy>,
}

/// A version that the host holds.
#[derive(Debug, Deserialize)]
struct WaitingPolicy {
    generation: String,
    /// Why it is held now.
    unready: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    outcome: String,
    generation: Option<String>,
    faults: Vec<String>,
}

/// What is known of Envoy before it gets a resource.
#[derive(Clone, Copy)]
struct EnvoyBefore {
    starts: u64,
    ends: u64,
    /// Updates of this kind of resource that it has rejected since its start.
    rejected: u64,
}

impl<'p> Processes<'p> {
    /// The processes of a plan, with the version that they started with.
    pub fn new(plan: &'p Plan, presences: &'p Presences) -> Self {
        let in_force = plan.site.started().clone();
        Self {
            site: &plan.site,
            envoy: &plan.envoy_admin,
            envoy_log: &plan.envoy_log,
            host: &plan.host_admin,
            presences,
            envoy_files: EnvoyFiles::taken(&in_force),
            in_force,
            host_follows: true,
        }
    }

    /// The state folder.
    pub fn state(&self) -> &'p Path {
        self.site.state()
    }

    /// Applies a version, or rolls back. If cancelled, some processes may keep parts of the
    /// version; the next call replaces all of them.
    pub async fn put(&mut self, version: &Version, how: How<'_>) -> Result<Reloaded, ReloadError> {
        let started = Instant::now();
        let next = self.site.next(version)?;
        let was = self.in_force.generation.clone();
        if next.generation != was || !self.follows() {
            let obstacles = self.site.obstacles(&next);
            if !obstacles.is_empty() {
                return Err(ReloadError::Restart(obstacles));
            }
            if let Err(error) = self.carry_out(&next, how).await {
                return Err(match self.take_back(&next).await {
                    Ok(()) => error,
                    Err(why) => ReloadError::Stuck {
                        first: Box::new(error),
                        why: Box::new(why),
                    },
                });
            }
            (self.in_force, self.host_follows) = (next, true);
        }
        Ok(Reloaded {
            generation: self.in_force.generation.clone(),
            was,
            took: started.elapsed(),
        })
    }

    /// Whether all processes are known to have exactly the version in force.
    fn follows(&self) -> bool {
        self.host_follows && self.envoy_files.has_all(&self.in_force)
    }

    async fn carry_out(&mut self, next: &InForce, how: How<'_>) -> Result<(), ReloadError> {
        self.host_follows = false;
        self.host_takes(next, how).await?;
        for resource in next.changes(&self.envoy_files, &self.in_force, how) {
            self.put_resource(resource, &next.generation).await?;
        }
        Ok(())
    }

    /// Restores the version in force wherever a part of another one was applied. The host also
    /// keeps the other version while requests of it may arrive.
    async fn take_back(&mut self, from: &InForce) -> Result<(), ReloadError> {
        let before = self.in_force.clone();
        let mut back = self.host_takes(&before, How::Tighter).await;
        self.host_follows = back.is_ok();
        for resource in before.changes(&self.envoy_files, from, How::Complete) {
            // If a resource cannot be restored, Envoy keeps the new one. The others are still
            // restored.
            let one = self.put_resource(resource, &before.generation).await;
            back = back.and(one);
        }
        back
    }

    /// Writes one resource and waits until Envoy has applied it.
    async fn put_resource(
        &mut self,
        resource: &Resource,
        version: &str,
    ) -> Result<(), ReloadError> {
        let starts = self.presences.envoy.starts();
        let rejected = self.envoy_rejected(&resource.kind).await;
        let before = EnvoyBefore {
            starts,
            ends: self.presences.envoy.ends(),
            rejected,
        };
        self.envoy_files.put(resource, false);
        self.site.put_resource(resource)?;
        self.envoy_takes(resource, before, version).await?;
        self.envoy_files.put(resource, true);
        Ok(())
    }

    /// Sends a version to the host and waits until it is loaded. The version in force counts as
    /// tighter than itself. A host that is down gets the version once it runs again. One that ends
    /// while it loads a complete version starts with the version in force, and gets the other one
    /// once more: its start is held until the file is replaced.
    async fn host_takes(&self, version: &InForce, how: How<'_>) -> Result<(), ReloadError> {
        let give_up = Instant::now().checked_add(HOST_TIMEOUT);
        let presence = &self.presences.host;
        let serving = &self.in_force.generation;
        let tightens = matches!(how, How::Tighter);
        if tightens {
            // A host that ends before it receives the version starts with this file.
            self.site.put_bundle(version, how, serving)?;
        }
        let mut ends = 0_u64;
        let mut hold = None;
        // The attempt counter of this run of the host, as soon as the version was sent.
        let mut sent: Option<(u64, u64)> = None;
        loop {
            let starts = presence.starts();
            let status = match presence.pid() {
                Some(_) => self.host_status().await,
                None => None,
            };
            // It may have ended since the question.
            let pid = presence.pid().filter(|_| presence.starts() == starts);
            match (sent, pid, status) {
                (Some((at, _)), pid, _) if at != starts || pid.is_none() => {
                    sent = None;
                    if !tightens {
                        ends = ends.saturating_add(1);
                        let complete = How::Complete;
                        self.site.put_bundle(&self.in_force, complete, serving)?;
                    }
                    drop(hold.take());
                    if ends >= MAX_ENDS {
                        return Err(ReloadError::Ended("the host", ends));
                    }
                }
                (Some((_, before)), _, Some(status)) if status.attempts > before => {
                    if status.serving == version.generation {
                        return Ok(());
                    }
                    let last = status.last.filter(|last| {
                        let ours = last.generation.as_ref();
                        ours.is_none_or(|ours| *ours == version.generation)
                    });
                    match last {
                        Some(last) if last.outcome == "refused" => {
                            return Err(ReloadError::Host(last.faults));
                        }
                        Some(last) if last.outcome == "unready" => {
                            return Err(ReloadError::Unready {
                                accept: self.site.accept_command(&version.generation),
                                causes: last.faults,
                            });
                        }
                        _ => {}
                    }
                }
                // The attempt counter must be known first, to tell this attempt's result from an
                // earlier one's.
                (None, Some(pid), Some(status)) => {
                    hold = Some(presence.hold_start());
                    self.site.put_bundle(version, how, serving)?;
                    match kill_process(pid, Signal::HUP) {
                        // The end of one that has just ended is noticed in the next round.
                        Ok(()) | Err(rustix::io::Errno::SRCH) => {
                            sent = Some((starts, status.attempts));
                        }
                        Err(error) => {
                            let why = format!("cannot signal the host: {error}");
                            return Err(Failure::Failed(why).into());
                        }
                    }
                }
                _ => {}
            }
            if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
                return Err(ReloadError::Late("the host"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// A line for each cause why a model is not ready now. Empty if the host does not answer soon:
    /// revocations wait meanwhile.
    pub async fn unready(&self) -> Vec<String> {
        let readyz = probe::send_request(self.host, "GET", "/readyz");
        match timeout(READYZ_LIMIT, readyz).await {
            Ok(Ok(readyz)) => probe::causes(&readyz.body),
            _ => Vec::new(),
        }
    }

    /// Whether the models are ready for a version that the host holds, or held for these causes.
    pub async fn is_ready_for(&self, generation: &str, causes: &[String]) -> bool {
        let Ok(Some(status)) = timeout(READYZ_LIMIT, self.host_status()).await else {
            return false;
        };
        match status.waiting_policy {
            Some(waiting) => waiting.generation == generation && waiting.unready.is_empty(),
            // The host was restarted. It decides anew, once it knows that these models are ready.
            None => {
                let readyz = probe::ask(self.host, "GET", "/readyz");
                let readyz = timeout(READYZ_LIMIT, readyz).await;
                matches!(readyz, Ok(Ok(text)) if !are_about_same(&probe::causes(&text), causes))
            }
        }
    }

    async fn host_status(&self) -> Option<HostStatus> {
        let said = probe::ask(self.host, "GET", "/generations").await.ok()?;
        serde_json::from_str(&said).ok()
    }

    /// Waits until Envoy has applied a resource in this version. One that is started again reads
    /// the file anew. If it ends again, the version is rejected before the next start.
    async fn envoy_takes(
        &self,
        resource: &Resource,
        before: EnvoyBefore,
        version: &str,
    ) -> Result<(), ReloadError> {
        let presence = &self.presences.envoy;
        let give_up = Instant::now().checked_add(ENVOY_TIMEOUT);
        let prefix = prefix(&resource.kind);
        // New listeners and clusters warm up before they replace the old ones.
        let warming = match &resource.kind {
            Kind::Clusters => Some("cluster_manager.warming_clusters"),
            Kind::Listeners => Some("listener_manager.total_listeners_warming"),
            Kind::Filter(_) => None,
        };
        loop {
            let stats = self.envoy_stats(&resource.kind).await;
            let ends = presence.ends().saturating_sub(before.ends);
            if ends >= MAX_ENDS {
                return Err(ReloadError::Ended("Envoy", ends));
            }
            // An Envoy that was started again counts anew.
            let same = presence.starts() == before.starts;
            let rejected = if same { before.rejected } else { 0 };
            let says = |name: &str| stats.get(name).map(String::as_str);
            let counted = |name: &str| says(name).and_then(|value| value.parse::<u64>().ok());
            if counted(&format!("{prefix}update_rejected")).is_some_and(|now| now > rejected) {
                return Err(ReloadError::Envoy {
                    what: match &resource.kind {
                        Kind::Clusters => "the cluster".to_owned(),
                        Kind::Listeners => "the listener".to_owned(),
                        Kind::Filter(name) => format!("the filter {name}"),
                    },
                    log: self.envoy_log.to_owned(),
                });
            }
            let warm = warming.is_none_or(|name| counted(name) == Some(0));
            if warm && says(&format!("{prefix}version_text")) == Some(version) {
                return Ok(());
            }
            if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
                return Err(ReloadError::Late("Envoy"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn envoy_rejected(&self, kind: &Kind) -> u64 {
        let stats = self.envoy_stats(kind).await;
        let count = stats.get(&format!("{}update_rejected", prefix(kind)));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    async fn envoy_stats(&self, kind: &Kind) -> BTreeMap<String, String> {
        // The names are constants of letters, digits, dots and dashes.
        let about = match kind {
            Kind::Clusters => "cluster_manager".to_owned(),
            Kind::Listeners => "listener_manager".to_owned(),
            Kind::Filter(_) => prefix(kind),
        };
        let path = format!("/stats?filter=^{}", about.replace('.', "\\."));
        let said = probe::ask(self.envoy, "GET", &path)
            .await
            .unwrap_or_default();
        said.lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
            .collect()
    }
}

/// Whether a list of causes has one about a model of another list. A list that is cut may have.
fn are_about_same(causes: &[String], others: &[String]) -> bool {
    let models: BTreeSet<_> = others
        .iter()
        .filter_map(|cause| probe::model_version(cause))
        .collect();
    let is_about_one = |cause: &str| {
        let model = probe::model_version(cause);
        model.is_some_and(|model| models.contains(model))
    };
    causes
        .iter()
        .any(|cause| cause == probe::CUT || is_about_one(cause))
}

/// Prefix of the update counters of a kind of resource.
fn prefix(kind: &Kind) -> String {
    match kind {
        Kind::Clusters => "cluster_manager.cds.".to_owned(),
        Kind::Listeners => "listener_manager.lds.".to_owned(),
        Kind::Filter(name) => format!("extension_config_discovery.http_filter.{name}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_waits_for_its_own_models_alone() {
        let cause = |model: &str, why: &str| format!("model {model:?} version \"1\": {why}");
        let causes = [cause("a", "it has no input"), probe::CUT.to_owned()];
        for (unready, expected) in [
            (vec![], false),
            (vec![cause("a", "no server: is it up?")], true),
            (vec![cause("b", "no server")], false),
            (vec!["the scanner has ended".to_owned()], false),
            (vec![cause("b", "no server"), probe::CUT.to_owned()], true),
        ] {
            assert_eq!(are_about_same(&unready, &causes), expected, "{unready:?}");
        }
    }
}
