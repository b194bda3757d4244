//! Puts another version of the policy in force while the processes run: in the host first, so that it knows what a
//! filter signs; then in what Envoy follows. If one of them refuses it, everything is put back, the host first again.
//! So a version is in force in both or in neither, or [`ReloadError::Stuck`] says which could not be put back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::plan::Plan;
use super::probe::{self, Target};
use super::site::{InForce, Laid, Restart, Site};
use crate::Failure;
use crate::render::envoy::dynamic::{Kind, Resource};
use crate::tighten::Version;

/// Time for the host to load a policy: it compiles new handlers.
const HOST_PATIENCE: Duration = Duration::from_secs(60);
/// Time for Envoy to take a change up: it configures the filter in every worker.
const ENVOY_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether one has.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What became of it.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The policy that is in force.
    pub generation: String,
    /// The one before; the same if nothing changed.
    pub was: String,
    /// From its files to its being in force everywhere.
    pub took: Duration,
}

/// Why a policy did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// These processes cannot take it.
    #[error("{}", lines(.0))]
    Restart(Vec<Restart>),
    /// The host refused it, with every fault.
    #[error("{}", lines(.0))]
    Host(Vec<String>),
    /// Envoy refused a part of it.
    #[error("Envoy refuses {what}: {} says why", log.display())]
    Envoy {
        /// Which.
        what: String,
        /// Its log.
        log: PathBuf,
    },
    /// It was refused, and what served before could not be put back everywhere.
    #[error(
        "{first}\nand the policy before cannot be put back: {why}; the gate may refuse everything soon: restart it"
    )]
    Stuck {
        /// Why it was not taken.
        first: Box<ReloadError>,
        /// Why not put back.
        why: Box<ReloadError>,
    },
    /// Nobody says what became of it.
    #[error("{0} did not take the policy up in time")]
    Late(&'static str),
    /// A file.
    #[error("{0}")]
    Files(#[from] Failure),
}

fn lines(texts: &[impl ToString]) -> String {
    let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// How a version differs from the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is all that the policy's files say.
    Whole,
    /// It only takes away from the version in force.
    Tighter,
}

/// The processes, and what is in force in them.
#[derive(Debug)]
pub struct Processes<'p> {
    site: &'p Site,
    envoy: &'p Target,
    envoy_log: &'p Path,
    host: &'p Target,
    host_pid: Pid,
    in_force: InForce,
    /// Whether the host is known to have the version in force.
    host_follows: bool,
    laid: Laid,
}

/// What the host says of its policies; it says more.
#[derive(Debug, Deserialize)]
struct HostStatus {
    serving: String,
    attempts: u64,
    last: Option<Attempt>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    outcome: String,
    generation: Option<String>,
    faults: Vec<String>,
}

impl<'p> Processes<'p> {
    /// The processes of a plan, as they were started.
    pub fn new(plan: &'p Plan, host_pid: Pid) -> Self {
        let in_force = plan.site.started().clone();
        Self {
            site: &plan.site,
            envoy: &plan.envoy_admin,
            envoy_log: &plan.envoy_log,
            host: &plan.host_admin,
            host_pid,
            laid: Laid::taken(&in_force),
            in_force,
            host_follows: true,
        }
    }

