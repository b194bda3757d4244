//! Parses server-sent events from chunks of any size. Only the data of an event is used, as in this
//! API. Comments, names and IDs are ignored.

/// A malformed or oversized event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventFault {
    #[error("an event is larger than {0} bytes")]
    Large(usize),
    #[error("an event is not UTF-8")]
    Text,
}

/// The most bytes of an event's data: a chunk with the likely tokens of some dozen positions.
pub(super) const MAX_EVENT_BYTES: usize = 256 << 10;

/// An incremental parser.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    /// Bytes that were received.
    buffer: Vec<u8>,
    /// The number of bytes that were parsed.
    parsed: usize,
    /// The number of bytes that were searched for a line end.
    searched: usize,
    /// The data of the current event. `None` before its first data line.
    data: Option<String>,
}

impl EventParser {
    /// Adds received bytes.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.parsed);
        self.searched = self.searched.saturating_sub(self.parsed);
        self.parsed = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The data of the next complete event.
    pub(super) fn next(&mut self) -> Result<Option<String>, EventFault> {
        loop {
            let from = self.searched.max(self.parsed);
            let new = self.buffer.get(from..).unwrap_or_default();
            let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return if self.buffer.len().saturating_sub(self.parsed) > MAX_EVENT_BYTES {
                    Err(EventFault::Large(MAX_EVENT_BYTES))
                } else {
                    Ok(None)
                };
            };
            let end = from.saturating_add(end);
            let line = self.buffer.get(self.parsed..end).unwrap_or_default();
            self.parsed = end.saturating_add(1);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Ok(Some(data));
                }
                continue;
            }
            let Some(value) = line.strip_prefix(b"data:") else {
                continue;
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let value = std::str::from_utf8(value).map_err(|_| EventFault::Text)?;
            let data = match self.data.take() {
                Some(mut before) => {
                    before.push('\n');
                    before.push_str(value);
                    before
                }
                None => value.to_owned(),
            };
            if data.len() > MAX_EVENT_BYTES {
                return Err(EventFault::Large(MAX_EVENT_BYTES));
            }
            self.data = Some(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = b": ping\r\n\r\ndata: a\n\nevent: x\ndata:b\ndata: c\r\n\r\n\n\nid: 1\ndata: \xc3\xa9\n\ndata: half";
        for size in 1..text.len() {
            let mut events = EventParser::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                events.feed(piece);
                while let Ok(Some(event)) = events.next() {
                    found.push(event);
                }
            }
            assert_eq!(found, ["a", "b\nc", "\u{e9}"], "pieces of {size}");
        }
    }

    #[test]
    fn an_event_is_bounded_and_text() {
        let mut events = EventParser::default();
        events.feed(b"data: \xff\n\n");
        assert_eq!(events.next(), Err(EventFault::Text));
        for line in [&b"x"[..], b"data: xxxxxxx\n"] {
            let mut events = EventParser::default();
            let mut outcome = Ok(None);
            for _ in 0..MAX_EVENT_BYTES {
                events.feed(line);
                outcome = events.next();
                if outcome.is_err() {
                    break;
                }
            }
            events.feed(b"x");
            let last = outcome.and_then(|_| events.next());
            assert_eq!(last, Err(EventFault::Large(MAX_EVENT_BYTES)));
        }
    }
}
