//! The global allocator of a handler: an arena in memory that each instance has from its start.
//!
//! Growing a WebAssembly memory is slow: the kernel maps the new pages one by one and takes them
//! back before the next call. For a photograph this costs as much as half of the work itself.
//! Memory of a fresh instance is zero, so `alloc_zeroed` clears only bytes that were written
//! before.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::free_list::{Allocation, FreeList};

/// Bytes of the arena for small allocations: names, shapes, tensors of some hundred elements. A
/// module's memory is whole pages of 64 KiB, so in most modules these bytes add no page.
const SMALL_ARENA_BYTES: usize = 16 << 10;

/// Allocations below this size, in bytes, are small.
const LARGE_BYTES: usize = 4 << 10;

/// The most free ranges between large allocations that are reused.
const RANGES: usize = 32;

/// The alignment of each allocation, in bytes. No vector type of WebAssembly needs more.
const UNIT: usize = 16;

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

/// A global allocator with an arena of `BYTES` bytes for large allocations. Allocations that do not
/// fit go to [`System`], which grows the memory.
///
/// The export macros make one. It is sound only in an instance, which has one thread.
#[derive(Debug)]
pub struct Arena<const BYTES: usize> {
    small: Part<SMALL_ARENA_BYTES, 0>,
    large: Part<BYTES, RANGES>,
}

/// Memory, and its free list.
#[derive(Debug)]
#[repr(C, align(16))]
struct Part<const BYTES: usize, const RANGES: usize> {
    memory: UnsafeCell<[u8; BYTES]>,
    free_list: UnsafeCell<FreeList<RANGES>>,
}

impl<const BYTES: usize> Arena<BYTES> {
    /// An empty allocator.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            small: Part::new(),
            large: Part::new(),
        }
    }
}

impl<const BYTES: usize> Default for Arena<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize, const RANGES: usize> Part<BYTES, RANGES> {
    const fn new() -> Self {
        Self {
            memory: UnsafeCell::new([0; BYTES]),
            free_list: UnsafeCell::new(FreeList::new()),
        }
    }

    /// Memory for a layout, and how many bytes at its beginning may have been written before.
    fn allocate(&self, layout: Layout) -> Option<(*mut u8, usize)> {
        let bytes = rounded(layout)?;
        let Allocation { start, written } =
            self.with_free_list(|list| list.allocate(bytes, BYTES))?;
        Some((self.memory.get().cast::<u8>().wrapping_add(start), written))
    }

    /// The offset of an address in the arena, or `None` if it lies outside.
    fn offset(&self, address: *mut u8) -> Option<usize> {
        let first = self.memory.get().cast::<u8>().addr();
        let offset = address.addr().checked_sub(first)?;
        (offset < BYTES).then_some(offset)
    }

    #[expect(
        unsafe_code,
        reason = "a global allocator is shared, and has its free list within it"
    )]
    fn with_free_list<T>(&self, f: impl FnOnce(&mut FreeList<RANGES>) -> T) -> T {
        // SAFETY: there is one thread, and no operation on a free list allocates, so there is no
        // second reference.
        f(unsafe { &mut *self.free_list.get() })
    }
}

/// The size of a layout, rounded up to `UNIT`; `None` if its alignment is not supported.
fn rounded(layout: Layout) -> Option<usize> {
    (layout.align() <= UNIT)
        .then(|| layout.size().max(1).checked_next_multiple_of(UNIT))
        .flatten()
}

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
#[expect(
    unsafe_code,
    reason = "a global allocator is shared between threads, if there are any"
)]
// SAFETY: without atomics WebAssembly has one thread.
unsafe impl<const BYTES: usize> Sync for Arena<BYTES> {}

#[expect(unsafe_code, reason = "a global allocator is unsafe by its nature")]
// SAFETY: each part returns memory of its own, aligned to `UNIT`. A free list allocates no byte
// twice before it is freed. All other memory comes from `System`. No function here panics or
// allocates.
unsafe impl<const BYTES: usize> GlobalAlloc for Arena<BYTES> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.allocate(layout) {
            Some((address, _)) => address,
            // SAFETY: the caller upholds this function's contract.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.allocate(layout) {
            Some((address, written)) => {
                // SAFETY: no more than the bytes that were allocated.
                unsafe { ptr::write_bytes(address, 0, written) };
                address
            }
            // SAFETY: the caller upholds this function's contract.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        let bytes = rounded(layout).unwrap_or(0);
        if let Some(start) = self.large.offset(address) {
            let end = start.saturating_add(bytes);
            self.large.with_free_list(|list| list.free(start, end));
        } else if let Some(start) = self.small.offset(address) {
            let end = start.saturating_add(bytes);
            self.small.with_free_list(|list| list.free(start, end));
        } else {
            // SAFETY: it lies in neither part, so `System` allocated it.
            unsafe { System.dealloc(address, layout) };
        }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let in_place = if let Some(start) = self.large.offset(address) {
            self.large.resize(start, layout, size)
        } else if let Some(start) = self.small.offset(address) {
            self.small.resize(start, layout, size)
        } else {
            // SAFETY: it lies in neither part, so `System` allocated it.
            return unsafe { System.realloc(address, layout, size) };
        };
        if in_place {
            return address;
        }
        // SAFETY: the caller guarantees that the size fits a layout of this alignment.
        let other = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller upholds this function's contract.
        let moved = unsafe { self.alloc(other) };
        if !moved.is_null() {
            // SAFETY: both allocations have at least this size, and they do not overlap.
            unsafe { ptr::copy_nonoverlapping(address, moved, layout.size().min(size)) };
            // SAFETY: it was allocated with this layout.
            unsafe { self.dealloc(address, layout) };
        }
        moved
    }
}

