//! A request that waits for what only a call to the outside can bring: what comes of it meanwhile, how it goes on, and how many may wait. It
//! knows nothing of what is waited for, and decides nothing about requests.
//!
//! While a request waits, every callback of its stream holds what came (`Pause`), and the proxy buffers it. When the wait is over somebody else's
//! callback judges what came, and the stream is told to go on. Once a piece of a body was held, that must not be done while more of it is to
//! come: Envoy before 1.40 then loses the next piece ([`Arrived::goes_on_by_itself`]). That piece's own callback carries the verdict out.

use std::cell::Cell;
use std::rc::Rc;

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// More may come.
    #[default]
    Open,
    /// The head was all.
    Head,
    /// The body is whole.
    Body,
    /// The trailers are in.
    Trailers,
}

/// What has come of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Bytes of body that the proxy holds.
    pub(crate) bytes: usize,
    /// How far it has come.
    pub(crate) end: End,
}

impl Arrived {
    /// A head, and nothing else so far.
    pub(crate) const fn head(end_of_stream: bool) -> Self {
        let end = if end_of_stream { End::Head } else { End::Open };
        Self { bytes: 0, end }
    }

    /// More of the body: `bytes` are held now, all that came.
    pub(crate) const fn body(bytes: usize, end_of_stream: bool) -> Self {
        let end = if end_of_stream { End::Body } else { End::Open };
        Self { bytes, end }
    }

    /// The trailers.
    pub(crate) const fn trailers(self) -> Self {
        Self {
            end: End::Trailers,
            ..self
        }
    }

    /// Whether a callback of the stream's own is still to come that will carry a verdict out, and must.
    pub(crate) const fn goes_on_by_itself(self) -> bool {
        matches!(self.end, End::Open) && self.bytes > 0
    }
}

/// Room for requests that wait, of one VM and one configuration: so many of them, and so many bytes of their bodies together.
#[derive(Debug)]
pub(crate) struct Room {
    taken: Rc<Taken>,
    most: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Taken {
    places: Cell<usize>,
    bytes: Cell<usize>,
}

/// A place in a room, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Rc<Taken>,
    most_bytes: usize,
    bytes: usize,
}

impl Room {
    /// Room for so many, and for so many bytes of theirs.
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            taken: Rc::default(),
            most,
            most_bytes,
        }
    }

    /// A place, if there is one left.
    pub(crate) fn enter(&self) -> Option<Place> {
        let taken = self.taken.places.get();
        if taken >= self.most {
            return None;
        }
        self.taken.places.set(taken.saturating_add(1));
        Some(Place {
            taken: Rc::clone(&self.taken),
            most_bytes: self.most_bytes,
            bytes: 0,
        })
    }
}

impl Place {
    /// Takes room for so many bytes in all, if there is. What it had it keeps where there is not.
    pub(crate) fn holds(&mut self, bytes: usize) -> bool {
        let others = self.taken.bytes.get().saturating_sub(self.bytes);
        let all = others.saturating_add(bytes);
        if all > self.most_bytes {
            return false;
        }
        self.taken.bytes.set(all);
        self.bytes = bytes;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Taken { places, bytes } = &*self.taken;
        places.set(places.get().saturating_sub(1));
        bytes.set(bytes.get().saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_stream_whose_body_is_half_held_goes_on_by_itself_and_no_other() {
        for (arrived, expected) in [
            (Arrived::head(true), false),
            (Arrived::head(false), false),
            (Arrived::body(0, false), false),
            (Arrived::body(1, false), true),
            (Arrived::body(1, true), false),
            (Arrived::body(0, true), false),
            (Arrived::body(1, false).trailers(), false),
            (Arrived::head(false).trailers(), false),
        ] {
            assert_eq!(arrived.goes_on_by_itself(), expected, "{arrived:?}");
        }
    }

    #[test]
    fn a_room_holds_so_many_and_a_place_is_free_once_it_is_left() {
        let room = Room::new(2, 0);
        let first = room.enter();
        let second = room.enter();
        assert!(first.is_some() && second.is_some() && room.enter().is_none());
        drop(first);
        let third = room.enter();
        assert!(third.is_some() && room.enter().is_none());
        drop((second, third));
        assert_eq!(room.taken.places.get(), 0);
    }

    #[test]
    fn bodies_of_all_that_wait_take_so_many_bytes_together() {
        let room = Room::new(3, 10);
        let mut first = room.enter().unwrap();
        let mut second = room.enter().unwrap();
        assert!(first.holds(4) && first.holds(6) && second.holds(4));
        assert!(!second.holds(5) && !first.holds(7));
        // Each still has what it had.
        assert!(second.holds(4) && first.holds(6));
        drop(first);
        assert!(second.holds(10) && !second.holds(11));
        drop(second);
        assert_eq!(room.taken.bytes.get(), 0);
    }
}
