//! How far a stream is judged: plain data, which a message that waits is kept with.

use core::ops::Range;

use tensorgate_policy::{Decision, Denial};
use tensorgate_wire::context::Mark;

use super::out::Out;
use crate::gate::read_body_at;
use crate::host::Proxy;
use crate::shared_limits::Owed;

/// How far what came is judged.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) out: Out,
    /// Bytes of it that are taken.
    pub(super) at: usize,
    /// Bytes that the proxy holds.
    pub(super) held: usize,
    /// Whether nothing follows.
    pub(super) last: bool,
    /// Whether no message of it may wait: each is refused.
    pub(super) hurries: bool,
}

/// A message that is judged.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) decision: Decision,
    pub(super) mark: Option<Mark>,
    /// Its frame's place in what the proxy holds.
    pub(super) place: Range<usize>,
    pub(super) seen: Seen,
}

/// A part of what the proxy holds.
pub(super) struct View {
    pub(super) start: usize,
    pub(super) bytes: Vec<u8>,
}

impl View {
    /// Nothing was read.
    pub(super) const NONE: Self = Self {
        start: 0,
        bytes: Vec::new(),
    };

    pub(super) fn read(proxy: &mut dyn Proxy, start: usize, bytes: usize) -> Result<Self, Denial> {
        let bytes = read_body_at(proxy, start, bytes)?;
        Ok(Self { start, bytes })
    }

    /// What was read from this place on.
    pub(super) fn from(&self, at: usize) -> &[u8] {
        let from = at.saturating_sub(self.start);
        self.bytes.get(from..).unwrap_or_default()
    }
}

/// What was read of a message that is refused.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether it names a model.
    pub(super) named: bool,
    pub(super) id: Option<String>,
}

/// What came of judging a message.
pub(super) enum Judged {
    /// It is said.
    Over {
        /// The stream is over with it.
        ends: bool,
    },
    /// It waits for what the rate limit service says.
    Asks(Box<Message>, Owed),
}