impl<const BYTES: usize> Arena<BYTES> {
    fn allocate(&self, layout: Layout) -> Option<(*mut u8, usize)> {
        if BYPASS.load(Ordering::Relaxed) {
            None
        } else if layout.size() < LARGE_BYTES {
            self.small.allocate(layout)
        } else {
            self.large.allocate(layout)
        }
    }
}

impl<const BYTES: usize, const RANGES: usize> Part<BYTES, RANGES> {
    /// Changes the size of an allocation in place; whether that was possible.
    fn resize(&self, start: usize, layout: Layout, size: usize) -> bool {
        let other = Layout::from_size_align(size, layout.align());
        let (Some(old), Some(new)) = (rounded(layout), other.ok().and_then(rounded)) else {
            return false;
        };
        let end = start.saturating_add(old);
        self.with_free_list(|list| match new.checked_sub(old) {
            Some(0) => true,
            Some(more) => list.extend(end, more, BYTES),
            None => {
                list.free(start.saturating_add(new), end);
                true
            }
        })
    }
}

#[cfg(test)]
#[allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
mod tests {
    use super::*;

    /// An allocation in the test, and the byte that fills it.
    struct Block {
        address: *mut u8,
        layout: Layout,
        byte: u8,
    }

    impl Block {
        fn is_whole(&self) -> bool {
            let bytes = unsafe { std::slice::from_raw_parts(self.address, self.layout.size()) };
            bytes.iter().all(|byte| *byte == self.byte)
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn whatever_is_held_keeps_its_bytes_and_alignment_and_begins_as_zeros_where_asked() {
        let arena = Arena::<{ 256 << 10 }>::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap() % below
        };
        let mut held: Vec<Block> = Vec::new();
        let (mut inside, mut moved) = (0, 0);
        for turn in 0..10_000 {
            let byte = u8::try_from(turn % 251).unwrap();
            // Sizes of every class, and some that fit nowhere.
            let size =
                [1, 15, 700, 4_096, 9_000, 70_000, 300_000].map(|most| 1 + next(most))[next(7)];
            match next(5) {
                0 | 1 if held.len() > 12 => {
                    let old = held.swap_remove(next(held.len()));
                    assert!(old.is_whole());
                    unsafe { arena.dealloc(old.address, old.layout) };
                }
                4 if !held.is_empty() => {
                    let at = next(held.len());
                    let old = held.swap_remove(at);
                    let address = unsafe { arena.realloc(old.address, old.layout, size) };
                    let kept = old.layout.size().min(size);
                    moved += usize::from(address != old.address);
                    let layout = layout(size, old.layout.align());
                    assert!(
                        Block {
                            address,
                            layout: self::layout(kept, 1),
                            byte: old.byte
                        }
                        .is_whole()
                    );
                    unsafe { ptr::write_bytes(address, byte, size) };
                    held.push(Block {
                        address,
                        layout,
                        byte,
                    });
                }
                kind => {
                    let layout = layout(size, 1 << next(7));
                    let address = if kind == 2 {
                        let address = unsafe { arena.alloc_zeroed(layout) };
                        let byte = 0;
                        assert!(
                            Block {
                                address,
                                layout,
                                byte
                            }
                            .is_whole()
                        );
                        address
                    } else {
                        unsafe { arena.alloc(layout) }
                    };
                    assert_eq!(address.addr() % layout.align(), 0);
                    let (small, large) = (arena.small.offset(address), arena.large.offset(address));
                    inside += usize::from(small.or(large).is_some());
                    unsafe { ptr::write_bytes(address, byte, size) };
                    held.push(Block {
                        address,
                        layout,
                        byte,
                    });
                }
            }
        }
        assert!(inside > 500 && moved > 500, "{inside} {moved}");
        for old in held {
            assert!(old.is_whole());
            unsafe { arena.dealloc(old.address, old.layout) };
        }
        // Everything is free again.
        let whole = layout(256 << 10, 16);
        let address = unsafe { arena.alloc_zeroed(whole) };
        assert_eq!(arena.large.offset(address), Some(0));
        unsafe { arena.dealloc(address, whole) };
    }

    #[test]
    fn a_buffer_that_grows_stays_where_it_is() {
        let arena = Arena::<{ 64 << 10 }>::new();
        let first = layout(8 << 10, 1);
        let address = unsafe { arena.alloc(first) };
        assert_eq!(unsafe { arena.realloc(address, first, 48 << 10) }, address);
        // When it outgrows the arena it moves, and frees its old range.
        let moved = unsafe { arena.realloc(address, layout(48 << 10, 1), 80 << 10) };
        assert_eq!(arena.large.offset(moved), None);
        assert_eq!(arena.large.offset(unsafe { arena.alloc(first) }), Some(0));
        unsafe { arena.dealloc(moved, layout(80 << 10, 1)) };
    }
}
