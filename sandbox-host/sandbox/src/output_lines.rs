//! Splits what a handler writes to stdout or stderr into log lines. A line keeps as many bytes as
//! the log may show, and counts the rest, so output without line breaks needs no more memory.

use crate::fixed_limits::MAX_LOG_LINE_BYTES;

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(super) struct OutputLines {
    /// The start of the line, at most [`MAX_LOG_LINE_BYTES`].
    line: Vec<u8>,
    /// The bytes of the line, with those that are not kept.
    bytes: usize,
}

impl OutputLines {
    /// Adds output. Calls `log` with the text of each line that it completes, and with the line's
    /// length in bytes.
    pub(super) fn write(&mut self, output: &[u8], mut log: impl FnMut(&str, usize)) {
        let mut parts = output.split(|byte| *byte == b'\n');
        let unfinished = parts.next_back().unwrap_or_default();
        for part in parts {
            self.push(part);
            self.finish(&mut log);
        }
        self.push(unfinished);
    }

    /// Ends the unfinished line. An empty line is no line of the log.
    pub(super) fn finish(&mut self, mut log: impl FnMut(&str, usize)) {
        // Bytes that are no UTF-8 become replacement characters.
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end_matches('\r');
        if !text.is_empty() {
            log(text, self.bytes);
        }
        self.line.clear();
        self.bytes = 0;
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes = self.bytes.saturating_add(part.len());
        let room = MAX_LOG_LINE_BYTES.saturating_sub(self.line.len());
        self.line
            .extend_from_slice(part.get(..room).unwrap_or(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes of a guest, and the lines that they become with the bytes that each took.
    type Case = (&'static [&'static [u8]], &'static [(&'static str, usize)]);

    /// The lines of these writes and of the end of the call.
    fn lines(writes: &[&[u8]]) -> Vec<(String, usize)> {
        let mut output = OutputLines::default();
        let mut lines = Vec::new();
        let mut log = |line: &str, bytes| lines.push((line.to_owned(), bytes));
        for write in writes {
            output.write(write, &mut log);
        }
        output.finish(&mut log);
        lines
    }

    #[test]
    fn output_becomes_lines_whatever_its_writes() {
        let cases: [Case; 5] = [
            (&[b"a\nb\n"], &[("a", 1), ("b", 1)]),
            (&[b"a", b"b\r\n\n", b"c"], &[("ab", 3), ("c", 1)]),
            (&[b"\xff\xfe\n"], &[("\u{fffd}\u{fffd}", 2)]),
            (&[b""], &[]),
            (&[b"\n\n\n"], &[]),
        ];
        for (writes, expected) in cases {
            let found = lines(writes);
            let found: Vec<_> = found
                .iter()
                .map(|(line, bytes)| (&**line, *bytes))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_line_without_end_keeps_what_the_log_shows_and_counts_the_rest() {
        let mut output = OutputLines::default();
        for _ in 0..2_560 {
            output.write(&[b'x'; 4_096], |_, _| ());
        }
        assert_eq!(output.line.len(), MAX_LOG_LINE_BYTES);
        assert_eq!(output.bytes, 10 << 20);
    }
}
