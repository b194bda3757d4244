//! Who goes first at a core: short calls. A thread whose call runs on steps back: where others want the same core it has a small part of what
//! they have, and whoever wakes there goes first at once. It can never step forward again (that takes a privilege that a host should not
//! have), so it ends with its call, and another thread takes its place.

use std::cell::Cell;
use std::io;
use std::sync::Once;
use std::time::Duration;

use super::bounds::{LONG_SLICE, SHORT_CALL, SHORT_SLICE, STEP_BACK};

/// Where a thread stands among those that want a core, later ones further back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Among all others.
    #[default]
    Usual,
    /// It gets a small part of what others get, and lets whoever wakes go first.
    Back,
    /// It gets next to nothing where others want the core. No idle policy (`SCHED_IDLE`): that would be nothing, for a thread that may hold a lock
    /// of the whole process' memory.
    Last,
}

/// The niceness of who is last: none is nicer.
const LEAST: i32 = 19;

thread_local! {
    static RANK: Cell<Rank> = const { Cell::new(Rank::Usual) };
}

/// This thread steps back to there, for good. Where the kernel refuses, it goes on as it is: the call's deadline bounds it in any case.
pub(super) fn step_to(rank: Rank) {
    if RANK.get() >= rank {
        return;
    }
    RANK.set(rank);
    // On Linux the priority is a thread's own, and no process is this thread.
    let stepped = rustix::process::getpriority_process(None).and_then(|niceness| {
        let niceness = match rank {
            Rank::Last => LEAST,
            _ => niceness.saturating_add(STEP_BACK).min(LEAST),
        };
        // What only newer kernels know is asked for first.
        sliced(niceness, LONG_SLICE)
            .or_else(|_| rustix::process::setpriority_process(None, niceness))
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

/// This thread has little to do at a time, and goes first when it wakes: for what others wait for. It gets no more of a core for it. Kernels
/// before 6.12 ignore it, and nothing depends on it.
pub(super) fn be_prompt() {
    let prompt = rustix::process::getpriority_process(None)
        .and_then(|niceness| sliced(niceness, SHORT_SLICE));
    if let Err(error) = prompt {
        tracing::debug!(
            cause = error.to_string(),
            "this thread has the usual slices"
        );
    }
}

/// This thread's niceness, and the length of its slices. Niceness alone says how much of a core it gets, not when: the kernel (EEVDF, since Linux
/// 6.6) lets a slice that has begun come to its end before a thread that wakes, however nice the one that runs is. Only a wish for
/// longer slices than the others have (since 6.12; kernels before that ignore it) lets whoever wakes go first, and costs it nothing of its part.
fn sliced(niceness: i32, slice: Duration) -> Result<(), rustix::io::Errno> {
    let wish = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>())
            .map_err(|_| rustix::io::Errno::OVERFLOW)?,
        sched_policy: 0,
        // Whatever policy the host was started with.
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY.unsigned_abs().into(),
        sched_nice: niceness,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
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

/// Where this thread stands.
pub(super) fn rank() -> Rank {
    RANK.get()
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

    /// Whether the kernel has kept a wish.
    fn is_kept(slice: u64, wish: Duration) -> bool {
        !slices_are_kept() || u128::from(slice) == wish.as_nanos()
    }

    #[test]
    fn a_thread_that_steps_back_is_nicer_and_wishes_for_slices_that_others_cut_short() {
        std::thread::spawn(|| {
            let (before, _) = noted();
            for (rank, expected, niceness) in [
                (Rank::Usual, Rank::Usual, before),
                (Rank::Back, Rank::Back, (before + STEP_BACK).min(LEAST)),
                (Rank::Back, Rank::Back, (before + STEP_BACK).min(LEAST)),
                (Rank::Last, Rank::Last, LEAST),
                (Rank::Back, Rank::Last, LEAST),
            ] {
                step_to(rank);
                let (is, slice) = noted();
                assert_eq!((super::rank(), is), (expected, niceness), "{rank:?}");
                assert!(rank == Rank::Usual || is_kept(slice, LONG_SLICE));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_prompt_thread_wishes_for_short_slices_and_gets_no_more_than_others() {
        std::thread::spawn(|| {
            let (before, _) = noted();
            be_prompt();
            let (after, slice) = noted();
            assert_eq!((after, rank()), (before, Rank::Usual));
            assert!(is_kept(slice, SHORT_SLICE));
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
