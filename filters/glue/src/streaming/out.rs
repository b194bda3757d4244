//! What goes on of a stream in place of what came, and what is said of each message.

use core::ops::Range;

use tensorgate_policy::{Decision, Denial};
use tensorgate_wire::context::{Levels, Mark};

use crate::gate::{cannot_decide, read_body};
use crate::host::Proxy;
use crate::root::GateRoot;

/// What goes on: marks, and the frames that they are for, by their place in what came.
#[derive(Debug, Default)]
pub(super) struct Out {
    pieces: Vec<(Vec<u8>, Range<usize>)>,
}

impl Out {
    /// A mark, and the frame that it is for; nothing for one that is refused.
    pub(super) fn push(&mut self, mark: Vec<u8>, frame: Range<usize>) {
        self.pieces.push((mark, frame));
    }

    /// Messages so far.
    pub(super) const fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Has the proxy hold what goes on in place of what came: `held` bytes of it, and all of them where they were read.
    pub(super) fn put(
        self,
        proxy: &mut dyn Proxy,
        came: Option<&[u8]>,
        held: usize,
    ) -> Result<(), Denial> {
        let whole = |range: &Range<usize>| *range == (0..held);
        match self.pieces.as_slice() {
            // The usual one: a message by itself, which stays where it is.
            [(mark, range)] if whole(range) && mark.is_empty() => return Ok(()),
            [(mark, range)] if whole(range) => {
                return proxy.prepend_request_body(mark).map_err(cannot_decide);
            }
            _ => {}
        }
        let read;
        let came = match came {
            Some(came) => came,
            None => {
                read = read_body(proxy, held)?;
                &read
            }
        };
        let mut bytes = Vec::new();
        for (mark, range) in &self.pieces {
            bytes.extend_from_slice(mark);
            bytes.extend_from_slice(came.get(range.clone()).unwrap_or_default());
        }
        proxy.replace_request_body(&bytes).map_err(cannot_decide)
    }
}

/// What this filter says of a message that passed, and what the one before it said: each limit is charged by one filter.
pub(super) fn joined(before: Option<Mark>, root: &GateRoot, decision: &Decision) -> Mark {
    let own = Levels {
        request: decision.levels(false).collect(),
        content: decision.levels(true).collect(),
    };
    let checks = root.filter.duties().check;
    match before {
        Some(Mark::Message { checked, levels }) => Mark::Message {
            checked: checks || checked,
            levels: own.or(levels),
        },
        Some(Mark::Refused(_)) | None => Mark::Message {
            checked: checks,
            levels: own,
        },
    }
}
