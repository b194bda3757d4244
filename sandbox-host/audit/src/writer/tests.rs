//! Tests of written, late, retried and dropped records, with a store that fails on demand.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io;

use super::*;
use crate::files::AppendError;
use crate::key::SigningKey;
use crate::line::open;
use crate::line::{self, Hash, Seal};
use crate::record::{By, Decision, Found};
use crate::recover::note_sequence;
use crate::sequence::{Marks, SequenceCheck};

/// A disk that can be full, and whose file can be removed.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) full: Arc<AtomicBool>,
    displaced: Arc<AtomicBool>,
    lines: Arc<Mutex<Vec<u8>>>,
    heads: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
}

impl Store for Disk {
    fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        if self.displaced.load(Ordering::Relaxed) {
            return Err(AppendError::Displaced(Found {
                what: "gone".into(),
                detail: "no file is left".into(),
            }));
        }
        if lines.is_empty() {
            return Ok(());
        }
        if self.full.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.lines.lock().unwrap().extend_from_slice(lines);
        Ok(())
    }

    fn reopen(&mut self, next_seq: u64) -> io::Result<u64> {
        self.displaced.store(false, Ordering::Relaxed);
        Ok(next_seq)
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn head(&mut self, _: &str) -> io::Result<()> {
        self.heads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn rotate(&mut self, first_seq: u64, _: u64) -> io::Result<u64> {
        Ok(first_seq)
    }
}

impl Disk {
    pub(crate) fn events(&self) -> Vec<Event> {
        let lines = self.lines.lock().unwrap();
        let mut last = Hash::default();
        lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .enumerate()
            .map(|(index, line)| {
                let sealed = open(line).unwrap();
                assert_eq!((sealed.seq, sealed.prev), (index as u64 + 1, last));
                last = sealed.hash;
                serde_json::from_slice::<line::Line>(line).unwrap().event
            })
            .collect()
    }

    fn ids(&self) -> Vec<String> {
        let events = self.events().into_iter();
        events
            .filter_map(|event| match event {
                Event::Decision(decision) => decision.request_id,
                _ => None,
            })
            .collect()
    }
}

pub(crate) fn start(disk: &Disk) -> (Audit, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let chain = Chain {
        log: "log".into(),
        seal: Seal::Chain(SigningKey::from_seed([1; 32])),
        end: End::default(),
    };
    let audit = Audit::with_store(
        disk.clone(),
        chain,
        Open::default(),
        u64::MAX,
        Arc::clone(&metrics),
    );
    (audit.unwrap(), metrics)
}

fn decision(id: &str) -> Event {
    Event::Decision(Box::new(Decision {
        request_id: Some(id.to_owned()),
        ..Decision::default()
    }))
}

pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn who_waits_is_told_once_the_line_is_on_disk() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    audit
        .written(SystemTime::now(), decision("a"))
        .await
        .unwrap();
    assert_eq!(disk.ids(), ["a"]);
    audit.stop();
    assert_eq!(disk.events().last(), Some(&Event::Stop));
    assert!(disk.heads.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn answers_that_are_ready_together_are_written_together() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    until("the log is opened", || {
        disk.heads.load(Ordering::Relaxed) > 0
    });
    let writes = || disk.writes.load(Ordering::Relaxed);
    let before = writes();
    let mut answers = tokio::task::JoinSet::new();
    for number in 0..50 {
        let audit = audit.clone();
        let event = decision(&number.to_string());
        answers.spawn(async move { audit.written(SystemTime::now(), event).await });
    }
    while let Some(written) = answers.join_next().await {
        written.unwrap().unwrap();
    }
    // The head file's interval may wake the thread once in between.
    let took = writes() - before;
    assert!(took <= 2, "{took} writes");
    assert_eq!(disk.ids().len(), 50);
    audit.stop();
}

#[tokio::test]
async fn who_leaves_before_the_thread_is_woken_leaves_a_line() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    until("the log is opened", || {
        disk.heads.load(Ordering::Relaxed) > 0
    });
    let mut writing = Box::pin(audit.written(SystemTime::now(), decision("left")));
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(writing.as_mut().poll(context).is_pending())
    });
    assert!(polled.await, "it waits for others that are ready");
    drop(writing);
    until("it is written", || disk.ids() == ["left"]);
    audit.stop();
}

/// A proxy with a shorter timeout would otherwise answer that the model was too slow.
#[tokio::test]
async fn the_first_response_on_a_full_disk_does_not_wait_longer_than_the_next_ones() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    disk.full.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let refused = audit.written(SystemTime::now(), decision("taken")).await;
    let took = began.elapsed();
    assert!(took < WRITE_WAIT / 2, "{took:?}");
    disk.full.store(false, Ordering::Relaxed);
    until("it is written again", || !audit.failing());
    // The thread may have taken the line by then, and writes it once there is room.
    let expected: &[&str] = match refused {
        Err(Unwritten::Late) => &["taken"],
        Err(Unwritten::Never) => &[],
        Ok(()) => unreachable!("the disk was full"),
    };
    assert_eq!(disk.ids(), expected);
    audit.stop();
}

