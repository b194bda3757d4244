//! Free list of an arena: which offsets are allocated. A freed range that cannot be recorded stays
//! allocated.

/// A range of offsets in an arena: from `start`, before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    const NONE: Self = Self { start: 0, end: 0 };

    const fn bytes(self) -> usize {
        self.end.saturating_sub(self.start)
    }
}

/// An allocated range: where it starts, and how many of its first bytes may have been written since
/// the instance started. The other bytes are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    pub start: usize,
    pub written: usize,
}

/// The state of one arena, with up to `RANGES` free ranges between allocated ones. Its initial
/// value is all zeros, so a module that holds one needs no data segment for it.
#[derive(Debug)]
pub struct FreeList<const RANGES: usize> {
    /// Everything from this offset is free.
    top: usize,
    /// Nothing from this offset was ever allocated.
    untouched: usize,
    ranges: [Span; RANGES],
}

impl<const RANGES: usize> FreeList<RANGES> {
    pub const fn new() -> Self {
        Self {
            top: 0,
            untouched: 0,
            ranges: [Span::NONE; RANGES],
        }
    }

    /// Allocates `bytes` bytes, at least one, in an arena of `capacity` bytes. Uses the smallest
    /// free range that fits, or else the free bytes at the top.
    pub fn allocate(&mut self, bytes: usize, capacity: usize) -> Option<Allocation> {
        let fitting = self
            .ranges
            .iter_mut()
            .filter(|range| range.bytes() >= bytes);
        if let Some(range) = fitting.min_by_key(|range| range.bytes()) {
            let start = range.start;
            range.start = start.saturating_add(bytes);
            return Some(Allocation {
                start,
                written: bytes,
            });
        }
        let start = self.top;
        let end = self.bump(bytes, capacity)?;
        let written = self.untouched.clamp(start, end).saturating_sub(start);
        self.untouched = self.untouched.max(end);
        Some(Allocation { start, written })
    }

    /// Extends the allocation that ends at `end` by `bytes` in place; whether that was possible.
    pub fn extend(&mut self, end: usize, bytes: usize, capacity: usize) -> bool {
        if end == self.top {
            let bumped = self.bump(bytes, capacity);
            self.untouched = self.untouched.max(self.top);
            return bumped.is_some();
        }
        let mut ranges = self.ranges.iter_mut();
        match ranges.find(|range| range.start == end && range.bytes() >= bytes) {
            Some(range) => {
                range.start = end.saturating_add(bytes);
                true
            }
            None => false,
        }
    }

    /// Frees the range from `start` to `end`: an allocation, or the end of one.
    pub fn free(&mut self, start: usize, end: usize) {
        let mut free = Span { start, end };
        for range in &mut self.ranges {
            if range.bytes() == 0 {
                continue;
            }
            if range.end == free.start {
                free.start = range.start;
                *range = Span::NONE;
            } else if range.start == free.end {
                free.end = range.end;
                *range = Span::NONE;
            }
        }
        if free.end == self.top {
            self.top = free.start;
        } else if let Some(range) = self.ranges.iter_mut().find(|range| range.bytes() == 0) {
            *range = free;
        }
    }

    /// Allocates bytes at the top; the new top.
    fn bump(&mut self, bytes: usize, capacity: usize) -> Option<usize> {
        let end = self.top.checked_add(bytes).filter(|end| *end <= capacity)?;
        self.top = end;
        Some(end)
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
mod tests {
    use super::*;

    const CAPACITY: usize = 1_000;

    #[test]
    fn what_was_given_back_is_taken_again_and_known_to_be_written() {
        let mut list = FreeList::<4>::new();
        let take = |list: &mut FreeList<4>, bytes| {
            let taken = list.allocate(bytes, CAPACITY);
            taken.map(|Allocation { start, written }| (start, written))
        };
        assert_eq!(take(&mut list, 400), Some((0, 0)));
        assert_eq!(take(&mut list, 100), Some((400, 0)));
        assert_eq!(take(&mut list, 300), Some((500, 0)));
        assert_eq!(take(&mut list, 201), None);
        // A range, the rest of it, and then both again as one.
        list.free(0, 400);
        assert_eq!(take(&mut list, 150), Some((0, 150)));
        assert_eq!(take(&mut list, 250), Some((150, 250)));
        list.free(0, 150);
        list.free(400, 500);
        list.free(150, 400);
        assert_eq!(take(&mut list, 500), Some((0, 500)));
        // From the top: written up to the highest offset that was ever allocated.
        list.free(500, 800);
        assert_eq!(take(&mut list, 400), Some((500, 300)));
        assert_eq!(take(&mut list, usize::MAX), None);
    }

    #[test]
    fn what_lies_before_free_bytes_grows_in_place() {
        let mut list = FreeList::<4>::new();
        for start in [0, 100, 200] {
            assert_eq!(list.allocate(100, CAPACITY).unwrap().start, start);
        }
        assert!(!list.extend(100, 1, CAPACITY), "another is in the way");
        list.free(100, 200);
        assert!(!list.extend(100, 101, CAPACITY));
        assert!(list.extend(100, 60, CAPACITY));
        assert!(list.extend(160, 40, CAPACITY));
        assert!(list.extend(300, 700, CAPACITY));
        assert!(!list.extend(1_000, 1, CAPACITY));
        list.free(300, 1_000);
        let taken = list.allocate(700, CAPACITY).unwrap();
        assert_eq!((taken.start, taken.written), (300, 700));
    }

    #[test]
    fn what_there_is_no_place_to_note_stays_taken() {
        let mut list = FreeList::<0>::new();
        for _ in 0..3 {
            list.allocate(100, CAPACITY).unwrap();
        }
        list.free(0, 100);
        assert_eq!(list.allocate(100, CAPACITY).unwrap().start, 300);
        // There is no slot to record the last one.
        list.free(300, 400);
        assert_eq!(list.allocate(50, CAPACITY).unwrap().start, 300);
    }

    #[test]
    fn nothing_is_ever_taken_twice_or_said_to_be_zero_that_was_written() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap() % below
        };
        for _ in 0..200 {
            let mut list = FreeList::<3>::new();
            let (mut owner, mut written) = ([false; CAPACITY], [false; CAPACITY]);
            let mut held: Vec<(usize, usize)> = Vec::new();
            for _ in 0..300 {
                let bytes = 1 + next(120);
                match next(3) {
                    0 if !held.is_empty() => {
                        let (start, end) = held.swap_remove(next(held.len()));
                        owner[start..end].fill(false);
                        list.free(start, end);
                    }
                    1 if !held.is_empty() => {
                        let at = next(held.len());
                        let (start, end) = held[at];
                        if list.extend(end, bytes, CAPACITY) {
                            held[at] = (start, end + bytes);
                            assert!(owner[end..end + bytes].iter().all(|taken| !taken));
                            owner[end..end + bytes].fill(true);
                            written[end..end + bytes].fill(true);
                        }
                    }
                    _ => {
                        if let Some(taken) = list.allocate(bytes, CAPACITY) {
                            let (start, end) = (taken.start, taken.start + bytes);
                            assert!(owner[start..end].iter().all(|taken| !taken));
                            assert!(written[start + taken.written..end].iter().all(|it| !it));
                            owner[start..end].fill(true);
                            written[start..end].fill(true);
                            held.push((start, end));
                        }
                    }
                }
            }
        }
    }
}
