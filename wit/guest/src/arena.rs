//! The global allocator of a handler: [`talc`], first in an arena that each instance has from its
//! start.
//!
//! Growing a WebAssembly memory is slow: the kernel maps the new pages one by one and takes them
//! back before the next call. For a photograph this costs as much as half of the work itself.
//!
//! The arena of a fresh instance is zero, so `alloc_zeroed` clears only bytes that were written
//! before.

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

/// Which bytes of an arena are still zero.
#[cfg(any(test, all(target_arch = "wasm32", not(target_feature = "atomics"))))]
mod watermark {
    use core::cell::Cell;

    use talc::base::CHUNK_UNIT;

    /// Bytes that Talc needs for itself in memory of its own, at most.
    pub(super) const OWN_BYTES: usize = 4 << 10;

    /// Bytes that Talc writes behind a block and at the end of an arena, at most: sizes, and a node
    /// of the list of free ranges.
    pub(super) const MARGIN_BYTES: usize = 4 * CHUNK_UNIT;

    /// How far an arena was written. Talc takes blocks from the start of free ranges, so all bytes
    /// above the highest block are those of the fresh instance.
    #[derive(Debug)]
    pub(super) struct Watermark {
        /// The size of the arena.
        bytes: usize,
        /// The offset up to which it may be written, by blocks or by Talc.
        reached: Cell<usize>,
    }

    impl Watermark {
        pub(super) const fn new(bytes: usize) -> Self {
            Self {
                bytes,
                reached: Cell::new(OWN_BYTES),
            }
        }

        /// How many bytes at the beginning of a new block may be other than zero. The offset of a
        /// block outside of the arena is any number above its size.
        pub(super) fn written(&self, offset: usize, bytes: usize) -> usize {
            if offset.saturating_add(bytes) > self.bytes.saturating_sub(MARGIN_BYTES) {
                return bytes;
            }
            self.reached.get().saturating_sub(offset).min(bytes)
        }

        /// Notes a block that the guest may write.
        pub(super) fn note(&self, offset: usize, bytes: usize) {
            if offset < self.bytes {
                let end = offset.saturating_add(bytes).saturating_add(MARGIN_BYTES);
                self.reached.set(self.reached.get().max(end));
            }
        }
    }
}

// Other targets have an allocator, and threads.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
pub use of_instance::{Allocator, Arena, allocator};

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
mod of_instance {
    use core::alloc::{GlobalAlloc, Layout};
    use core::arch::wasm32::memory_grow;
    use core::cell::UnsafeCell;
    use core::ptr;
    use std::sync::atomic::Ordering;

    use talc::base::Talc;
    use talc::base::binning::Binning;
    use talc::cell::TalcSyncCell;
    use talc::source::Source;
    use talc::wasm::WasmBinning;

    use super::BYPASS;
    use super::watermark::{OWN_BYTES, Watermark};

    /// Bytes of a page of WebAssembly memory.
    const PAGE_BYTES: usize = 64 << 10;

    /// The memory of an arena.
    #[derive(Debug)]
    #[repr(C, align(16))]
    pub struct Arena<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

