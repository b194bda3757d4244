//! The host's log: one line for each event on standard error, as text or JSON. Lines pass a bounded
//! queue to a separate thread. A slow reader loses lines, which are counted, and never delays a
//! request.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tensorgate_base::rfc3339::rfc3339;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self, MakeWriter};

/// The most queued lines.
const QUEUED_LINES: usize = 4_096;
/// How long the first line waits for others to be written with it. A reader does not notice the
/// delay, but the requests of a busy host share writes and wake-ups.
const GATHER_TIME: Duration = Duration::from_millis(20);
/// The approximate size of one write in bytes.
const BATCH_BYTES: usize = 64 << 10;
/// How long the end of the process waits for the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// The interval of attempts to queue a flush in a full queue.
const FLUSH_RETRY: Duration = Duration::from_millis(5);

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each line.
    Json,
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sender of the queue.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Creates a log that writes to `sink` on a separate thread.
    pub fn new(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUED_LINES);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&lines, sink))?;
        Ok(Self {
            queue,
            dropped: Arc::default(),
        })
    }

    /// The number of lost lines.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits, with a timeout, until queued lines are written.
    pub fn flush(&self) {
        let started = Instant::now();
        let left = || FLUSH_TIME.saturating_sub(started.elapsed());
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        // A full queue with a blocked reader never gets free, so the wait needs a timeout.
        while let Err(TrySendError::Full(unsent)) = self.queue.try_send(message) {
            if left().is_zero() {
                return;
            }
            message = unsent;
            std::thread::sleep(FLUSH_RETRY);
        }
        // After the timeout the reader is stuck, and the lines are lost.
        let _ = wait.recv_timeout(left());
    }

    /// Makes this the log of the process. `RUST_LOG` filters it; the default is `info`.
    pub fn install(&self, format: LogFormat) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(self.clone())
            .with_timer(Clock)
            .with_ansi(false);
        match format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().flatten_event(true).init(),
        }
    }
}

fn write_lines(lines: &Receiver<Message>, mut sink: impl Write) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    while let Ok(first) = lines.recv() {
        if let Message::Line(_) = first {
            // Lines that are sent meanwhile need not wake this thread.
            std::thread::sleep(GATHER_TIME);
        }
        for message in std::iter::once(first).chain(lines.try_iter()) {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    if batch.len() >= BATCH_BYTES {
                        put(&mut sink, &mut batch);
                    }
                }
                Message::Flush(done) => {
                    put(&mut sink, &mut batch);
                    let _ = sink.flush();
                    let _ = done.try_send(());
                }
            }
        }
        put(&mut sink, &mut batch);
    }
}

fn put(sink: &mut impl Write, batch: &mut Vec<u8>) {
    // If the log cannot be written, there is no one to inform.
    let _ = sink.write_all(batch);
    batch.clear();
}

/// The timestamp of a line, in the format of the audit log.
#[derive(Clone, Copy, Debug)]
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, line: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        line.write_str(&rfc3339(SystemTime::now()))
    }
}

/// The writer of one event.
#[derive(Debug)]
pub struct Line<'a>(&'a Log);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    /// A sink that writes when permitted.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // After the test drops its end, nothing blocks the sink.
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_never_the_writer() {
        let (go, wait) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = Log::new(Slow(wait, Arc::clone(&written))).unwrap();
        // The lines that the thread may hold, in addition to those in the queue.
        let held = BATCH_BYTES / 5 + 1;
        let lines = QUEUED_LINES + held + 100;
        for _ in 0..lines {
            log.make_writer().write_all(b"line\n").unwrap();
        }
        let dropped = usize::try_from(log.dropped()).unwrap();
        assert!((100..=held + 100).contains(&dropped), "{dropped} dropped");
        drop(go);
        log.flush();
        let kept = written.lock().unwrap().len() / 5;
        assert_eq!(kept + usize::try_from(log.dropped()).unwrap(), lines);
    }

    #[test]
    fn a_reader_that_never_reads_does_not_keep_the_process() {
        let (go, wait) = channel();
        let log = Log::new(Slow(wait, Arc::default())).unwrap();
        while log.dropped() == 0 {
            log.make_writer().write_all(b"line\n").unwrap();
        }
        let (ended, end) = channel();
        std::thread::spawn(move || {
            log.flush();
            ended.send(()).unwrap();
        });
        let patience = FLUSH_TIME * 30;
        assert!(end.recv_timeout(patience).is_ok(), "the flush never ended");
        drop(go);
    }
}