#[tokio::test]
async fn a_full_disk_rejects_waiting_lines_and_cancelled_ones_are_never_written() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    audit
        .written(SystemTime::now(), decision("before"))
        .await
        .unwrap();
    disk.full.store(true, Ordering::Relaxed);
    // The writer has taken it. Later records wait behind it and are withdrawn.
    audit.write(SystemTime::now(), decision("taken"));
    until("the writer fails", || audit.failing());
    let refused = audit
        .written(SystemTime::now(), decision("called-off"))
        .await;
    assert_eq!(refused, Err(Unwritten::Never));
    assert!(audit.failing());
    disk.full.store(false, Ordering::Relaxed);
    until("it is written again", || !audit.failing());
    audit
        .written(SystemTime::now(), decision("after"))
        .await
        .unwrap();
    assert!(!audit.failing());
    assert_eq!(disk.ids(), ["before", "taken", "after"]);
    audit.stop();
}

#[tokio::test]
async fn a_new_file_says_what_became_of_the_old_one_even_after_a_failed_write() {
    let disk = Disk::default();
    let (audit, metrics) = start(&disk);
    audit
        .written(SystemTime::now(), decision("before"))
        .await
        .unwrap();
    disk.full.store(true, Ordering::Relaxed);
    disk.displaced.store(true, Ordering::Relaxed);
    audit.write(SystemTime::now(), decision("after"));
    until("the writer fails", || {
        audit
            .failure()
            .is_some_and(|failure| failure.cause.contains("no storage space"))
    });
    assert_eq!(metrics.audit_failing.get(), 1);
    // Once more, before anything is written.
    disk.displaced.store(true, Ordering::Relaxed);
    until("it is created again", || {
        metrics.audit_file_losses.get() == 2
    });
    disk.full.store(false, Ordering::Relaxed);
    until("it is written again", || !audit.failing());
    assert_eq!(metrics.audit_failing.get(), 0);
    audit.stop();
    assert_eq!(disk.ids(), ["before", "after"]);
    let found: Vec<Vec<String>> = disk
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Open(open) => Some(open.found.into_iter().map(|it| it.detail).collect()),
            _ => None,
        })
        .collect();
    let lost = "no file is left; it had lines 1 to 2";
    let none = "no file is left; it had no lines";
    assert_eq!(found, [vec![], vec![lost.to_owned(), none.to_owned()]]);
}

#[tokio::test]
async fn a_flood_of_entries_leaves_answers_their_places() {
    let disk = Disk::default();
    let (audit, metrics) = start(&disk);
    disk.full.store(true, Ordering::Relaxed);
    while metrics.audit_dropped.get() == 0 {
        audit.write(SystemTime::now(), decision("entry"));
    }
    let waiting = tokio::spawn({
        let audit = audit.clone();
        async move { audit.written(SystemTime::now(), decision("answer")).await }
    });
    // Its slot is in use, and only the disk delays its record.
    let queued = || audit.shared.answers().used() > 0;
    while !queued() && !waiting.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(queued(), "the answer found no place");
    waiting.abort();
    disk.full.store(false, Ordering::Relaxed);
    audit.stop();
    assert!(disk.ids().contains(&"answer".to_owned()));
}

