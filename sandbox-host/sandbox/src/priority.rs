//! Scheduling priority of guest threads: short calls go first. A thread whose call runs for long
//! lowers its priority. Under contention it then gets a small part of the CPU time, and waking
//! threads preempt it. Raising the priority again needs a privilege that the host should not have.
//! So the thread ends with its call, and another replaces it.

use std::cell::Cell;
use std::io;
use std::sync::Once;
use std::time::Duration;

use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

use crate::fixed_limits::{LOW_PRIORITY_NICENESS, LOW_PRIORITY_SLICE, MAX_SHORT_CALL, SHORT_SLICE};

/// The priority of a thread. Later variants are lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// The normal priority.
    #[default]
    Normal,
    /// A small part of the CPU time under contention, and preempted by waking threads.
    Low,
    /// Almost no CPU time under contention. `SCHED_IDLE` is not used: such a thread might never
    /// run, and it may hold a process-wide memory lock.
    Lowest,
}

/// The niceness of the lowest priority, which is the maximum.
const MAX_NICENESS: i32 = 19;

thread_local! {
    static PRIORITY: Cell<Priority> = const { Cell::new(Priority::Normal) };
    static IS_FIXED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps this thread at its priority: [`lower_to`] changes nothing any more.
pub(super) fn fix() {
    IS_FIXED.set(true);
}

/// Lowers this thread's priority for good. If the kernel refuses, the thread goes on as it is, and
/// the call's deadline still limits it.
pub(super) fn lower_to(rank: Priority) {
    if IS_FIXED.get() || PRIORITY.get() >= rank {
        return;
    }
    PRIORITY.set(rank);
    // On Linux each thread has its own priority, and `None` means this thread.
    let stepped = rustix::process::getpriority_process(None).and_then(|niceness| {
        let niceness = match rank {
            Priority::Lowest => MAX_NICENESS,
            _ => niceness
                .saturating_add(LOW_PRIORITY_NICENESS)
                .min(MAX_NICENESS),
        };
        // Slices need a newer kernel, so they are tried first.
        set_slice(niceness, LOW_PRIORITY_SLICE)
            .or_else(|_| rustix::process::setpriority_process(None, niceness))
    });
    if let Err(error) = stepped {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                cause = error.to_string(),
                "cannot lower the priority of guest threads: long calls may delay short ones"
            );
        });
    }
}

/// Requests short slices for this thread, so that it runs at once when it wakes. For threads with
/// little work that others wait for. It gets no more CPU time. Kernels before 6.12 ignore the
/// request, and nothing depends on it.
pub(super) fn use_short_slices() {
    let prompt = rustix::process::getpriority_process(None)
        .and_then(|niceness| set_slice(niceness, SHORT_SLICE));
    if let Err(error) = prompt {
        tracing::debug!(
            cause = error.to_string(),
            "cannot set the scheduler slice of a guest thread"
        );
    }
}

/// Sets this thread's niceness and the length of its slices. Niceness alone sets the share of CPU
/// time, not the order. The kernel's EEVDF scheduler (since Linux 6.6) finishes a running slice
/// before a waking thread runs. Only a request for longer slices (since 6.12, ignored before) lets
/// waking threads go first. It does not change the share.
fn set_slice(niceness: i32, slice: Duration) -> Result<(), rustix::io::Errno> {
    let wish = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>())
            .map_err(|_| rustix::io::Errno::OVERFLOW)?,
        sched_policy: 0,
        // Keeps the policy with which the host was started.
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY.unsigned_abs().into(),
        sched_nice: niceness,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    let own_thread = 0_i32;
    let no_flags = 0_u32;
    // SAFETY: the kernel reads `size` bytes, which is the size of `wish`, and keeps no pointer.
    #[expect(unsafe_code, reason = "no library has this call")]
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            own_thread,
            &raw const wish,
            no_flags,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        let code = io::Error::last_os_error().raw_os_error();
        Err(rustix::io::Errno::from_raw_os_error(
            code.unwrap_or(libc::EINVAL),
        ))
    }
}

