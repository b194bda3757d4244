//! Who goes first at a core: short calls. A thread whose call runs on steps back: where others want the same core it has a small part of what
//! they have, and whoever wakes there goes first at once. It can never step forward again (that takes a privilege that a host should not
//! have), so it ends with its call, and another thread takes its place.

use std::cell::Cell;
use std::io;
use std::sync::Once;
use std::time::Duration;

use super::bounds::{LONG_SLICE, SHORT_CALL, STEP_BACK};

thread_local! {
    static BACK: Cell<bool> = const { Cell::new(false) };
}

/// This thread steps back, for good. Where the kernel refuses, it goes on as it is: the call's deadline bounds it in any case.
pub(super) fn step_back() {
    if BACK.replace(true) {
        return;
    }
    // On Linux the priority is a thread's own, and no process is this thread.
    let stepped = rustix::process::getpriority_process(None).and_then(|niceness| {
        let niceness = niceness.saturating_add(STEP_BACK);
        // What only newer kernels know is asked for first.
        sliced(niceness).or_else(|_| rustix::process::setpriority_process(None, niceness))
    });
    if let Err(error) = stepped {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                cause = error.to_string(),
                "guest threads cannot step back: calls that run on take cores from short ones"
            );
        });
    }
}

/// This thread's niceness, and the length of its slices. Niceness alone says how much of a core it gets, not when: the kernel (EEVDF, since Linux
/// 6.6) lets a slice that has begun come to its end before a thread that wakes, however nice the one that runs is. Only a wish for
/// longer slices than the others have (since 6.12; kernels before that ignore it) lets whoever wakes go first, and costs it nothing of its part.
fn sliced(niceness: i32) -> Result<(), rustix::io::Errno> {
    let wish = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>())
            .map_err(|_| rustix::io::Errno::OVERFLOW)?,
        sched_policy: 0,
        // Whatever policy the host was started with.
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY.unsigned_abs().into(),
        sched_nice: niceness.min(19),
        sched_priority: 0,
        sched_runtime: u64::try_from(LONG_SLICE.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    let own_thread = 0_i32;
    let no_flags = 0_u32;
    // SAFETY: the kernel reads as many bytes as `size` says, which is what `wish` has, and keeps no pointer.
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

/// Whether this thread has stepped back.
pub(super) fn is_back() -> bool {
    BACK.get()
}

/// What a call has had of a core since it began, on the thread that it began on. Not the time that passed: one that had to wait for others has
/// taken nothing from them meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stint(Option<Duration>);

impl Stint {
    /// It begins now.
    pub(super) fn begin() -> Self {
        Self(of_this_thread())
    }

    /// So far. Unless the kernel says how much it is, all there is.
    pub(super) fn so_far(&self) -> Duration {
        self.0
            .zip(of_this_thread())
            .map_or(Duration::MAX, |(began, now)| now.saturating_sub(began))
    }

    /// Whether it is longer than any short call's.
    pub(super) fn is_long(&self) -> bool {
        self.so_far() > SHORT_CALL
    }
}

/// Time that this thread had of a core.
fn of_this_thread() -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one `timespec`, which is what `time` is, and keeps no pointer.
    #[expect(unsafe_code, reason = "the standard library has no such clock")]
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    match (outcome, seconds, nanos) {
        (0, Ok(seconds), Ok(nanos)) => Some(Duration::new(seconds, nanos)),
        _ => None,
    }
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

    /// What the kernel has noted of this thread: its niceness, and the length of its slices where it keeps one.
    fn noted() -> (i32, u64) {
        let niceness = rustix::process::getpriority_process(None).unwrap();
        let mut bytes = [0_u64; 7];
        // SAFETY: the kernel writes at most as many bytes as it is told, which is what `bytes` has.
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

    /// The kernel's version: whether it has slices of a thread's own.
    fn slices_are_kept() -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = release.split('.').map(|part| part.parse::<u32>());
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            panic!("{release}")
        };
        (major, minor) >= (6, 12)
    }

    #[test]
    fn a_thread_that_steps_back_is_nicer_and_wishes_for_slices_that_others_cut_short() {
        std::thread::spawn(|| {
            let (before, _) = noted();
            step_back();
            let (after, slice) = noted();
            assert!(is_back());
            assert_eq!(after, (before + STEP_BACK).min(19));
            if slices_are_kept() {
                assert_eq!(u128::from(slice), LONG_SLICE.as_nanos());
            }
            step_back();
            assert_eq!(noted().0, after, "once is enough");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_stint_counts_what_it_had_of_a_core_and_no_time_that_passed() {
        let stint = Stint::begin();
        std::thread::sleep(SHORT_CALL * 5);
        assert!(!stint.is_long(), "it slept");
        while !stint.is_long() {
            std::hint::spin_loop();
        }
        assert!(Stint(None).is_long(), "what is not known is long");
    }
}