    /// Puts a version in force, or leaves everything as it was. Cancelled, it leaves a part of the version in some
    /// places; the next one that is put replaces all of it.
    pub async fn put(&mut self, version: &Version, how: How) -> Result<Reloaded, ReloadError> {
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

    /// Whether the processes are known to have the version in force, and nothing else.
    fn follows(&self) -> bool {
        self.host_follows && self.laid.is(&self.in_force)
    }

    async fn carry_out(&mut self, next: &InForce, how: How) -> Result<(), ReloadError> {
        self.host_follows = false;
        let tightens = (how == How::Tighter).then_some(self.in_force.generation.as_str());
        self.host_takes(next, tightens).await?;
        for resource in next.changes(&self.laid, &self.in_force, how) {
            self.put_resource(resource, &next.generation).await?;
        }
        Ok(())
    }

    /// Puts back what is in force where a part of another version is. The host takes it as it had it, and keeps the
    /// version that it gives up for as long as its requests may come.
    async fn take_back(&mut self, from: &InForce) -> Result<(), ReloadError> {
        let before = self.in_force.clone();
        let mut back = self.host_takes(&before, Some(&before.generation)).await;
        self.host_follows = back.is_ok();
        for resource in before.changes(&self.laid, from, How::Whole) {
            // What cannot be put back leaves Envoy with what it took; the rest is put back all the same.
            let one = self.put_resource(resource, &before.generation).await;
            back = back.and(one);
        }
        back
    }

    /// Has Envoy follow one resource in this version, and waits until it does.
    async fn put_resource(
        &mut self,
        resource: &Resource,
        version: &str,
    ) -> Result<(), ReloadError> {
        let rejected = self.envoy_rejected(&resource.kind).await;
        self.laid.put(resource, false);
        self.site.put_resource(resource)?;
        self.envoy_takes(resource, rejected, version).await?;
        self.laid.put(resource, true);
        Ok(())
    }

    /// Has the host load a version, and waits until it says that it has. `tightens`: the version that it only takes
    /// away from.
    async fn host_takes(
        &self,
        version: &InForce,
        tightens: Option<&str>,
    ) -> Result<(), ReloadError> {
        let give_up = Instant::now().checked_add(HOST_PATIENCE);
        // A host that did not say how often it has tried could be believed what it said of an earlier try.
        let before = loop {
            if let Some(status) = self.host_status().await {
                break status.attempts;
            }
            if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
                return Err(ReloadError::Late("the host"));
            }
            sleep(LOOK_EVERY).await;
        };
        self.site.put_bundle(version, tightens)?;
        kill_process(self.host_pid, Signal::HUP)
            .map_err(|error| Failure::Failed(format!("cannot signal the host: {error}")))?;
        let give_up = Instant::now().checked_add(HOST_PATIENCE);
        loop {
            if let Some(status) = self.host_status().await
                && status.attempts > before
            {
                if status.serving == version.generation {
                    return Ok(());
                }
                let refused = status.last.filter(|last| {
                    let ours = last.generation.as_ref();
                    last.outcome == "refused" && ours.is_none_or(|ours| *ours == version.generation)
                });
                if let Some(refused) = refused {
                    return Err(ReloadError::Host(refused.faults));
                }
            }
            if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
                return Err(ReloadError::Late("the host"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn host_status(&self) -> Option<HostStatus> {
        let said = probe::ask(self.host, "GET", "/generations").await.ok()?;
        serde_json::from_str(&said).ok()
    }

    /// Waits until Envoy has one resource in this version.
    async fn envoy_takes(
        &self,
        resource: &Resource,
        rejected: u64,
        version: &str,
    ) -> Result<(), ReloadError> {
        let give_up = Instant::now().checked_add(ENVOY_PATIENCE);
        let prefix = prefix(&resource.kind);
        // A new listener or cluster waits for what it needs before it replaces the old one.
        let warming = match &resource.kind {
            Kind::Clusters => Some("cluster_manager.warming_clusters"),
            Kind::Listeners => Some("listener_manager.total_listeners_warming"),
            Kind::Filter(_) => None,
        };
        loop {
            let stats = self.envoy_stats(&resource.kind).await;
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
            sleep(LOOK_EVERY).await;
        }
    }

    async fn envoy_rejected(&self, kind: &Kind) -> u64 {
        let stats = self.envoy_stats(kind).await;
        let count = stats.get(&format!("{}update_rejected", prefix(kind)));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    async fn envoy_stats(&self, kind: &Kind) -> BTreeMap<String, String> {
        // The names are ours: letters, digits, dots and dashes.
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

/// What the counters of one kind's updates begin with.
fn prefix(kind: &Kind) -> String {
    match kind {
        Kind::Clusters => "cluster_manager.cds.".to_owned(),
        Kind::Listeners => "listener_manager.lds.".to_owned(),
        Kind::Filter(name) => format!("extension_config_discovery.http_filter.{name}."),
    }
}