/// The priority of this thread.
pub(super) fn current() -> Priority {
    PRIORITY.get()
}

/// The CPU time of a call on its thread. Wall-clock time is not used, because a waiting call takes
/// nothing from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuTimer(Option<Duration>);

impl CpuTimer {
    /// Starts now.
    pub(super) fn start() -> Self {
        Self(thread_cpu_time())
    }

    /// The CPU time so far. Counts as the maximum if the kernel does not report it.
    pub(super) fn elapsed(&self) -> Duration {
        (self.0.zip(thread_cpu_time()))
            .map_or(Duration::MAX, |(began, now)| now.saturating_sub(began))
    }

    /// Whether the CPU time exceeds that of any short call.
    pub(super) fn is_long(&self) -> bool {
        self.elapsed() > MAX_SHORT_CALL
    }
}

/// The CPU time of this thread.
fn thread_cpu_time() -> Option<Duration> {
    let clock = DynamicClockId::Known(ClockId::ThreadCPUTime);
    clock_gettime_dynamic(clock).ok()?.try_into().ok()
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
mod tests {
    use super::*;

    /// This thread's niceness and slice length, as the kernel reports them.
    fn noted() -> (i32, u64) {
        let niceness = rustix::process::getpriority_process(None).unwrap();
        let mut bytes = [0_u64; 7];
        // SAFETY: the kernel writes at most the given number of bytes, which is the size of
        // `bytes`.
        #[expect(unsafe_code, reason = "no library has this call")]
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_sched_getattr,
                0_i32,
                bytes.as_mut_ptr(),
                56_u32,
                0_u32,
            )
        };
        assert_eq!(outcome, 0);
        (niceness, bytes[3])
    }

    /// Whether the kernel's version supports slices per thread.
    fn slices_are_kept() -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = release.split('.').map(|part| part.parse::<u32>());
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            panic!("{release}")
        };
        (major, minor) >= (6, 12)
    }

    /// Whether the kernel has accepted a slice length.
    fn is_kept(slice: u64, wish: Duration) -> bool {
        !slices_are_kept() || u128::from(slice) == wish.as_nanos()
    }

    #[test]
    fn a_fixed_priority_is_not_lowered() {
        std::thread::spawn(|| {
            let before = noted();
            fix();
            lower_to(Priority::Lowest);
            assert_eq!((current(), noted()), (Priority::Normal, before));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_steps_back_is_nicer_and_wishes_for_slices_that_others_cut_short() {
        std::thread::spawn(|| {
            let (before, _) = noted();
            for (rank, expected, niceness) in [
                (Priority::Normal, Priority::Normal, before),
                (
                    Priority::Low,
                    Priority::Low,
                    (before + LOW_PRIORITY_NICENESS).min(MAX_NICENESS),
                ),
                (
                    Priority::Low,
                    Priority::Low,
                    (before + LOW_PRIORITY_NICENESS).min(MAX_NICENESS),
                ),
                (Priority::Lowest, Priority::Lowest, MAX_NICENESS),
                (Priority::Low, Priority::Lowest, MAX_NICENESS),
            ] {
                lower_to(rank);
                let (is, slice) = noted();
                assert_eq!((current(), is), (expected, niceness), "{rank:?}");
                assert!(rank == Priority::Normal || is_kept(slice, LOW_PRIORITY_SLICE));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_prompt_thread_wishes_for_short_slices_and_gets_no_more_than_others() {
        std::thread::spawn(|| {
            let (before, _) = noted();
            use_short_slices();
            let (after, slice) = noted();
            assert_eq!((after, current()), (before, Priority::Normal));
            assert!(is_kept(slice, SHORT_SLICE));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_stint_counts_what_it_had_of_a_core_and_no_time_that_passed() {
        let stint = CpuTimer::start();
        std::thread::sleep(MAX_SHORT_CALL * 5);
        assert!(!stint.is_long(), "it slept");
        while !stint.is_long() {
            std::hint::spin_loop();
        }
        assert!(CpuTimer(None).is_long(), "what is not known is long");
    }
}