    impl<const BYTES: usize> Arena<BYTES> {
        /// An arena that nothing uses yet.
        #[must_use]
        pub const fn new() -> Self {
            Self(UnsafeCell::new([0; BYTES]))
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
    pub struct Allocator {
        talc: TalcSyncCell<ArenaThenGrowth, WasmBinning>,
        start: *mut u8,
        watermark: Watermark,
    }

    // SAFETY: as above.
    unsafe impl Sync for Allocator {}

    /// An allocator that uses this arena first. An arena has one allocator.
    #[must_use]
    pub const fn allocator<const BYTES: usize>(arena: &'static Arena<BYTES>) -> Allocator {
        let start = arena.0.get().cast();
        Allocator {
            talc: TalcSyncCell::new_wasm(ArenaThenGrowth {
                start,
                bytes: BYTES,
            }),
            start,
            watermark: Watermark::new(BYTES),
        }
    }

    impl Allocator {
        /// The offset of a block in the arena, or a number above its size.
        fn offset(&self, block: *mut u8) -> usize {
            block.addr().wrapping_sub(self.start.addr())
        }

        /// Notes a block that the guest may write, and returns it.
        fn noted(&self, block: *mut u8, bytes: usize) -> *mut u8 {
            self.watermark.note(self.offset(block), bytes);
            block
        }
    }

    // SAFETY: the blocks are Talc's. Those of `alloc_zeroed` are zero behind the bytes that are
    // cleared, because neither a block nor Talc was ever there.
    unsafe impl GlobalAlloc for Allocator {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promises are those of this function.
            self.noted(unsafe { self.talc.alloc(layout) }, layout.size())
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as above.
            let block = unsafe { self.talc.alloc(layout) };
            if block.is_null() {
                return block;
            }
            let written = self.watermark.written(self.offset(block), layout.size());
            // SAFETY: the block has at least as many bytes.
            unsafe { ptr::write_bytes(block, 0, written) };
            self.noted(block, layout.size())
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as above.
            unsafe { self.talc.dealloc(block, layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
            // SAFETY: as above.
            self.noted(unsafe { self.talc.realloc(block, layout, bytes) }, bytes)
        }
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

#[cfg(test)]
#[allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
mod tests {
    use core::alloc::{GlobalAlloc as _, Layout};

    use talc::base::binning::DefaultBinning;
    use talc::cell::TalcCell;
    use talc::source::Manual;

    use super::watermark::{MARGIN_BYTES, OWN_BYTES, Watermark};

    const ARENA_BYTES: usize = 256 << 10;

    /// Takes a block, checks the bytes that are said to be zero, and writes all of it.
    fn write(watermark: &Watermark, offset: usize, bytes: &mut [u8]) -> usize {
        let written = watermark.written(offset, bytes.len());
        assert!(
            bytes.iter().skip(written).all(|byte| *byte == 0),
            "{offset}"
        );
        watermark.note(offset, bytes.len());
        bytes.fill(0xff);
        bytes.len() - written
    }

    #[test]
    fn talc_writes_nothing_above_the_highest_block() {
        for seed in 0..50_usize {
            let mut memory = vec![0_u64; ARENA_BYTES / size_of::<u64>()];
            let start: *mut u8 = memory.as_mut_ptr().cast();
            let watermark = Watermark::new(ARENA_BYTES);
            let talc = TalcCell::<Manual, DefaultBinning>::new(Manual);
            // SAFETY: nothing else uses the memory while Talc does.
            unsafe { talc.claim(start, ARENA_BYTES) }.unwrap();
            let mut blocks: Vec<(*mut u8, Layout)> = Vec::new();
            let (mut random, mut zero_bytes) = (seed, 0);
            for _ in 0..400 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let choice = random >> 33;
                let bytes = 1 + choice % 6_000;
                let chosen = choice.checked_rem(blocks.len()).unwrap_or_default();
                match choice % 4 {
                    0 if !blocks.is_empty() => {
                        let (block, layout) = blocks.swap_remove(chosen);
                        // SAFETY: the block is Talc's, and it is not used any more.
                        unsafe { talc.dealloc(block, layout) };
                    }
                    1 if !blocks.is_empty() => {
                        let (block, layout) = blocks.swap_remove(chosen);
                        // SAFETY: as above, and the size is not zero.
                        let changed = unsafe { talc.realloc(block, layout, bytes) };
                        if changed.is_null() {
                            blocks.push((block, layout));
                            continue;
                        }
                        watermark.note(changed.addr() - start.addr(), bytes);
                        // SAFETY: the block has these bytes.
                        unsafe { changed.write_bytes(0xff, bytes) };
                        let layout = Layout::from_size_align(bytes, layout.align()).unwrap();
                        blocks.push((changed, layout));
                    }
                    _ => {
                        let layout = Layout::from_size_align(bytes, 1 << (choice % 13)).unwrap();
                        // SAFETY: the size is not zero.
                        let block = unsafe { talc.alloc(layout) };
                        if block.is_null() {
                            continue;
                        }
                        let offset = block.addr() - start.addr();
                        // SAFETY: the block has these bytes, which were initialised as zeros.
                        let bytes = unsafe { core::slice::from_raw_parts_mut(block, bytes) };
                        zero_bytes += write(&watermark, offset, bytes);
                        blocks.push((block, layout));
                    }
                }
                let end = ARENA_BYTES - MARGIN_BYTES;
                let above = watermark.written(0, end);
                // SAFETY: Talc does not use the memory meanwhile, and all of it is initialised.
                let clean = unsafe { core::slice::from_raw_parts(start.add(above), end - above) };
                assert!(clean.iter().all(|byte| *byte == 0), "{seed}: above {above}");
            }
            assert!(zero_bytes > ARENA_BYTES / 2, "{seed}: {zero_bytes}");
        }
    }

    #[test]
    fn blocks_outside_and_at_the_end_of_an_arena_are_cleared() {
        let watermark = Watermark::new(64 << 10);
        assert_eq!(watermark.written(0, 100), 100);
        assert_eq!(watermark.written(OWN_BYTES - 10, 100), 10);
        assert_eq!(watermark.written(OWN_BYTES, 100), 0);
        assert_eq!(watermark.written((64 << 10) - 100, 100), 100);
        assert_eq!(watermark.written(usize::MAX, 100), 100);
        watermark.note(usize::MAX, 100);
        watermark.note(OWN_BYTES, 100);
        assert_eq!(watermark.written(OWN_BYTES, 1_000), 100 + MARGIN_BYTES);
    }
}
