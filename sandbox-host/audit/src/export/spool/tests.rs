//! Tests of a reader over files that rotate, shrink and vanish.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::*;

/// A log of a test's own, which is removed at its end.
struct Log {
    folder: PathBuf,
    paths: Paths,
}

impl Log {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tg-spool-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).unwrap();
        let paths = Paths::new(&folder.join("log.jsonl"));
        Self { folder, paths }
    }

    fn spool(&self, log: &str) -> Spool {
        let source = Source {
            paths: self.paths.clone(),
            log: log.to_owned(),
            written: watch::channel(0).1,
        };
        Spool::new(&source, "t")
    }

    /// Appends records to a file.
    fn append(&self, file: &Path, seqs: RangeInclusive<u64>) {
        let lines: String = seqs.map(|seq| line(seq) + "\n").collect();
        append(file, lines.as_bytes());
    }

    fn current(&self, seqs: RangeInclusive<u64>) {
        self.append(self.paths.log(), seqs);
    }

    fn closed(&self, seqs: RangeInclusive<u64>) {
        self.append(&self.paths.closed(*seqs.start()), seqs);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn line(seq: u64) -> String {
    format!("{{\"v\":1,\"seq\":{seq}}}")
}

fn append(file: &Path, bytes: &[u8]) {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).open(file).unwrap();
    file.write_all(bytes).unwrap();
}

/// Numbers and counts of lost records.
fn read(spool: &mut Spool, last_written: u64) -> Vec<(u64, u64)> {
    let records = spool.read(last_written).unwrap();
    for record in records.iter().filter(|record| record.lost == 0) {
        assert_eq!(record.text, line(record.seq));
    }
    (records.iter())
        .map(|record| (record.seq, record.lost))
        .collect()
}

fn all(seqs: RangeInclusive<u64>) -> Vec<(u64, u64)> {
    seqs.map(|seq| (seq, 0)).collect()
}

#[test]
fn records_are_read_in_order_across_files() {
    let log = Log::new("order");
    log.closed(1..=3);
    log.closed(4..=5);
    log.current(6..=8);
    let mut spool = log.spool("a");
    assert_eq!(read(&mut spool, 8), all(1..=8));
    assert!(read(&mut spool, 8).is_empty());
    log.current(9..=10);
    assert_eq!(read(&mut spool, 10), all(9..=10));
    // The log rotates.
    std::fs::rename(log.paths.log(), log.paths.closed(6)).unwrap();
    log.current(11..=12);
    assert_eq!(read(&mut spool, 12), all(11..=12));
}

#[test]
fn what_follows_the_last_written_record_is_not_read() {
    let log = Log::new("written");
    log.current(1..=3);
    let whole = std::fs::metadata(log.paths.log()).unwrap().len();
    // A write that failed half-way. The log removes it, and writes other records.
    append(
        log.paths.log(),
        b"{\"v\":1,\"seq\":4,\"other\":1}\n{\"v\":1,\"se",
    );
    let mut spool = log.spool("a");
    assert_eq!(read(&mut spool, 3), all(1..=3));
    assert!(read(&mut spool, 3).is_empty());
    let file = OpenOptions::new().write(true).open(log.paths.log());
    file.unwrap().set_len(whole).unwrap();
    log.current(4..=6);
    assert_eq!(read(&mut spool, 6), all(4..=6));
}

#[test]
fn records_after_a_damaged_last_line_are_read() {
    let log = Log::new("last");
    log.current(1..=2);
    append(log.paths.log(), b"damaged\n");
    let mut spool = log.spool("a");
    assert_eq!(read(&mut spool, 3), [(1, 0), (2, 0), (3, 1)]);
    log.current(4..=6);
    assert_eq!(read(&mut spool, 6), all(4..=6));
}

#[test]
fn a_restart_resumes_after_the_kept_position_of_the_same_log() {
    let log = Log::new("resume");
    log.current(1..=9);
    log.spool("a").keep(6).unwrap();
    assert_eq!(read(&mut log.spool("a"), 9), all(7..=9));
    assert_eq!(read(&mut log.spool("b"), 9), all(1..=9), "another log");
    // A log that lost its end gives numbers again.
    log.spool("a").keep(20).unwrap();
    let mut spool = log.spool("a");
    assert!(read(&mut spool, 9).is_empty());
    log.current(10..=11);
    assert_eq!(read(&mut spool, 11), all(10..=11));
    std::fs::write(log.paths.cursor("t"), "damaged").unwrap();
    assert_eq!(read(&mut log.spool("a"), 9), all(1..=9), "no position");
}

#[test]
fn deleted_records_are_reported_where_they_are_missing() {
    let log = Log::new("lost");
    log.closed(1..=3);
    log.closed(4..=6);
    log.current(7..=8);
    let mut spool = log.spool("a");
    assert_eq!(read(&mut spool, 2), all(1..=2));
    // An open file is read to its end, even if it is deleted.
    std::fs::remove_file(log.paths.closed(1)).unwrap();
    std::fs::remove_file(log.paths.closed(4)).unwrap();
    let expected = [(3, 0), (6, 3), (7, 0), (8, 0)];
    assert_eq!(read(&mut spool, 8), expected);
    log.spool("a").keep(1).unwrap();
    let records = log.spool("a").read(8).unwrap();
    assert_eq!((records[0].seq, records[0].lost), (6, 5));
    let report: serde_json::Value = serde_json::from_str(&records[0].text).unwrap();
    let found = ["type", "log", "first", "count"].map(|name| report[name].to_string());
    assert_eq!(found, ["\"export-lost\"", "\"a\"", "2", "5"]);
    // All files are gone.
    std::fs::remove_file(log.paths.log()).unwrap();
    assert_eq!(read(&mut spool, 9), [(9, 1)]);
    assert!(read(&mut spool, 9).is_empty());
}

#[test]
fn lines_that_are_no_records_are_skipped() {
    let log = Log::new("damaged");
    log.current(1..=1);
    append(log.paths.log(), b"not a record\n\n\xff\xff\n");
    log.current(2..=2);
    let long = "x".repeat(3 * 64 * 1024);
    append(log.paths.log(), format!("{long}\n").as_bytes());
    log.current(3..=3);
    log.current(6..=6);
    let expected = [(1, 0), (2, 0), (3, 0), (5, 2), (6, 0)];
    assert_eq!(read(&mut log.spool("a"), 6), expected);
}
