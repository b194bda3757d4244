//! Looks about once a second at the gate's own state, and passes on what has begun or ended.
//!
//! What lasts for less than two looks is not passed on (`Debounce`). While servers may still be
//! starting, those that are away are shown, but are no news for listeners.

mod collect;
mod debounce;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tensorgate_base::rfc3339::rfc3339;
use tensorgate_base::unix_time::now_unix_ms;
use tensorgate_watch::conditions::{Condition, ConditionKind, Conditions};
use tensorgate_watch::gate_status::{GateStatus, PolicyChange};
use tensorgate_watch::recent_outcomes::RecentOutcomes;
use tokio::time::{Instant, sleep};

use super::{App, readiness};
use debounce::Debounce;

/// How long servers that start with the host may take. A large model loads for longer, and is news.
const STARTING: Duration = Duration::from_secs(60);

/// What operators are shown of the gate's own state.
pub struct GateState {
    /// The name of this run of the host.
    run: String,
    conditions: Conditions,
    recent: Arc<RecentOutcomes>,
    policy_change: Mutex<Option<PolicyChange>>,
}

/// The files that a look needs.
#[derive(Clone)]
pub(crate) struct StateFiles {
    /// Describes the policy's source files.
    pub sources: PathBuf,
    /// The audit log.
    pub log: PathBuf,
}

impl GateState {
    /// A state of which nothing is known yet.
    pub fn new(conditions: Conditions, recent: Arc<RecentOutcomes>) -> Self {
        Self {
            run: format!("{}-{}", now_unix_ms(), std::process::id()),
            conditions,
            recent,
            policy_change: Mutex::default(),
        }
    }

    /// The response of `/status`, with the changes after a number or else the last ones.
    pub fn status(&self, after: Option<u64>) -> GateStatus {
        let policy_change = self.policy_change().clone();
        GateStatus::new(
            &self.run,
            &self.conditions,
            &self.recent,
            policy_change,
            after,
        )
    }

    /// Notes the policy in force.
    fn set_policy(&self, generation: &str) {
        let mut last = self.policy_change();
        if last.as_ref().is_some_and(|it| it.generation == generation) {
            return;
        }
        let was = last.take().map(|last| last.generation);
        *last = Some(PolicyChange {
            generation: generation.to_owned(),
            was,
            time: rfc3339(SystemTime::now()),
        });
    }

    fn policy_change(&self) -> MutexGuard<'_, Option<PolicyChange>> {
        // No code panics while it holds this lock.
        self.policy_change
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the state of a host, forever.
pub(crate) async fn watch(app: Arc<App>, files: StateFiles) {
    let started = Instant::now();
    let mut debounce = Debounce::default();
    loop {
        let began = Instant::now();
        let (looking, files) = (Arc::clone(&app), files.clone());
        // On a separate thread, because many models take some time, and files are read.
        let looked = tokio::task::spawn_blocking(move || {
            let newest = looking.policy_versions.newest();
            looking.gate_state.set_policy(newest.name());
            collect::all(&looking, &newest, &files)
        });
        match looked.await {
            Ok(found) => {
                let is_starting = started.elapsed() < STARTING;
                let is_news = |it: &Condition| !(is_starting && may_be_starting(it.kind));
                let settled = debounce.settle(found);
                let conditions = &app.gate_state.conditions;
                conditions.update_where(SystemTime::now(), settled, is_news);
            }
            Err(error) => {
                tracing::error!(
                    cause = error.to_string(),
                    "the look at the gate's own state failed"
                );
            }
        }
        sleep(readiness::pause(began)).await;
    }
}

/// Whether such a condition may be a server that starts together with the host.
const fn may_be_starting(kind: ConditionKind) -> bool {
    matches!(
        kind,
        ConditionKind::ModelUnready | ConditionKind::BackendAway | ConditionKind::LimitServiceAway
    )
}
