//! Counts the gRPC messages of a body by their frame headers. Payloads are skipped unread.

use crate::host::HostFault;

/// Bytes of a body that one host call reads.
const WINDOW_BYTES: usize = 4 << 10;

/// Counts the messages that have begun.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    messages: usize,
    /// The beginning of a frame header: flag and length.
    header: Vec<u8>,
    /// Bytes of the current message that have not arrived.
    message_bytes: usize,
}

impl FrameScanner {
    /// The messages that have begun.
    pub(super) const fn messages(&self) -> usize {
        self.messages
    }

    /// Counts the messages that begin in the next `chunk_bytes`. `read` reads at most so many bytes
    /// of them from an offset. Returns `false` if it fails: no later message is found then.
    pub(super) fn scan(
        &mut self,
        chunk_bytes: usize,
        mut read: impl FnMut(usize, usize) -> Result<Vec<u8>, HostFault>,
    ) -> bool {
        let mut at = self.skip(chunk_bytes);
        while at < chunk_bytes {
            let left = chunk_bytes.saturating_sub(at);
            let bytes = left.min(WINDOW_BYTES);
            let window = read(at, bytes).unwrap_or_default();
            if window.len() != bytes {
                self.message_bytes = usize::MAX;
                return false;
            }
            self.scan_window(&window);
            let skipped = self.skip(left.saturating_sub(bytes));
            at = at.saturating_add(bytes).saturating_add(skipped);
        }
        true
    }

    /// Skips what the current message has of so many bytes; returns how much that is.
    fn skip(&mut self, bytes: usize) -> usize {
        let skipped = self.message_bytes.min(bytes);
        self.message_bytes = self.message_bytes.saturating_sub(skipped);
        skipped
    }

    fn scan_window(&mut self, mut window: &[u8]) {
        loop {
            let skipped = self.skip(window.len());
            let rest = window.get(skipped..).unwrap_or_default();
            let Some((byte, behind)) = rest.split_first() else {
                return;
            };
            window = behind;
            if self.header.is_empty() {
                self.messages = self.messages.saturating_add(1);
            }
            self.header.push(*byte);
            if let [_, length @ ..] = self.header.as_slice()
                && let Ok(length) = length.try_into()
            {
                let length = usize::try_from(u32::from_be_bytes(length));
                self.message_bytes = length.unwrap_or(usize::MAX);
                self.header.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "tests"
    )]
    use super::super::tests::frame;
    use super::*;

    /// The messages and the reads of a body that arrives in chunks of this size.
    fn count(body: &[u8], chunk_bytes: usize) -> (usize, usize) {
        let (mut scanner, mut reads) = (FrameScanner::default(), 0);
        for chunk in body.chunks(chunk_bytes) {
            let is_read = scanner.scan(chunk.len(), |start, bytes| {
                reads += 1;
                assert!(bytes <= WINDOW_BYTES);
                Ok(chunk[start..start + bytes].to_vec())
            });
            assert!(is_read);
        }
        (scanner.messages(), reads)
    }

    #[test]
    fn a_body_has_the_same_messages_for_every_split() {
        let frames = [0, 1, 300, 5_000, 20_000, 0, 3].map(frame);
        let body = frames.concat();
        for chunk_bytes in (1..40).chain([999, WINDOW_BYTES, 9_000, body.len()]) {
            let (messages, _) = count(&body, chunk_bytes);
            assert_eq!(messages, frames.len(), "{chunk_bytes}");
        }
    }

    #[test]
    fn a_window_costs_one_read_and_the_inside_of_a_message_none() {
        let long = frame(1 << 20);
        assert_eq!(count(&long, 16 << 10), (1, 1));
        assert_eq!(count(&long, long.len()), (1, 1));
        let short = frame(3).repeat(1_000);
        assert_eq!(short.len(), 8_000);
        assert_eq!(count(&short, short.len()), (1_000, 2));
    }

    #[test]
    fn a_body_that_cannot_be_read_has_no_more_messages() {
        let fault = HostFault {
            call: "get_buffer_bytes",
            status: 10,
        };
        for failed in [Err(fault), Ok(Vec::new())] {
            let mut scanner = FrameScanner::default();
            let whole = frame(0);
            assert!(!scanner.scan(whole.len(), |_, _| failed.clone()));
            assert!(scanner.scan(whole.len(), |_, _| Ok(whole.clone())));
            assert_eq!(scanner.messages(), 0, "{failed:?}");
        }
    }
}
