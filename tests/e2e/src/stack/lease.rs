//! Gates that several tests use, one after the other. Envoy takes seconds to compile the filter, so
//! a test that changes no more than the policy borrows a running gate and brings its policy by a
//! reload.
//!
//! A borrowed gate is like a fresh one:
//! - Clients have names that no earlier test used, because rates, costs and budgets survive a
//!   change of policy. [`Stack`] translates them in the policy and in the audit log.
//! - Its logs begin, and Envoy's counters are 0, when the test gets it.
//!
//! A test needs a gate of its own if it
//! - stops, kills, suspends or traps something, the gate's Redis included,
//! - measures a process's memory, or needs the numbers of its first log entries,
//! - changes what only a start can change (`connections`, `buffered_bytes`, TLS),
//! - has key sets from URLs, for which a plain Envoy compiles the filter anew.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tensorgate_policy_compiler::raw::Policy;
use tokio::runtime::{Builder, Runtime};

use super::setup::WORKERS;
use super::threads::until_active;
use super::{Setup, Stack};
use crate::policy;
use crate::programs::target;

/// The most gates that wait for a test.
const MAX_IDLE: usize = 6;

/// The first part of the names of their folders, before the id of the test process.
const FOLDER: &str = "lease-";

/// How long the audit log may be behind: two times the period in which it is written.
const LOG_DELAY: Duration = Duration::from_millis(200);

/// Where the gates' own tasks run: the runtime of a test ends with the test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
});

/// The gates that no test uses now; the one that waits for longest comes first.
static IDLE: Mutex<Vec<(Kind, Stack)>> = Mutex::new(Vec::new());

/// What a reload cannot change.
#[derive(Clone, PartialEq, Eq)]
struct Kind {
    chain: String,
    control_plane: String,
    workers: u16,
}

/// A borrowed gate. Dropping it returns the gate, unless the test has failed.
pub struct Lease {
    kind: Kind,
    stack: Option<Stack>,
}

impl Lease {
    /// Borrows a running gate, and gives it this policy.
    pub async fn of(policy: Policy) -> Self {
        Self::with_setup(policy, Setup::default()).await
    }

    /// The same with other filters than the gate, as `--chain` takes them.
    pub async fn with_chain(policy: Policy, chain: &str) -> Self {
        Self::with_workers(policy, chain, WORKERS).await
    }

    /// The same with another number of Envoy's workers.
    pub async fn with_workers(policy: Policy, chain: &str, workers: u16) -> Self {
        let setup = Setup {
            chain,
            workers,
            ..Setup::default()
        };
        Self::with_setup(policy, setup).await
    }

    /// Borrows a gate with this setup.
    pub async fn with_setup(policy: Policy, setup: Setup<'_>) -> Self {
        Self::take(policy, setup, &new_suffix()).await
    }

    /// Borrows two gates with the same policy, whose clients share limits of scope `global`.
    pub async fn two(policy: Policy, chain: &str) -> [Self; 2] {
        let setup = Setup {
            chain,
            ..Setup::default()
        };
        let suffix = new_suffix();
        [
            Self::take(policy.clone(), setup, &suffix).await,
            Self::take(policy, setup, &suffix).await,
        ]
    }

    async fn take(mut policy: Policy, setup: Setup<'_>, suffix: &str) -> Self {
        let kind = Kind {
            chain: setup.chain.to_owned(),
            control_plane: setup.control_plane(),
            workers: setup.workers,
        };
        let free = {
            let mut idle = idle();
            let at = idle.iter().rposition(|(other, _)| *other == kind);
            at.map(|at| idle.remove(at).1)
        };
        let stack = match free {
            Some(mut stack) => {
                suffix.clone_into(&mut stack.suffix);
                reset(&mut stack, policy, setup.files).await;
                stack
            }
            None => {
                policy::rename_clients(&mut policy, suffix);
                let mut stack = start(policy, setup).await;
                suffix.clone_into(&mut stack.suffix);
                stack
            }
        };
        Self {
            kind,
            stack: Some(stack),
        }
    }
}

/// What the clients' names of the next test end in.
fn new_suffix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("-lease{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn idle() -> MutexGuard<'static, Vec<(Kind, Stack)>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a gate that ends with this process.
async fn start(policy: Policy, setup: Setup<'_>) -> Stack {
    let own = |text: &str| text.to_owned();
    let files: Vec<_> = setup.files.iter().map(|(a, b)| (own(a), own(b))).collect();
    let (chain, control_plane) = (own(setup.chain), setup.control_plane());
    let workers = setup.workers;
    let starting = RUNTIME.spawn(async move {
        remove_old_folders();
        let files: Vec<_> = files.iter().map(|(a, b)| (&**a, &**b)).collect();
        let setup = Setup {
            files: &files,
            chain: &chain,
            control_plane: Some(&control_plane),
            workers,
            ends_with_tests: true,
            ..Setup::default()
        };
        let name = format!("{FOLDER}{}", std::process::id());
        Stack::start_as(&name, policy, setup).await
    });
    starting.await.unwrap()
}

/// Removes the folders of test processes that have ended: they do not remove their last ones.
fn remove_old_folders() {
    let entries = std::fs::read_dir(target().join("e2e"));
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(FOLDER)
            .and_then(|rest| rest.split('-').next());
        let has_ended = |process: &str| !std::path::Path::new("/proc").join(process).exists();
        if process.is_some_and(has_ended) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes a gate a fresh one with another policy, and files that the policy names.
async fn reset(stack: &mut Stack, policy: Policy, files: &[(&str, &str)]) {
    // What an earlier test has begun must not count in this one.
    until_active(stack, 0).await;
    let quiet = Instant::now();
    for (name, text) in files {
        stack.replace(name, text);
    }
    stack.change(policy).await;
    tokio::time::sleep(LOG_DELAY.saturating_sub(quiet.elapsed())).await;
    stack.mark_logs();
    stack.ask_envoy("POST", "/reset_counters").await;
}

impl Deref for Lease {
    type Target = Stack;

    fn deref(&self) -> &Stack {
        self.stack.as_ref().unwrap()
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Stack {
        self.stack.as_mut().unwrap()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let stack = self.stack.take().unwrap();
        // A failed test prints the logs, and its gate ends.
        if std::thread::panicking() {
            return;
        }
        stack.check_filter();
        let mut idle = idle();
        idle.push((self.kind.clone(), stack));
        let oldest = (idle.len() > MAX_IDLE).then(|| idle.remove(0));
        drop(idle);
        drop(oldest);
    }
}
