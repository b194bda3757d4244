//! The pages of a memory that each call of a component writes.
//!
//! Instances share the pages of a memory image, and the kernel copies a page when it is written
//! first. For an image with pandas these faults take longer than the rest of a call. To map the
//! same pages at once takes less than half of that.
//!
//! The pages are learnt from the first calls that succeed, once: those that all of them wrote. To
//! map a page changes no content. So a call can learn from others at most how fast it is, and a
//! guest's clock stands still.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::ptr;
use std::sync::{Mutex, OnceLock};

use crate::fixed_limits::{
    KEEP_RESIDENT_BYTES, MAX_OBSERVED_PAGES, MAX_POPULATED_PAGES, MAX_POPULATED_RUNS,
    OBSERVED_CALLS,
};

/// An entry for each page of this process.
const PAGEMAP: &str = "/proc/self/pagemap";
const ENTRY_BYTES: usize = 8;

/// The bits of a page that is in memory, and of one that is not private, such as an image's.
const PRESENT: u64 = 1 << 63;
const SHARED: u64 = 1 << 61;

/// The written pages of the memories of one component.
#[derive(Default)]
pub(super) struct WrittenPages {
    /// The numbers of the pages that each of the first calls wrote, in order.
    calls: Mutex<Vec<Vec<usize>>>,
    /// The runs of those that all of them wrote, once they are known.
    runs: OnceLock<Vec<Range<usize>>>,
}

impl WrittenPages {
    /// Maps the pages in a memory with these addresses, for writing. Those that cannot be are
    /// mapped when they are written.
    pub(super) fn populate(&self, memory: &Range<usize>) {
        let page_bytes = rustix::param::page_size();
        for run in self.runs.get().into_iter().flatten() {
            let start = (run.start.saturating_mul(page_bytes)).saturating_add(memory.start);
            let bytes = run.len().saturating_mul(page_bytes);
            if start.saturating_add(bytes) > memory.end {
                break;
            }
            let address = ptr::without_provenance_mut(start);
            // SAFETY: the range is in the linear memory of an instance that exists. The advice maps
            // its pages as if they were about to be written. It changes no content and no
            // protection, and the kernel keeps no pointer. Elsewhere it only fails.
            #[expect(unsafe_code, reason = "no library has a safe form of this call")]
            let outcome = unsafe { libc::madvise(address, bytes, libc::MADV_POPULATE_WRITE) };
            // Kernels before 5.14 have no such advice.
            if outcome != 0 {
                break;
            }
        }
    }

    /// Learns from a call that ended, whose memory has these addresses.
    pub(super) fn observe(&self, memory: &Range<usize>) {
        if self.runs.get().is_some() {
            return;
        }
        let Ok(mut calls) = self.calls.try_lock() else {
            return;
        };
        // What cannot be read is not mapped ahead.
        calls.push(written(memory).unwrap_or_default());
        if calls.len() >= OBSERVED_CALLS {
            let mut pages = calls.pop().unwrap_or_default();
            pages.retain(|page| calls.iter().all(|call| call.binary_search(page).is_ok()));
            calls.clear();
            let _ = self.runs.set(runs(&pages));
        }
    }
}

/// The numbers of the pages of a memory that were written. The first ones stay resident anyway.
fn written(memory: &Range<usize>) -> io::Result<Vec<usize>> {
    let in_pages = |bytes: usize| bytes.checked_div(rustix::param::page_size()).unwrap_or(0);
    let pages = in_pages(memory.len()).min(MAX_OBSERVED_PAGES);
    let mut entries = vec![0; pages.saturating_mul(ENTRY_BYTES)];
    let first = in_pages(memory.start).saturating_mul(ENTRY_BYTES);
    let first = u64::try_from(first).map_err(io::Error::other)?;
    File::open(PAGEMAP)?.read_exact_at(&mut entries, first)?;
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    let written = |(page, entry): (usize, &[u8; ENTRY_BYTES])| {
        (u64::from_ne_bytes(*entry) & (PRESENT | SHARED) == PRESENT).then_some(page)
    };
    let entries = (entries.iter().enumerate()).skip(in_pages(KEEP_RESIDENT_BYTES));
    Ok((entries.filter_map(written).take(MAX_POPULATED_PAGES)).collect())
}

/// The runs of pages with these numbers, which are in order.
fn runs(pages: &[usize]) -> Vec<Range<usize>> {
    let runs = pages.chunk_by(|page, next| page.checked_add(1) == Some(*next));
    let runs = runs.filter_map(|run| Some(*run.first()?..run.last()?.checked_add(1)?));
    runs.take(MAX_POPULATED_RUNS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;

    /// The addresses of fresh memory: as much as stays resident, and so many pages. It is never
    /// returned.
    fn memory(pages: usize) -> Range<usize> {
        let bytes = KEEP_RESIDENT_BYTES + pages * rustix::param::page_size();
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, at an address that the kernel chooses. Without huge pages, a write
        // maps one page.
        #[expect(unsafe_code, reason = "no library has a safe form of this call")]
        let start = unsafe {
            let start = libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE);
            start.expose_provenance()
        };
        start..start + bytes
    }

    /// The first byte of a page of such a memory.
    fn byte(memory: &Range<usize>, page: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(memory.start + page * rustix::param::page_size())
    }

    #[test]
    fn pages_that_each_of_the_first_calls_wrote_are_mapped_in_later_ones() {
        let first = KEEP_RESIDENT_BYTES / rustix::param::page_size();
        let learnt = WrittenPages::default();
        for call in 0..OBSERVED_CALLS {
            let of_call = memory(64);
            for page in [0, first + 3, first + 4, first + 9, first + 20 + call] {
                // SAFETY: the page is in the mapping, which only this test has.
                #[expect(unsafe_code, reason = "the memory of a test")]
                unsafe {
                    byte(&of_call, page).write(1);
                }
            }
            learnt.populate(&of_call);
            learnt.observe(&of_call);
        }
        let later = memory(64);
        learnt.populate(&later);
        assert_eq!(
            written(&later).unwrap(),
            [first + 3, first + 4, first + 9],
            "{:?}",
            learnt.runs
        );
        // SAFETY: the page is in the mapping, which only this test has.
        #[expect(unsafe_code, reason = "the memory of a test")]
        let content = unsafe { byte(&later, first + 3).read() };
        assert_eq!(content, 0);
        // Nothing beyond a smaller memory is mapped, and no later call is observed.
        let small = memory(4);
        learnt.populate(&small);
        learnt.observe(&small);
        assert_eq!(written(&small).unwrap(), [0_usize; 0]);
        assert_eq!(
            learnt.runs.get().unwrap(),
            &[first + 3..first + 5, first + 9..first + 10]
        );
    }

    #[test]
    fn the_number_of_runs_is_bounded() {
        let odd: Vec<_> = (0..MAX_POPULATED_RUNS + 9).map(|page| 2 * page).collect();
        assert_eq!(runs(&odd).len(), MAX_POPULATED_RUNS);
    }
}
