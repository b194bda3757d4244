//! The state of a call, shared by its caller and its guest thread. Exactly one of them decides
//! whether the call runs.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::call_usage::CallUsage;
use crate::outcome::Overload;

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
/// The caller has left.
const ABANDONED: u8 = 2;
/// The call never runs. The reason is stored separately.
const WITHDRAWN: u8 = 3;

/// The handle of one call.
#[derive(Debug, Default)]
pub(super) struct JobHandle {
    state: AtomicU8,
    started: OnceLock<Instant>,
    reason: OnceLock<Overload>,
    usage: Mutex<CallUsage>,
}

impl JobHandle {
    /// Starts the call, on the guest thread. Returns whether the call is still wanted.
    pub(super) fn start(&self) -> bool {
        // Only one thread ever gets here. The time is stored before the state, so that a thread
        // that sees the state sees the time.
        let _ = self.started.set(Instant::now());
        self.leave_waiting(RUNNING)
    }

    /// When the call started, if it runs.
    pub(super) fn started(&self) -> Option<Instant> {
        let runs = self.state.load(Ordering::Acquire) == RUNNING;
        self.started.get().copied().filter(|_| runs)
    }

    /// What the call used until its guest thread last recorded it, at a tick or at the end.
    pub(super) fn usage(&self) -> MutexGuard<'_, CallUsage> {
        // No code panics while it holds this lock.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Withdraws the call. Returns whether it had not started, in which case it never will.
    pub(super) fn withdraw(&self, why: Overload) -> bool {
        // Stored before the state. If two threads withdraw at once, either reason is kept.
        let _ = self.reason.set(why);
        self.leave_waiting(WITHDRAWN)
    }

    /// Why the call never ran, if it was withdrawn.
    pub(super) fn withdrawn(&self) -> Option<Overload> {
        let withdrawn = self.state.load(Ordering::Acquire) == WITHDRAWN;
        self.reason.get().copied().filter(|_| withdrawn)
    }

    /// Marks that the caller has left, whether the call runs or not.
    pub(super) fn abandon(&self) {
        self.state.store(ABANDONED, Ordering::Release);
    }

    /// Whether the caller has left, for the guest thread.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), ABANDONED | WITHDRAWN)
    }

    fn leave_waiting(&self, to: u8) -> bool {
        self.state
            .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{JobHandle, Overload};

    #[test]
    fn a_call_is_either_started_or_withdrawn() {
        let job_handle = JobHandle::default();
        assert!(job_handle.started().is_none());
        assert!(job_handle.start() && job_handle.started().is_some());
        assert!(!job_handle.withdraw(Overload::QueueDelay) && !job_handle.start());
        assert!(!job_handle.is_abandoned() && job_handle.withdrawn().is_none());
        job_handle.abandon();
        assert!(job_handle.is_abandoned());

        let job_handle = JobHandle::default();
        assert!(
            job_handle.withdraw(Overload::Preempted) && !job_handle.withdraw(Overload::NoThread)
        );
        assert!(!job_handle.start() && job_handle.is_abandoned() && job_handle.started().is_none());
        assert_eq!(job_handle.withdrawn(), Some(Overload::Preempted));
    }
}
