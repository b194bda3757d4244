//! Gates that several tests use, one after the other. Envoy takes seconds to compile the filter, so
//! a test that changes no more than the policy borrows a running gate and brings its policy by a
//! reload.
//!
//! A test needs a gate of its own if it
//! - stops, kills, suspends or traps something,
//! - reads the audit log, a counter or a process's memory from the start,
//! - depends on rates, costs or budgets, which survive a change of policy,
//! - changes what only a start can change (`connections`, `buffered_bytes`, TLS, workers).

use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, PoisonError};

use tensorgate_policy::raw::Policy;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Setup, Stack};
use crate::programs::target;

/// How many gates there are at most.
const GATES: usize = 2;

/// The first part of the names of their folders, before the id of the test process.
const FOLDER: &str = "lease-";

/// Where the gates' own tasks run: the runtime of a test ends with the test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
});

static PERMITS: Semaphore = Semaphore::const_new(GATES);

/// The gates that no test uses now.
static IDLE: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// A borrowed gate. Dropping it returns the gate, unless the test has failed.
pub struct Lease {
    stack: Option<Stack>,
    // Dropped after the gate was returned.
    _permit: SemaphorePermit<'static>,
}

impl Lease {
    pub(super) async fn take(policy: Policy) -> Self {
        let permit = PERMITS.acquire().await.unwrap();
        let idle = idle().pop();
        let stack = match idle {
            Some(mut stack) => {
                // What an earlier test has begun must not count in this one.
                stack.active(0).await;
                stack.change(policy).await;
                stack
            }
            None => start(policy).await,
        };
        Self {
            stack: Some(stack),
            _permit: permit,
        }
    }
}

fn idle() -> std::sync::MutexGuard<'static, Vec<Stack>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a gate that ends with this process.
async fn start(policy: Policy) -> Stack {
    let starting = RUNTIME.spawn(async move {
        remove_old_folders();
        let name = format!("{FOLDER}{}", std::process::id());
        let setup = Setup {
            ends_with_tests: true,
            ..Setup::default()
        };
        Stack::start_as(&name, policy, setup).await
    });
    starting.await.unwrap()
}

/// Removes the folders of test processes that have ended: they do not remove their last ones.
fn remove_old_folders() {
    for entry in std::fs::read_dir(target().join("e2e"))
        .into_iter()
        .flatten()
        .flatten()
    {
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
        if !std::thread::panicking() {
            stack.check_filter();
            idle().push(stack);
        }
    }
}
