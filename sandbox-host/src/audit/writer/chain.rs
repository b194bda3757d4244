//! Where the chain of lines stands, and one line more. It makes bytes; whoever calls it writes them.

use std::time::SystemTime;

use crate::audit::line::{self, Hash, Seal};
use crate::audit::record::Event;

/// Where the chain stands.
#[derive(Debug)]
pub(in crate::audit) struct Chain {
    pub(in crate::audit) log: String,
    pub(in crate::audit) seal: Seal,
    pub(in crate::audit) seq: u64,
    pub(in crate::audit) last: Hash,
    pub(in crate::audit) first_seq: Option<u64>,
}

impl Chain {
    /// Appends one more line to a batch.
    pub(super) fn append(&mut self, batch: &mut Vec<u8>, time: SystemTime, event: Event) {
        let seq = self.seq.saturating_add(1);
        // Plain data with text for keys always has a JSON form.
        let line = line::line(seq, time, event);
        let Ok(hash) = line::append(batch, &line, self.last, &self.seal) else {
            return;
        };
        self.first_seq.get_or_insert(seq);
        (self.seq, self.last) = (seq, hash);
        batch.push(b'\n');
    }
}
