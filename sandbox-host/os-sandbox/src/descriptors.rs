//! Descriptors that a new process has from the one that starts it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::Enforcement;

/// The first descriptor behind standard input, output and error.
const FIRST: libc::c_uint = 3;

/// Lets a program start with standard input, output and error alone, even if this process was
/// started with more. Kernels before 5.11 cannot do this; [`inherited`] tells.
#[expect(unsafe_code, reason = "the standard library has no such call")]
pub fn inherit_none(command: &mut Command) -> &mut Command {
    let close_at_exec = || {
        // SAFETY: the call takes numbers only. It runs in the new process, whose descriptors stay
        // open until it becomes the program.
        let _ = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                FIRST,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(close_at_exec) }
}

/// Whether this process has descriptors beside the standard ones. Only true before it opens some.
pub fn inherited() -> Enforcement {
    let open = match std::fs::read_dir("/proc/self/fd") {
        Ok(open) => open,
        Err(error) => return Enforcement::Partial(error.to_string()),
    };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // One of them reads the folder.
    match numbers.filter(|number: &u32| *number >= FIRST).count() {
        0 | 1 => Enforcement::Full("the standard ones".to_owned()),
        count => {
            let more = count.saturating_sub(1);
            Enforcement::Partial(format!("{more} from the process that started this one"))
        }
    }
}
