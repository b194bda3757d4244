//! Server-sent events out of whatever pieces they come in. Of an event only its data counts, as it is all that this API uses; comments, names and ids are
//! passed over.

/// An event that is not one, or that no server of the API sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventFault {
    #[error("an event is larger than {0} bytes")]
    Large(usize),
    #[error("an event is not UTF-8")]
    Text,
}

/// One event's data, bytes: a chunk with the likely tokens of some dozen tokens.
pub(super) const MAX_EVENT_BYTES: usize = 256 << 10;

/// What has come and is no whole event yet.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Bytes that have come and are not yet read.
    rest: Vec<u8>,
    /// Bytes of it that are read.
    read: usize,
    /// Bytes of it that hold no line's end beyond what is read.
    looked: usize,
    /// Data of the event that is coming; none where no line of it came.
    data: Option<String>,
}

impl Events {
    /// Takes what came.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.rest.drain(..self.read);
        self.looked = self.looked.saturating_sub(self.read);
        self.read = 0;
        self.rest.extend_from_slice(piece);
    }

    /// The data of the next event, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<String>, EventFault> {
        loop {
            let from = self.looked.max(self.read);
            let new = self.rest.get(from..).unwrap_or_default();
            let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
                self.looked = self.rest.len();
                return if self.rest.len().saturating_sub(self.read) > MAX_EVENT_BYTES {
                    Err(EventFault::Large(MAX_EVENT_BYTES))
                } else {
                    Ok(None)
                };
            };
            let end = from.saturating_add(end);
            let line = self.rest.get(self.read..end).unwrap_or_default();
            self.read = end.saturating_add(1);
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
            let mut events = Events::default();
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
        let mut events = Events::default();
        events.feed(b"data: \xff\n\n");
        assert_eq!(events.next(), Err(EventFault::Text));
        for line in [&b"x"[..], b"data: xxxxxxx\n"] {
            let mut events = Events::default();
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
