//! How much memory a call uses at its peak. Tests of other crates use this file, too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts the bytes that each thread has in use, and their peak.
struct Counting;

thread_local! {
    // Negative on a thread that frees what another one allocated.
    static USED: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed to the system's allocator unchanged. A reallocation holds both
// blocks for a moment, as in the default implementation.
#[expect(unsafe_code, reason = "an allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.get() + layout.size().cast_signed();
        USED.set(used);
        PEAK.set(PEAK.get().max(used));
        // SAFETY: the caller follows the rules of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.set(USED.get() - layout.size().cast_signed());
        // SAFETY: the caller follows the rules of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Calls a function. Returns its result, and the most bytes that this thread had in use meanwhile,
/// beside those before.
pub(crate) fn with_peak<T>(call: impl FnOnce() -> T) -> (T, isize) {
    let before = USED.get();
    PEAK.set(before);
    let result = call();
    (result, PEAK.get() - before)
}
