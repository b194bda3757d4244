//! The global allocator of a handler: [`talc`], first in an arena that each instance has from its
//! start.
//!
//! Growing a WebAssembly memory is slow: the kernel maps the new pages one by one and takes them
//! back before the next call. For a photograph this costs as much as half of the work itself.

use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that the arena of each handler has at least: names, shapes, tensors of some hundred
/// elements. A module's memory is whole pages of 64 KiB, so in most modules they add no page.
pub const LEAST_BYTES: usize = 16 << 10;

/// Whether allocations stay in the component that is being built. They must not use the arena,
/// which is for calls.
static BYPASS: AtomicBool = AtomicBool::new(false);

/// Runs a function whose allocations bypass the arena. For data that becomes part of the component,
/// before any call.
#[doc(hidden)]
pub fn before_calls<T>(make: impl FnOnce() -> T) -> T {
    BYPASS.store(true, Ordering::Relaxed);
    let made = make();
    BYPASS.store(false, Ordering::Relaxed);
    made
}

// Other targets have an allocator, and threads.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
pub use of_instance::{Allocator, Arena, allocator};

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
mod of_instance {
    use core::alloc::Layout;
    use core::arch::wasm32::memory_grow;
    use core::cell::UnsafeCell;
    use core::mem::MaybeUninit;
    use core::ptr;
    use std::sync::atomic::Ordering;

    use talc::base::Talc;
    use talc::base::binning::Binning;
    use talc::cell::TalcSyncCell;
    use talc::source::Source;
    use talc::wasm::WasmBinning;

    use super::BYPASS;

    /// Bytes of a page of WebAssembly memory.
    const PAGE_BYTES: usize = 64 << 10;

    /// Bytes that Talc needs for itself in memory of its own, at most.
    const OWN_BYTES: usize = 4 << 10;

    /// The memory of an arena.
    #[derive(Debug)]
    #[repr(C, align(16))]
    pub struct Arena<const BYTES: usize>(UnsafeCell<MaybeUninit<[u8; BYTES]>>);

    impl<const BYTES: usize> Arena<BYTES> {
        /// An arena that nothing uses yet.
        #[must_use]
        pub const fn new() -> Self {
            Self(UnsafeCell::new(MaybeUninit::uninit()))
        }
    }

    impl<const BYTES: usize> Default for Arena<BYTES> {
        fn default() -> Self {
            Self::new()
        }
    }

    // SAFETY: without atomics WebAssembly has one thread.
    unsafe impl<const BYTES: usize> Sync for Arena<BYTES> {}

    /// The global allocator of an instance.
    pub type Allocator = TalcSyncCell<ArenaThenGrowth, WasmBinning>;

    /// An allocator that uses this arena first. An arena has one allocator.
    #[must_use]
    pub const fn allocator<const BYTES: usize>(arena: &'static Arena<BYTES>) -> Allocator {
        TalcSyncCell::new_wasm(ArenaThenGrowth {
            start: arena.0.get().cast(),
            bytes: BYTES,
        })
    }

    /// Gives an allocator the arena, and when it is full, memory by which the instance grows.
    #[derive(Debug)]
    pub struct ArenaThenGrowth {
        start: *mut u8,
        /// Bytes of the arena; zero once the allocator has it.
        bytes: usize,
    }

    // SAFETY: `acquire` allocates nothing.
    unsafe impl Source for ArenaThenGrowth {
        fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
            if talc.source.bytes > 0 && !BYPASS.load(Ordering::Relaxed) {
                let (start, bytes) = (talc.source.start, talc.source.bytes);
                talc.source.bytes = 0;
                // SAFETY: nothing else uses the arena, and it is given away once.
                return unsafe { talc.claim(start, bytes) }.map(drop).ok_or(());
            }
            let bytes = layout.size().checked_add(layout.align()).ok_or(())?;
            let pages = bytes.checked_add(OWN_BYTES).ok_or(())?.div_ceil(PAGE_BYTES);
            let first = memory_grow::<0>(pages);
            if first == usize::MAX {
                return Err(());
            }
            let start = ptr::with_exposed_provenance_mut(first.saturating_mul(PAGE_BYTES));
            // SAFETY: the memory has grown by these bytes, and nothing else knows of them.
            unsafe { talc.claim(start, pages.saturating_mul(PAGE_BYTES)) }
                .map(drop)
                .ok_or(())
        }
    }
}
