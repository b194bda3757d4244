//! Who goes first at a core: short calls. A thread whose call runs on steps back, and has a small part of what others have where they
//! want the same core. It can never step forward again (that takes a privilege that a host should not have), so it ends with its call, and
//! another thread takes its place.

use std::cell::Cell;
use std::sync::Once;

use super::bounds::STEP_BACK;

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
        rustix::process::setpriority_process(None, niceness.saturating_add(STEP_BACK))
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

/// Whether this thread has stepped back.
pub(super) fn is_back() -> bool {
    BACK.get()
}
