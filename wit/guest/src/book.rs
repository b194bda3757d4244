//! Bookkeeping of an arena: which offsets are allocated. A freed range that cannot be recorded
//! stays allocated.

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
pub struct Taken {
    pub start: usize,
    pub written: usize,
}

/// The state of one arena, with up to `HOLES` free ranges between allocated ones. Its initial value
/// is all zeros, so a module that holds one needs no data segment for it.
#[derive(Debug)]
pub struct Book<const HOLES: usize> {
    /// Everything from this offset is free.
    top: usize,
    /// Nothing from this offset was ever allocated.
    untouched: usize,
    holes: [Span; HOLES],
}

impl<const HOLES: usize> Book<HOLES> {
    pub const fn new() -> Self {
        Self {
            top: 0,
            untouched: 0,
            holes: [Span::NONE; HOLES],
        }
    }

    /// Allocates `bytes` bytes, at least one, in an arena of `room` bytes. Uses the smallest hole
    /// that fits, or else the free bytes at the top.
    pub fn take(&mut self, bytes: usize, room: usize) -> Option<Taken> {
        let fitting = self.holes.iter_mut().filter(|hole| hole.bytes() >= bytes);
        if let Some(hole) = fitting.min_by_key(|hole| hole.bytes()) {
            let start = hole.start;
            hole.start = start.saturating_add(bytes);
            return Some(Taken {
                start,
                written: bytes,
            });
        }
        let start = self.top;
        let end = self.raise(bytes, room)?;
        let written = self.untouched.clamp(start, end).saturating_sub(start);
        self.untouched = self.untouched.max(end);
        Some(Taken { start, written })
    }

    /// Extends the allocation that ends at `end` by `bytes` in place; whether that was possible.
    pub fn extend(&mut self, end: usize, bytes: usize, room: usize) -> bool {
        if end == self.top {
            let raised = self.raise(bytes, room);
            self.untouched = self.untouched.max(self.top);
            return raised.is_some();
        }
        let mut holes = self.holes.iter_mut();
        match holes.find(|hole| hole.start == end && hole.bytes() >= bytes) {
            Some(hole) => {
                hole.start = end.saturating_add(bytes);
                true
            }
            None => false,
        }
    }

    /// Frees the range from `start` to `end`: an allocation, or the end of one.
    pub fn give_back(&mut self, start: usize, end: usize) {
        let mut free = Span { start, end };
        for hole in &mut self.holes {
            if hole.bytes() == 0 {
                continue;
            }
            if hole.end == free.start {
                free.start = hole.start;
                *hole = Span::NONE;
            } else if hole.start == free.end {
                free.end = hole.end;
                *hole = Span::NONE;
            }
        }
        if free.end == self.top {
            self.top = free.start;
        } else if let Some(hole) = self.holes.iter_mut().find(|hole| hole.bytes() == 0) {
            *hole = free;
        }
    }

    /// Allocates bytes at the top; the new top.
    fn raise(&mut self, bytes: usize, room: usize) -> Option<usize> {
        let end = self.top.checked_add(bytes).filter(|end| *end <= room)?;
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

    const ROOM: usize = 1_000;

    #[test]
    fn what_was_given_back_is_taken_again_and_known_to_be_written() {
        let mut book = Book::<4>::new();
        let take = |book: &mut Book<4>, bytes| {
            let taken = book.take(bytes, ROOM);
            taken.map(|Taken { start, written }| (start, written))
        };
        assert_eq!(take(&mut book, 400), Some((0, 0)));
        assert_eq!(take(&mut book, 100), Some((400, 0)));
        assert_eq!(take(&mut book, 300), Some((500, 0)));
        assert_eq!(take(&mut book, 201), None);
        // A hole, the rest of it, and then both again as one.
        book.give_back(0, 400);
        assert_eq!(take(&mut book, 150), Some((0, 150)));
        assert_eq!(take(&mut book, 250), Some((150, 250)));
        book.give_back(0, 150);
        book.give_back(400, 500);
        book.give_back(150, 400);
        assert_eq!(take(&mut book, 500), Some((0, 500)));
        // From the top: written up to the highest offset that was ever allocated.
        book.give_back(500, 800);
        assert_eq!(take(&mut book, 400), Some((500, 300)));
        assert_eq!(take(&mut book, usize::MAX), None);
    }

    #[test]
    fn what_lies_before_free_bytes_grows_in_place() {
        let mut book = Book::<4>::new();
        for start in [0, 100, 200] {
            assert_eq!(book.take(100, ROOM).unwrap().start, start);
        }
        assert!(!book.extend(100, 1, ROOM), "another is in the way");
        book.give_back(100, 200);
        assert!(!book.extend(100, 101, ROOM));
        assert!(book.extend(100, 60, ROOM));
        assert!(book.extend(160, 40, ROOM));
        assert!(book.extend(300, 700, ROOM));
        assert!(!book.extend(1_000, 1, ROOM));
        book.give_back(300, 1_000);
        let taken = book.take(700, ROOM).unwrap();
        assert_eq!((taken.start, taken.written), (300, 700));
    }

    #[test]
    fn what_there_is_no_place_to_note_stays_taken() {
        let mut book = Book::<0>::new();
        for _ in 0..3 {
            book.take(100, ROOM).unwrap();
        }
        book.give_back(0, 100);
        assert_eq!(book.take(100, ROOM).unwrap().start, 300);
        // There is no slot to record the last one.
        book.give_back(300, 400);
        assert_eq!(book.take(50, ROOM).unwrap().start, 300);
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
            let mut book = Book::<3>::new();
            let (mut owner, mut written) = ([false; ROOM], [false; ROOM]);
            let mut held: Vec<(usize, usize)> = Vec::new();
            for _ in 0..300 {
                let bytes = 1 + next(120);
                match next(3) {
                    0 if !held.is_empty() => {
                        let (start, end) = held.swap_remove(next(held.len()));
                        owner[start..end].fill(false);
                        book.give_back(start, end);
                    }
                    1 if !held.is_empty() => {
                        let at = next(held.len());
                        let (start, end) = held[at];
                        if book.extend(end, bytes, ROOM) {
                            held[at] = (start, end + bytes);
                            assert!(owner[end..end + bytes].iter().all(|taken| !taken));
                            owner[end..end + bytes].fill(true);
                            written[end..end + bytes].fill(true);
                        }
                    }
                    _ => {
                        if let Some(taken) = book.take(bytes, ROOM) {
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
