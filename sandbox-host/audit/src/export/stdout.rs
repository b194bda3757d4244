//! Writes records to the standard output, one line each.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_net::post::otlp::Delivery;

use super::exporter::Receiver;
use super::form::Form;
use super::spool::Record;

/// A stream that takes lines.
pub(super) struct Stdout<W> {
    lines: Arc<Mutex<Lines<W>>>,
    form: Form,
}

struct Lines<W> {
    stream: W,
    /// Whether the last write failed, so that the stream may end within a line.
    is_torn: bool,
}

impl<W: Write + Send + 'static> Stdout<W> {
    pub(super) fn new(stream: W, form: Form) -> Self {
        let lines = Lines {
            stream,
            is_torn: false,
        };
        Self {
            lines: Arc::new(Mutex::new(lines)),
            form,
        }
    }
}

impl<W: Write> Lines<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let was_torn = std::mem::replace(&mut self.is_torn, true);
        if was_torn {
            self.stream.write_all(b"\n")?;
        }
        self.stream.write_all(lines)?;
        self.stream.flush()?;
        self.is_torn = false;
        Ok(())
    }
}

impl<W: Write + Send + 'static> Receiver for Stdout<W> {
    async fn send(&mut self, batch: &[Record]) -> Delivery {
        let mut text = Vec::new();
        for record in batch {
            text.extend_from_slice(self.form.text(record).as_bytes());
            text.push(b'\n');
        }
        let lines = Arc::clone(&self.lines);
        // A reader that has stopped blocks this thread, and no other.
        let writing = tokio::task::spawn_blocking(move || {
            // No code panics while it holds this lock.
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.write(&text)
        });
        match writing.await {
            Ok(Ok(())) => Delivery::Received {
                rejected: 0,
                why: String::new(),
            },
            Ok(Err(error)) => Delivery::failed(error),
            Err(error) => Delivery::failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A stream that breaks once, after some bytes.
    struct Breaks {
        after: Option<usize>,
        written: Vec<u8>,
    }

    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match self.after.take() {
                Some(0) => return Err(io::ErrorKind::BrokenPipe.into()),
                Some(after) => {
                    self.after = Some(0);
                    after
                }
                None => bytes.len(),
            };
            self.written.extend(bytes.iter().take(count));
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_after_a_broken_one_is_a_line_of_its_own() {
        let stream = Breaks {
            after: Some(9),
            written: Vec::new(),
        };
        let form = Form {
            ocsf: None,
            log: "log".into(),
        };
        let mut stdout = Stdout::new(stream, form);
        let batch = [1, 2].map(|seq| Record {
            seq,
            text: format!("{{\"seq\":{seq}}}"),
            lost: 0,
        });
        let found = stdout.send(&batch).await;
        assert!(matches!(found, Delivery::Failed { .. }), "{found:?}");
        let found = stdout.send(&batch).await;
        assert!(matches!(found, Delivery::Received { .. }), "{found:?}");
        let lines = stdout.lines.lock().unwrap();
        let text = String::from_utf8(lines.stream.written.clone()).unwrap();
        assert_eq!(text, "{\"seq\":1}\n{\"seq\":1}\n{\"seq\":2}\n");
    }
}
