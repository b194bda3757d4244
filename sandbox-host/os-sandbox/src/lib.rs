//! The OS sandbox: the kernel limits what this process can do (Landlock, seccomp, capabilities).
//! The wasm sandbox is the first line of defence. Code that escapes it finds a process without
//! privileges. It can start no program, and open only the files and ports that the host needs.
//!
//! The OS sandbox is applied before the process has a second thread, so it covers every thread. It
//! cannot be removed. If the kernel lacks a part, the log says so, and the operator decides whether
//! the host starts.

mod access;
mod descriptors;
mod folders;
mod landlock_rules;
mod privileges;
mod resource;
mod syscalls;

use std::sync::atomic::{AtomicBool, Ordering};

pub use self::access::Access;
pub use self::descriptors::{inherit_none, inherited};
pub use self::folders::{beside, folder, home, renewed};
use self::privileges::drop_all;
pub use self::resource::{BaseFolders, Resource, port};
use self::syscalls::ProcessKind;

/// Whether a thread of this process is restricted.
static APPLIED: AtomicBool = AtomicBool::new(false);

/// The state of one part of the OS sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Completely applied, with a description.
    Full(String),
    /// Partly or not applied, with the reason.
    Partial(String),
}

/// The OS sandbox, part by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsSandbox {
    /// The name and the state of each part.
    pub parts: Vec<(&'static str, Enforcement)>,
    /// Whether the kernel restricts files.
    pub restricts_files: bool,
    /// Whether the kernel restricts TCP ports, which it does since Landlock ABI 4.
    pub restricts_ports: bool,
}

impl OsSandbox {
    /// Whether every part is completely applied.
    pub fn is_full(&self) -> bool {
        let whole = |(_, stands): &(_, Enforcement)| matches!(stands, Enforcement::Full(_));
        self.parts.iter().all(whole)
    }

    /// A description for the log.
    pub fn describe(&self) -> String {
        let part = |(name, stands): &(&str, Enforcement)| match stands {
            Enforcement::Full(what) => format!("{name}: {what}"),
            Enforcement::Partial(why) => format!("{name}: INCOMPLETE: {why}"),
        };
        self.parts.iter().map(part).collect::<Vec<_>>().join("; ")
    }
}

/// Restricts this thread and all that it starts. This cannot be undone.
pub fn apply(reach: &Access) -> OsSandbox {
    restrict(reach, ProcessKind::Host)
}

/// Restricts a compiler to no files, no ports and no sockets at all.
pub fn apply_to_compiler() -> OsSandbox {
    restrict(&Access::default(), ProcessKind::Compiler)
}

/// Adds a hint for the operator to an error that the OS sandbox may have caused.
#[must_use]
pub fn with_hint(cause: &str) -> String {
    if APPLIED.load(Ordering::Relaxed) && cause.contains("Permission denied") {
        format!(
            "{cause} (the OS sandbox limits this host to what it was started with and what its first policy names, as the log line at the start lists; a restart applies it anew)"
        )
    } else {
        cause.to_owned()
    }
}

fn restrict(reach: &Access, kind: ProcessKind) -> OsSandbox {
    APPLIED.store(true, Ordering::Relaxed);
    // First, while the process may still drop capabilities.
    let capabilities = drop_all();
    // Also denies programs more privileges than this process has.
    let landlock = landlock_rules::restrict(reach);
    // Last, because it denies calls that the other parts need.
    let system_calls = syscalls::restrict(kind);
    OsSandbox {
        parts: vec![
            ("capabilities", capabilities),
            ("files and ports", landlock.enforcement),
            ("system calls", system_calls),
        ],
        restricts_files: landlock.restricts_files,
        restricts_ports: landlock.restricts_ports,
    }
}
