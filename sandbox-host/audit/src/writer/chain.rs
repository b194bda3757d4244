//! The hash chain of a log: its end, and the formatting of events as further records.

use std::time::SystemTime;

use crate::line::{self, Hash, Seal};
use crate::record::Event;

/// The chain of a log.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) log: String,
    pub(crate) seal: Seal,
    /// The last record in the log.
    pub(crate) end: End,
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// The number of the last record, 0 if there is none.
    pub(crate) seq: u64,
    /// The hash of the last record.
    pub(crate) last: Hash,
    /// The number of the first record of the current file. `None` if the file is empty.
    pub(crate) first_seq: Option<u64>,
}

/// Records after the end of a chain.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    /// The end of the chain once these records are written.
    pub(super) end: End,
    /// The numbers and hashes of the checkpoints among them.
    pub(super) checkpoints: Vec<(u64, Hash)>,
}

impl Chain {
    /// Formats events as records after the end of the chain. The end itself does not change.
    /// Records that could not be written are formatted again, possibly after others.
    pub(super) fn lines<'e>(&self, events: impl Iterator<Item = &'e (SystemTime, Event)>) -> Lines {
        let mut lines = Lines {
            end: self.end,
            ..Lines::default()
        };
        for (time, event) in events {
            let seq = lines.end.seq.saturating_add(1);
            let line = line::line(seq, *time, event);
            // Plain data with string keys always has a JSON form.
            let Ok(hash) = line::append(&mut lines.bytes, &line, lines.end.last, &self.seal) else {
                continue;
            };
            lines.bytes.push(b'\n');
            if let (Event::Checkpoint { .. }, Seal::Chain(_)) = (event, &self.seal) {
                lines.checkpoints.push((seq, hash));
            }
            lines.end = End {
                seq,
                last: hash,
                first_seq: lines.end.first_seq.or(Some(seq)),
            };
        }
        lines
    }
}