#[tokio::test]
async fn a_client_with_many_answers_leaves_others_their_places() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    disk.full.store(true, Ordering::Relaxed);
    // Whether a client's record gets a slot. Its caller leaves at once.
    let offer = |client: &str| {
        let Event::Decision(mut line) = decision(client) else {
            panic!("a decision")
        };
        line.client = Some(client.to_owned());
        let mut written = Box::pin(audit.written(SystemTime::now(), Event::Decision(line)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        written.as_mut().poll(&mut context).is_pending()
    };
    let fill = |client| std::iter::from_fn(|| offer(client).then_some(())).count();
    assert!(offer("few"));
    let many = fill("many");
    // The writer may hold one batch in addition to the queue.
    assert!((3_580..3_590 + BATCH_LINES).contains(&many), "{many}");
    assert!((0..100).all(|_| offer("few")), "they are left to it");
    disk.full.store(false, Ordering::Relaxed);
    audit.stop();
}

#[tokio::test]
async fn a_queue_that_is_full_drops_and_counts_and_says_so_later() {
    let disk = Disk::default();
    let (audit, metrics) = start(&disk);
    audit
        .written(SystemTime::now(), decision("first"))
        .await
        .unwrap();
    disk.full.store(true, Ordering::Relaxed);
    let mut offered = 0_u64;
    // The writer may hold one batch in addition to the queue.
    while metrics.audit_dropped.get() < 10 {
        audit.write(SystemTime::now(), decision("x"));
        offered += 1;
    }
    let dropped = metrics.audit_dropped.get();
    let handed_over = usize::try_from(offered - dropped).unwrap();
    assert!(
        (QUEUED_LINES..=QUEUED_LINES + BATCH_LINES).contains(&handed_over),
        "{handed_over}"
    );
    disk.full.store(false, Ordering::Relaxed);
    audit.stop();
    let told: u64 = disk
        .events()
        .iter()
        .map(|event| match event {
            Event::Dropped { count, .. } => *count,
            _ => 0,
        })
        .sum();
    assert_eq!(told, dropped);
    assert_eq!(
        disk.ids().len(),
        handed_over + 1,
        "nothing is lost without being counted"
    );
}

/// Counts the decisions that it sees.
#[derive(Default)]
struct Counting(AtomicU64);

impl RecordListener for Counting {
    fn written(&self, events: &[(SystemTime, Event)]) {
        let decisions = events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Decision(_)));
        let count = u64::try_from(decisions.count()).unwrap();
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

#[test]
fn a_listener_sees_records_once_they_are_written() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    let listener = Arc::new(Counting::default());
    audit.listen(Arc::<Counting>::clone(&listener));
    disk.full.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        audit.write(SystemTime::now(), decision("x"));
    }
    until("a write has failed", || audit.failing());
    assert_eq!(listener.0.load(Ordering::Relaxed), 0);
    disk.full.store(false, Ordering::Relaxed);
    audit.stop();
    assert_eq!(listener.0.load(Ordering::Relaxed), 10);
}

#[test]
fn a_checkpoint_stands_after_every_so_many_lines() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    let lines = CHECKPOINT_LINES * 3;
    for _ in 0..lines {
        audit.write(SystemTime::now(), decision("x"));
    }
    audit.stop();
    let checkpoints: Vec<u64> = disk
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Checkpoint { decisions, .. } => Some(decisions),
            _ => None,
        })
        .collect();
    assert_eq!(checkpoints, [CHECKPOINT_LINES, CHECKPOINT_LINES * 2, lines]);
}

/// A rejection of an unknown caller, as an entry of Envoy with this number.
fn rejection(number: u64) -> Event {
    Event::Decision(Box::new(Decision {
        request_id: Some(format!("unknown-{number}")),
        by: By::Gate,
        reason: "unauthenticated".to_owned(),
        source: Some("192.0.2.1".to_owned()),
        entry: Some(format!("00000000000000aa.{number}")),
        ..Decision::default()
    }))
}

#[test]
fn a_flood_of_unknown_callers_has_few_records_and_none_of_its_entries_counts_as_lost() {
    const FLOOD: u64 = 3_000;
    let disk = Disk::default();
    let (audit, metrics) = start(&disk);
    let listener = Arc::new(Counting::default());
    audit.listen(Arc::<Counting>::clone(&listener));
    for number in 1..=FLOOD {
        audit.write(SystemTime::now(), rejection(number));
        if number % 100 == 0 {
            audit.write(SystemTime::now(), decision("known"));
        }
    }
    audit.stop();
    let known = FLOOD / 100;
    let full = u64::from(rejections::FULL_RECORDS);
    let ids = disk.ids();
    assert_eq!(ids.len() as u64, full + known, "of {FLOOD} and {known}");
    assert_eq!(ids.iter().filter(|id| *id == "known").count() as u64, known);
    let events = disk.events();
    let summaries: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Rejections(summary) => Some(summary),
            _ => None,
        })
        .collect();
    let [summary] = summaries.as_slice() else {
        panic!("{summaries:?}")
    };
    assert_eq!(summary.count, FLOOD - full);
    assert_eq!(summary.source.as_deref(), Some("192.0.2.1"));
    assert_eq!(summary.reasons.get("unauthenticated"), Some(&summary.count));
    assert_eq!(summary.sample, Some(format!("unknown-{}", full + 1)));
    assert_eq!(events.last(), Some(&Event::Stop));
    // The next host knows which entries it has, so a later one is the next.
    let mut sequence = SequenceTracker::new(&Marks::new());
    for event in &events {
        note_sequence(&mut sequence, event);
    }
    let later = format!("00000000000000aa.{}", FLOOD + 1);
    assert_eq!(sequence.observe(&later), SequenceCheck::Next);
    // Rules and metrics have all of them.
    assert_eq!(listener.0.load(Ordering::Relaxed), FLOOD + known);
    let page = metrics.text().unwrap();
    let series = r#"tensorgate_decisions_total{model="",by="gate",verdict="deny",reason="unauthenticated"} 3000"#;
    assert!(page.lines().any(|line| line == series), "{page}");
}
