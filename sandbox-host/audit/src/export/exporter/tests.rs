//! Tests of the loop of an exporter, with a receiver whose answers are chosen.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::collections::VecDeque;
use std::path::PathBuf;

use tensorgate_telemetry::metrics::Metrics;

use super::*;
use crate::files::Paths;

/// The number of records in a log.
const RECORDS: u64 = 8;

type Answer = Box<dyn FnMut(&[Record]) -> Delivery + Send + Sync>;

/// A receiver that keeps the numbers of each batch, and answers by a function.
struct Chosen {
    batches: Arc<Mutex<Vec<Vec<u64>>>>,
    answer: Answer,
}

impl Receiver for Chosen {
    async fn send(&mut self, batch: &[Record]) -> Delivery {
        let numbers = batch.iter().map(|record| record.seq).collect();
        self.batches.lock().unwrap().push(numbers);
        (self.answer)(batch)
    }
}

/// A receiver that never answers, as a reader of the standard output that has stopped.
struct Stopped;

impl Receiver for Stopped {
    async fn send(&mut self, _: &[Record]) -> Delivery {
        std::future::pending().await
    }
}

fn received() -> Delivery {
    Delivery::Received {
        rejected: 0,
        why: String::new(),
    }
}

/// A log and an exporter of it.
struct Run {
    folder: PathBuf,
    paths: Paths,
    counts: ExportMetrics,
    batches: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Run {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tg-export-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).unwrap();
        let paths = Paths::new(&folder.join("log.jsonl"));
        let lines: String = (1..=RECORDS)
            .map(|seq| format!("{{\"seq\":{seq}}}\n"))
            .collect();
        std::fs::write(paths.log(), lines).unwrap();
        Self {
            folder,
            paths,
            counts: Metrics::new().export_metrics("t"),
            batches: Arc::default(),
        }
    }

    fn source(&self, written: watch::Receiver<u64>) -> Source {
        Source {
            paths: self.paths.clone(),
            log: "a".to_owned(),
            written,
        }
    }

    /// Runs until all records are exported, or once if the host is stopping.
    async fn export(&self, is_ending: bool, answer: Answer) {
        let source = self.source(watch::channel(RECORDS).1);
        let receiver = Chosen {
            batches: Arc::clone(&self.batches),
            answer,
        };
        let (_host, ending) = watch::channel(is_ending);
        let exporter = Exporter::new("t", receiver, source, self.counts.clone(), ending);
        exporter.run().await;
    }

    fn sent(&self) -> Vec<Vec<u64>> {
        std::mem::take(&mut *self.batches.lock().unwrap())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_until_it_is_received_and_then_never_again() {
    let run = Run::new("retry");
    let requested = Delivery::Failed {
        cause: "busy".to_owned(),
        pause: Some(Duration::from_secs(100)),
    };
    let forever = Delivery::Failed {
        cause: "busy".to_owned(),
        pause: Some(Duration::MAX),
    };
    let mut answers = VecDeque::from([Delivery::failed("down"), requested, forever]);
    let started = Instant::now();
    let answer = move |_: &[Record]| answers.pop_front().unwrap_or_else(received);
    run.export(false, Box::new(answer)).await;
    let seconds = started.elapsed().as_secs();
    assert!((401..410).contains(&seconds), "1 + 100 + 300: {seconds}");
    let all: Vec<_> = (1..=RECORDS).collect();
    assert_eq!(run.sent(), vec![all; 4]);
    let counts = &run.counts;
    assert_eq!((counts.exported.get(), counts.failures.get()), (RECORDS, 3));
    assert_eq!(counts.lag.get(), 0);
    run.export(false, Box::new(|_| received())).await;
    assert!(run.sent().is_empty(), "the position is kept");
}

#[tokio::test(start_paused = true)]
async fn only_a_record_that_a_receiver_cannot_use_is_given_up() {
    let run = Run::new("unusable");
    let answer = |batch: &[Record]| {
        if batch.iter().any(|record| record.seq == 5) {
            Delivery::Unusable("400".to_owned())
        } else {
            received()
        }
    };
    run.export(false, Box::new(answer)).await;
    let counts = &run.counts;
    assert_eq!(counts.exported.get(), RECORDS - 1);
    assert_eq!(counts.rejected.get(), 1);
    assert_eq!(counts.lag.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_cannot_reject_more_than_it_was_sent() {
    let run = Run::new("lying");
    let answer = |_: &[Record]| Delivery::Received {
        rejected: u64::MAX,
        why: "no".to_owned(),
    };
    run.export(false, Box::new(answer)).await;
    let counts = &run.counts;
    assert_eq!((counts.exported.get(), counts.rejected.get()), (0, RECORDS));
}

#[tokio::test(start_paused = true)]
async fn a_position_that_cannot_be_kept_costs_duplicates_only() {
    let run = Run::new("full");
    // A folder at the file's path, as a disk that cannot be written.
    std::fs::create_dir(run.paths.cursor("t")).unwrap();
    run.export(false, Box::new(|_| received())).await;
    run.export(false, Box::new(|_| received())).await;
    let all: Vec<_> = (1..=RECORDS).collect();
    assert_eq!(run.sent(), vec![all; 2]);
    assert_eq!(run.counts.failures.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_counted_and_reported_to_the_receiver() {
    let run = Run::new("deleted");
    run.export(false, Box::new(|_| received())).await;
    run.sent();
    let text = std::fs::read_to_string(run.paths.log()).unwrap();
    let kept = text.split_inclusive('\n').skip(6).collect::<String>();
    std::fs::write(run.paths.log(), kept).unwrap();
    std::fs::write(run.paths.cursor("t"), r#"{"v":1,"log":"a","next":3}"#).unwrap();
    run.export(false, Box::new(|_| received())).await;
    assert_eq!(run.sent(), [[6, 7, 8]]);
    assert_eq!(run.counts.lost.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_host_sends_what_is_left_and_does_not_wait_for_a_receiver() {
    let run = Run::new("ending");
    run.export(true, Box::new(|_| Delivery::failed("down")))
        .await;
    assert_eq!(run.sent().len(), 1);
    run.export(true, Box::new(|_| received())).await;
    assert_eq!(run.sent().len(), 1);
    assert_eq!(run.counts.exported.get(), RECORDS);
}

#[tokio::test(start_paused = true)]
async fn the_lag_rises_while_a_receiver_does_not_answer() {
    let run = Run::new("stopped");
    let (log, written) = watch::channel(RECORDS);
    let (_host, ending) = watch::channel(false);
    let counts = run.counts.clone();
    let exporter = Exporter::new("t", Stopped, run.source(written), counts, ending);
    let exporting = tokio::time::timeout(Duration::from_secs(60), exporter.run());
    let writing = async {
        sleep(Duration::from_secs(30)).await;
        log.send_replace(RECORDS + 5);
    };
    let (ended, ()) = tokio::join!(exporting, writing);
    assert!(ended.is_err(), "it waits for the receiver");
    assert_eq!(run.counts.lag.get(), i64::try_from(RECORDS + 5).unwrap());
}
